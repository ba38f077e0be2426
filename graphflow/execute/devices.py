"""The devices of this process: NumPy on CPUs, CuPy on GPUs.  Nothing else imports cupy."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import numpy as np

from graphflow.base.devices import parse
from graphflow.base.errors import InvalidArgumentError
from graphflow.execute.nccl import Nccl

# Held while a GPU sums with others: one for all sessions of this process.
_turns: defaultdict[int, threading.Lock] = defaultdict(threading.Lock)


class Device:
    """Where kernels run.

    Attributes:
      name: full device name.
      xp: the array module that kernels get.
      is_host: its memory is the host's.
    """

    is_host = True

    def __init__(self, name: str, xp: Any):
        self.name = name
        self.xp = xp

    def put(self, array: Any) -> Any:
        """Bring an array of the host here; what is here, or is no array, stays what it is."""
        return array

    def get(self, array: Any) -> Any:
        """Bring an array to the host."""
        return array

    def all_reduce(self, meeting: Any, group: Any, buckets: Any, cancelled: Any) -> Any:
        """Sums over replicas that devices like this one have, see `nccl.Nccl.all_reduce`; None:
        they have no way of their own."""
        return None

    def __enter__(self) -> Device:
        return self

    def __exit__(self, *_: object) -> None:
        pass


class CpuDevice(Device):
    """A CPU, or one of several virtual ones that share it."""

    def __init__(self, name: str):
        super().__init__(name, np)


class GpuDevice(Device):
    """A GPU, through CuPy.

    Raises:
      InvalidArgumentError: CuPy is not installed, or there is no such GPU.
    """

    is_host = False

    def __init__(self, name: str, load: Callable[[], Any] | None = None):
        cupy = (load or _load_cupy)()
        index = parse(name).device_index or 0
        try:
            count = cupy.cuda.runtime.getDeviceCount()
        except cupy.cuda.runtime.CUDARuntimeError as error:
            raise _unavailable(name, f"CUDA answers: {error}") from error
        if index >= count:
            raise _unavailable(name, f"this machine has {count} GPU(s)")
        self._device = cupy.cuda.Device(index)
        self._nccl = Nccl(cupy, _turns[index])
        super().__init__(name, cupy)

    def put(self, array: Any) -> Any:
        if isinstance(array, self.xp.ndarray) or not isinstance(array, (np.ndarray, np.generic)):
            return array  # here already, or no array: handles, lists, the context
        return array if array.dtype == object else self.xp.asarray(array)  # strings stay

    def get(self, array: Any) -> Any:
        return self.xp.asnumpy(array) if isinstance(array, self.xp.ndarray) else array

    def all_reduce(self, meeting: Any, group: Any, buckets: Any, cancelled: Any) -> Any:
        return self._nccl.all_reduce(meeting, group, self.name, buckets, cancelled)

    def __enter__(self) -> Device:
        self._device.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._device.__exit__(*error)


_KINDS: dict[str, Callable[[str], Device]] = {"CPU": CpuDevice, "GPU": GpuDevice}


def open_device(name: str) -> Device:
    """The device of that full name.

    Raises:
      InvalidArgumentError: this process has none like it.
    """
    kind = parse(name).device_type or "CPU"
    if kind not in _KINDS:
        raise _unavailable(name, f"graphflow knows {' and '.join(_KINDS)} devices")
    return _KINDS[kind](name)


def count_gpus() -> int:
    """Number of GPUs that CuPy can use; 0 where CuPy or CUDA is missing."""
    try:
        cupy = _load_cupy()
    except InvalidArgumentError:
        return 0
    try:
        count: int = cupy.cuda.runtime.getDeviceCount()
    except cupy.cuda.runtime.CUDARuntimeError:
        return 0
    return count


def gpu_memory() -> tuple[int, ...]:
    """Bytes of memory of each GPU that CuPy can use; no CUDA context is made for that."""
    count = count_gpus()
    told = _load_cupy().cuda.runtime.getDeviceProperties if count else None
    return tuple([int(told(i)["totalGlobalMem"]) for i in range(count)]) if told else ()


def available_gpus(asked: int | None, soft: bool) -> int:
    """How many GPUs a session gets: as many as it asks for, or all; at most those that are here.

    Raises:
      InvalidArgumentError: there are fewer than asked for, and placement is not soft.
    """
    if not asked:
        return count_gpus() if asked is None else 0
    if soft:
        return min(asked, count_gpus())
    _load_cupy()
    if asked > (count := count_gpus()):
        raise _unavailable("GPU", f"{asked} GPUs are asked for, this machine has {count}")
    return asked


def _load_cupy() -> Any:
    try:
        import cupy
    except ImportError as error:
        raise _unavailable("GPU", "CuPy is not installed (pip install graphflow[gpu12])") from error
    return cupy


def _unavailable(name: str, why: str) -> InvalidArgumentError:
    return InvalidArgumentError(None, None, f"device {name} is not available: {why}")

"""A stand-in for CuPy that sessions can run on, where there is no GPU.

Arrays are NumPy's, of a type that refuses to meet host arrays; functions and arguments are
checked against CuPy's (`tests/ops/recorder.py`); copies to and from the host, and launches of
CUDA C++, which `tests/gpu/shim.py` runs on the CPU, are counted.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import graphflow.execute.devices as devices
from tests.gpu.shim import build, launch
from tests.ops.record_cupy import TABLE
from tests.ops.recorder import DeviceArray, Recorder

CUPY = json.loads(TABLE.read_text())
MEMORY = 16 << 30  # bytes of the first device


class FakeCupy(Recorder):
    """What `import cupy` gives.

    Attributes:
      puts: sizes of what was copied to the device.
      gets: shapes of what was copied to the host.
      launches: names of the kernels that ran.
      depth: how many `with Device` are open.

    Args:
      count: how many GPUs there are.
      folder: for compiled sources.
    """

    def __init__(self, count: int = 1, folder: Path | None = None):
        super().__init__(CUPY)
        self.ndarray = self._kind
        self.puts: list[tuple[int, ...]] = []
        self.gets: list[tuple[int, ...]] = []
        self.launches: list[str] = []
        self.depth = 0
        self._folder = folder
        runtime = SimpleNamespace(
            getDeviceCount=lambda: count,
            getDeviceProperties=lambda device: {"totalGlobalMem": MEMORY + device},
            CUDARuntimeError=type("CUDARuntimeError", (Exception,), {}),
        )
        self.cuda = SimpleNamespace(runtime=runtime, Device=lambda index: _Current(self, index))

    def asnumpy(self, array: Any) -> Any:
        assert isinstance(array, DeviceArray), "not an array of the device"
        self.gets.append(np.ndarray.view(array, np.ndarray).shape)
        return np.ndarray.view(array, np.ndarray).copy()

    def asarray(self, array: Any, dtype: Any = None) -> Any:
        if isinstance(array, np.ndarray) and not isinstance(array, DeviceArray):
            assert array.dtype != object, "CuPy has no arrays of objects"
            self.puts.append(array.shape)
        return self.device(np.array(_bare(array), dtype))

    def RawModule(self, *, code: str, options: tuple[str, ...] = ()) -> _Module:
        assert self._folder is not None, "sources need a folder"
        return _Module(self, build(code, self._folder))

    def forget(self) -> None:
        """Count copies and launches from here."""
        for counted in (self.puts, self.gets, self.launches):
            counted.clear()


def _bare(x: Any) -> Any:
    return np.ndarray.view(x, np.ndarray) if isinstance(x, DeviceArray) else x


class _Module:
    """A `cupy.RawModule`."""

    def __init__(self, cupy: FakeCupy, library: Any):
        self.cupy = cupy
        self.library = library

    def get_function(self, name: str) -> Any:
        def kernel(grid: Any, block: Any, arguments: Any, *, shared_mem: int = 0) -> None:
            assert len(grid) == len(block) == 1, "the shim launches along one axis"
            for x in arguments:
                if isinstance(x, np.generic):
                    continue
                assert isinstance(x, DeviceArray), f"{type(x)} is no array of the device"
                assert _bare(x).flags.c_contiguous, "a kernel gets an address, and no strides"
            self.cupy.launches.append(name)
            bare = [_bare(x) for x in arguments]
            launch(self.library, name, grid[0], block[0], bare, shared_mem)

        return kernel


class _Current:
    """A `cupy.cuda.Device`."""

    def __init__(self, cupy: FakeCupy, index: int):
        self.cupy = cupy
        self.id = index

    def __enter__(self) -> _Current:
        self.cupy.depth += 1
        return self

    def __exit__(self, *_: object) -> None:
        self.cupy.depth -= 1


def install(monkeypatch: pytest.MonkeyPatch, count: int = 1) -> FakeCupy:
    """Let sessions find so many GPUs."""
    cupy = FakeCupy(count)
    monkeypatch.setattr(devices, "_load_cupy", lambda: cupy)
    monkeypatch.setitem(sys.modules, "cupyx.scipy.special", cupy.special())
    return cupy

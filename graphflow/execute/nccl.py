"""Sums over replicas between GPUs, by NCCL through CuPy's binding of it.

NCCL chooses its own order of summation: the same for the same devices each time, but not that of
the op `AllReduce`.  All devices of a group take part or none does: they agree on that before the
first sum, and wait for each other before each, so that a device that fails leaves nobody behind in
a kernel that never ends.

NCCL takes the n-th call of one device for the n-th of the others.  Where several runs sum over the
same devices at once, the first of these lets one after the other begin: it tells that it is ready
for the next sum when the last one is over there, and so was called by all.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, wait
from contextlib import contextmanager
from functools import partial
from typing import Any

from graphflow.base.devices import parse
from graphflow.base.errors import CancelledError
from graphflow.execute.collective import Group, Layout, Meeting
from graphflow.execute.store import Conflict

_POLL = 20e-6  # seconds between looks at whether a sum is done
_LOOK = 0.05  # seconds between looks at whether a communicator, or a turn, is still wanted
_HOST = "host"  # what is told in place of a communicator's name where there will be none

# Element types that NCCL sums, by the names of its constants in CuPy.
_TYPES = {
    "float16": "NCCL_FLOAT16",
    "float32": "NCCL_FLOAT32",
    "float64": "NCCL_FLOAT64",
    "int8": "NCCL_INT8",
    "int32": "NCCL_INT32",
    "int64": "NCCL_INT64",
    "uint8": "NCCL_UINT8",
    "uint32": "NCCL_UINT32",
    "uint64": "NCCL_UINT64",
}


class _Joined:
    """A communicator, and what all who have made it call it."""

    def __init__(self, communicator: Any, name: str):
        self.communicator = communicator
        self.name = name
        self.aborted = False

    def abort(self) -> None:
        """Free the kernels that wait for a device that is gone.  Those of other runs end, too, as
        if they were done."""
        self.aborted = True
        self.communicator.abort()


class Nccl:
    """One GPU's part in sums."""

    def __init__(self, cupy: Any):
        """Args:
        cupy: the module.
        """
        self._cupy = cupy
        self._library = getattr(cupy.cuda, "nccl", None)
        # Devices and generation -> their communicator; None: they sum on the host.
        self._communicators: dict[tuple[tuple[str, ...], int], _Joined | None] = {}
        self._turns: defaultdict[tuple[str, ...], threading.Lock] = defaultdict(threading.Lock)

    def all_reduce(
        self,
        meeting: Meeting,
        group: Group,
        device: str,
        buckets: Mapping[int, Sequence[Any]],
        cancelled: Any,
    ) -> list[Any] | None:
        """As `collective.all_reduce`, on arrays of the device; None: the sum is the host's.

        Args:
          meeting, group, device, buckets: see there.
          cancelled: an event; once it is set nobody waits for the others any more.

        Raises:
          CancelledError: the run was cancelled.
          Conflict: another one was, which has taken the communicator with it.
        """
        first = next(iter(buckets.values()))
        code = _TYPES.get(str(first[0].dtype))
        if code is None or any(parse(d).device_type != "GPU" for d in group.devices):
            return None
        if self._is_hosts(group, meeting):
            _tell(meeting, group, device, f"{group.key}/ready", _HOST)
            return None
        xp = self._cupy
        terms = [_flat(xp, bucket) for _, bucket in sorted(buckets.items())]
        own = terms[0]
        for term in terms[1:]:
            own = own + term
        with self._turn(group, device, cancelled):
            result = self._sum(meeting, group, device, own, cancelled)
        return None if result is None else Layout(group.shapes, group.world).tensors(result)

    @contextmanager
    def _turn(self, group: Group, device: str, cancelled: Any) -> Iterator[None]:
        """On the first device, one sum after the other; the rest wait for that one."""
        if device != group.devices[0]:
            yield
            return
        turn = self._turns[group.devices]
        while not turn.acquire(timeout=_LOOK):
            if cancelled.is_set():
                raise CancelledError(None, None, "the run was cancelled before its sum over GPUs")
        try:
            yield
        finally:
            turn.release()

    def _sum(
        self, meeting: Meeting, group: Group, device: str, own: Any, cancelled: Any
    ) -> Any | None:
        """The sum of a flat array with those of the others."""
        xp, code = self._cupy, _TYPES[str(own.dtype)]
        joined = self._communicators.get((group.devices, meeting.generation))
        result = xp.empty_like(own)
        # A cancelled run may have taken the communicator from some and not from others.
        name = joined.name if joined is not None else None
        if self._is_hosts(group, meeting):
            name = _HOST  # another run has found that out meanwhile
        others = _meet(meeting, group, device, f"{group.key}/ready", name)
        if _HOST in (name, *others):
            return None
        if joined is None or any(other != name for other in others):
            joined = self._join(meeting, group, device, cancelled)
            if joined is None:
                return None
            _meet(meeting, group, device, f"{group.key}/joined", None)
        stream = xp.cuda.get_current_stream()
        joined.communicator.allReduce(
            own.data.ptr,
            result.data.ptr,
            own.size,
            getattr(self._library, code),
            self._library.NCCL_SUM,  # type: ignore[union-attr]
            stream.ptr,
        )
        self._wait(joined, stream, cancelled)
        return result

    def _is_hosts(self, group: Group, meeting: Meeting) -> bool:
        """Is it known that the devices do not sum by themselves?"""
        key = group.devices, meeting.generation
        return key in self._communicators and self._communicators[key] is None

    def _wait(self, joined: _Joined, stream: Any, cancelled: Any) -> None:
        event = self._cupy.cuda.Event(disable_timing=True)
        event.record(stream)
        while not event.done:
            if cancelled.is_set():
                joined.abort()
                known = self._communicators.items()
                self._communicators = {k: c for k, c in known if c is not joined}
                raise CancelledError(None, None, "the run was cancelled in a sum over GPUs")
            time.sleep(_POLL)
        if joined.aborted:
            raise Conflict

    def _join(self, meeting: Meeting, group: Group, device: str, cancelled: Any) -> _Joined | None:
        """A new communicator of the devices, which make it together.

        A worker that has taken the place of a lost one has none, and the others' are of no use: a
        loss begins a generation, for which all make new ones.
        """
        key = group.devices, meeting.generation
        for old in [k for k in self._communicators if k[0] == key[0]]:
            dropped = self._communicators.pop(old)
            if dropped is not None:
                dropped.abort()
        joined = self._communicators[key] = self._make(meeting, group, device, cancelled)
        return joined

    def _make(self, meeting: Meeting, group: Group, device: str, cancelled: Any) -> _Joined | None:
        library, devices = self._library, group.devices
        have = bool(getattr(library, "available", False))
        if not all([have, *_meet(meeting, group, device, f"{group.key}/nccl", have)]):
            return None
        assert library is not None
        rank = devices.index(device)
        if rank == 0:
            name = library.get_unique_id()
            for other in devices[1:]:
                meeting.send_to(other, f"{group.key}/id", name.hex())
        else:
            name = bytes.fromhex(meeting.receive(f"{group.key}/id"))
        communicator = self._construct(
            partial(library.NcclCommunicator, len(devices), name, rank), cancelled
        )
        return _Joined(communicator, hashlib.sha256(name).hexdigest())

    def _construct(self, make: Callable[[], Any], cancelled: Any) -> Any:
        """What all devices make together.  NCCL waits for one that is gone without an end, and
        nothing ends that wait: it is left to a thread of its own."""
        made: Future[Any] = Future()
        device = self._cupy.cuda.Device()  # the current one, which is a thread's own

        def construct() -> None:
            try:
                with device:
                    made.set_result(make())
            except BaseException as error:
                made.set_exception(error)

        threading.Thread(target=construct, name="graphflow-nccl", daemon=True).start()
        while not wait([made], _LOOK).done:
            if cancelled.is_set():
                # no deadline: it is called when that is done
                made.add_done_callback(lambda late: late.exception() or late.result().abort())
                raise CancelledError(None, None, "the run was cancelled before GPUs had met")
        return made.result()  # no deadline: it is done


def _flat(xp: Any, bucket: Sequence[Any]) -> Any:
    """Tensors one behind the other."""
    parts = [xp.ascontiguousarray(x).reshape(-1) for x in bucket]
    return parts[0] if len(parts) == 1 else xp.concatenate(parts)


def _tell(meeting: Meeting, group: Group, device: str, key: str, value: Any) -> None:
    """Tell all others."""
    for other in group.devices:
        if other != device:
            meeting.send_to(other, f"{key}/{group.devices.index(device)}", value)


def _meet(meeting: Meeting, group: Group, device: str, key: str, value: Any) -> list[Any]:
    """Tell all others, and hear from all."""
    _tell(meeting, group, device, key, value)
    return [meeting.receive(f"{key}/{i}") for i, d in enumerate(group.devices) if d != device]

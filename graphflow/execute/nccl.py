"""Sums over replicas between GPUs, by NCCL through CuPy's binding of it.

NCCL chooses its own order of summation: the same for the same devices each time, but not that of
the op `AllReduce`.  All devices of a group take part or none does: they agree on that before the
first sum, and wait for each other before each, so that a device that fails leaves nobody behind in
a kernel that never ends.

A device sums once at a time, also for groups that share only some of their devices: NCCL takes the
n-th call of one device for the n-th of the others, and a sum that waits on one device for another
sum would wait forever where that waits for the first on a second device, or for a third sum.  So
the devices meet, and then a sum takes all of them.  As a rule they are free.  Where some are not,
all let go, and it takes one after the other, in the order of their names: whoever has a device
waits only for later ones, and so nobody in a circle.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, wait
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

from graphflow.base.devices import parse
from graphflow.base.errors import CancelledError
from graphflow.execute.collective import Group, Layout, Meeting

_POLL = 20e-6  # seconds between looks at whether a sum is done
_LOOK = 0.05  # seconds between looks at whether a communicator, or a turn, is still wanted
# What is told in place of a communicator's name:
_HOST = "host"  # there will be none
_BUSY = "busy"  # another sum has the device

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


class _Joined(NamedTuple):
    """A communicator, and what all who have made it call it."""

    communicator: Any
    name: str


class Nccl:
    """One GPU's part in sums."""

    def __init__(self, cupy: Any, turn: threading.Lock):
        """Args:
        cupy: the module.
        turn: of the GPU, whoever uses it: held while it sums.
        """
        self._cupy = cupy
        self._turn = turn
        self._library = getattr(cupy.cuda, "nccl", None)
        # Devices and generation -> their communicator; None: they sum on the host.
        self._communicators: dict[tuple[tuple[str, ...], int], _Joined | None] = {}

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
        """
        first = next(iter(buckets.values()))
        code = _TYPES.get(str(first[0].dtype))
        if code is None or any(parse(d).device_type != "GPU" for d in group.devices):
            return None
        if self._is_hosts(group, meeting):
            _tell(meeting, group, device, f"{group.key}/here", _HOST)
            return None
        xp = self._cupy
        terms = [_flat(xp, bucket) for _, bucket in sorted(buckets.items())]
        own = terms[0]
        for term in terms[1:]:
            own = own + term
        with self._together(meeting, group, device, cancelled) as names:
            result = self._sum(meeting, group, device, own, names, cancelled)
        return None if result is None else Layout(group.shapes, group.world).tensors(result)

    @contextmanager
    def _together(
        self, meeting: Meeting, group: Group, device: str, cancelled: Any
    ) -> Iterator[list[str | None]]:
        """All devices, for this sum alone; what each calls its communicator."""

        def meet(key: str, own: str | None) -> list[str | None]:
            return _meet(meeting, group, device, f"{group.key}/{key}", own)

        if _HOST in (names := meet("here", None)):  # without a turn: some come late
            yield names
            return
        held = self._turn.acquire(blocking=False)
        try:
            names = meet("free", self._name(group, meeting) if held else _BUSY)
            if _BUSY in names and _HOST not in names:
                if held:
                    self._turn.release()
                    held = False
                order = sorted(group.devices)
                at = order.index(device)
                if at:
                    meeting.receive(f"{group.key}/turn")
                held = self._take_turn(cancelled)
                for following in order[at + 1 : at + 2]:
                    meeting.send_to(following, f"{group.key}/turn", None)
                names = meet("taken", self._name(group, meeting))
            yield names
        finally:
            if held:
                self._turn.release()

    def _take_turn(self, cancelled: Any) -> bool:
        while not self._turn.acquire(timeout=_LOOK):
            if cancelled.is_set():
                raise CancelledError(None, None, "the run was cancelled before its sum over GPUs")
        return True

    def _name(self, group: Group, meeting: Meeting) -> str | None:
        """Of the communicator: all that have made it call it the same; None: there is none yet."""
        joined = self._communicators.get((group.devices, meeting.generation))
        if joined is not None:
            return joined.name
        return _HOST if self._is_hosts(group, meeting) else None

    def _sum(
        self,
        meeting: Meeting,
        group: Group,
        device: str,
        own: Any,
        names: Sequence[str | None],
        cancelled: Any,
    ) -> Any | None:
        """The sum of a flat array with those of the others."""
        if _HOST in names:
            return None
        xp, code = self._cupy, _TYPES[str(own.dtype)]
        joined = self._communicators.get((group.devices, meeting.generation))
        result = xp.empty_like(own)
        # A cancelled run may have taken the communicator from some and not from others.
        if joined is None or len(set(names)) > 1:
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
                joined.communicator.abort()  # frees the kernel that waits for a device that is gone
                known = self._communicators.items()
                self._communicators = {k: c for k, c in known if c is not joined}
                raise CancelledError(None, None, "the run was cancelled in a sum over GPUs")
            time.sleep(_POLL)

    def _join(self, meeting: Meeting, group: Group, device: str, cancelled: Any) -> _Joined | None:
        """A new communicator of the devices, which make it together.

        A worker that has taken the place of a lost one has none, and the others' are of no use: a
        loss begins a generation, for which all make new ones.
        """
        key = group.devices, meeting.generation
        for old in [k for k in self._communicators if k[0] == key[0]]:
            dropped = self._communicators.pop(old)
            if dropped is not None:
                dropped.communicator.abort()
        joined = self._communicators[key] = self._make(meeting, group, device, cancelled)
        return joined

    def _make(self, meeting: Meeting, group: Group, device: str, cancelled: Any) -> _Joined | None:
        library, devices = self._library, group.devices
        have = bool(getattr(library, "available", False))
        if not all(_meet(meeting, group, device, f"{group.key}/nccl", have)):
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
    """Tell all others, and hear from all; what all tell, this one too."""
    _tell(meeting, group, device, key, value)
    return [
        value if d == device else meeting.receive(f"{key}/{i}") for i, d in enumerate(group.devices)
    ]

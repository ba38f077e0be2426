"""All-reduce between the devices of a run, over whatever carries values between them.

The sums are those of the op `AllReduce`, bit for bit: chunk c of a tensor is x[c] + x[c + 1] + ...
over the replicas (`ops/collectives.py`).  There are two ways to them:

`direct`, where devices reach each other's memory: each sums some chunks, reading what the others
have where it lies, into one result that all of them use.

`ring`, where they do not: chunks go round, first gathering what each replica adds, then spreading
the sums, so that a device sends and receives 2 (n - 1) / n of the data, however many there are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property, lru_cache
from itertools import accumulate, pairwise
from typing import Any, NamedTuple, Protocol

import numpy as np

from graphflow.ops.collectives import chunk

Array = np.ndarray[Any, Any]

_BLOCK = 1 << 18  # bytes


class Meeting(Protocol):
    """How one device of a run reaches the others.

    Attributes:
      generation: number of workers lost so far.
      piece: bytes of a message that is large enough.
    """

    generation: int
    piece: int

    def send_to(self, device: str, key: str, value: Any) -> None:
        """Hand a value to a device.  It must not change before that one has used it."""
        ...

    def receive(self, key: str) -> Any:
        """Wait for a value that was handed to this device."""
        ...

    def expect(self, key: str, memory: Array) -> None:
        """A value of that many bytes will come by that key; it may be put there, and then what is
        received is that memory."""
        ...

    def memory(self, size: int) -> Array:
        """So many bytes, which have been used before, if that can be had: fresh ones cost as much
        time again as to fill them."""
        ...

    def lend(self, devices: Sequence[str], key: str, arrays: Sequence[Array]) -> bool:
        """Let devices read flat arrays of one dtype, one behind the other, where they lie; False:
        they do not share memory."""
        ...

    def space(self, devices: Sequence[str], key: str, size: int) -> Array | None:
        """So many bytes that this device and the others may write to: they receive them by that
        key.  None: they do not share memory."""
        ...


class Group(NamedTuple):
    """Who sums.

    Attributes:
      key: unique in a step.
      members: the device of each replica.
      shapes: of the tensors of a bucket.
    """

    key: str
    members: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]

    @property
    def world(self) -> int:
        return len(self.members)

    @property
    def devices(self) -> tuple[str, ...]:
        """Each once, in the order of their first replicas."""
        return tuple(dict.fromkeys(self.members))

    def ranks(self, device: str) -> list[int]:
        """The replicas of a device."""
        return [rank for rank, member in enumerate(self.members) if member == device]


class Piece(NamedTuple):
    """Part of a chunk of a tensor.

    Attributes:
      tensor: which of the bucket.
      within: where, in that.
      flat: where, in the whole bucket.
      size: elements.
    """

    tensor: int
    within: slice
    flat: slice
    size: int


class Layout:
    """Where the chunks of a bucket are, in its tensors one behind the other."""

    def __init__(self, shapes: Sequence[tuple[int, ...]], world: int):
        sizes = [int(np.prod(shape, dtype=np.int64)) for shape in shapes]
        self.bounds = [0, *accumulate(sizes)]
        self._shapes = shapes
        self._chunks = [[chunk(size, world, i) for size in sizes] for i in range(world)]

    @property
    def size(self) -> int:
        return self.bounds[-1]

    def within(self, index: int) -> list[slice]:
        """The slices that a chunk has of the tensors."""
        return self._chunks[index]

    def pieces(self, index: int, most: int) -> list[list[Piece]]:
        """A chunk in messages of about so many elements."""
        found: list[list[Piece]] = []
        room = 0
        pairs = zip(self.within(index), self.flat[index], strict=True)
        for t, (within, flat) in enumerate(pairs):
            at, left = 0, within.stop - within.start
            while left:
                if not room:
                    found.append([])
                    room = most
                size = min(left, room)
                starts = within.start + at, flat.start + at
                within_piece, flat_piece = [slice(s, s + size) for s in starts]
                found[-1].append(Piece(t, within_piece, flat_piece, size))
                at, left, room = at + size, left - size, room - size
        return found

    @cached_property
    def flat(self) -> list[list[slice]]:
        """For each chunk, its slices of the whole."""
        starts = self.bounds[:-1]
        return [
            [slice(low + s.start, low + s.stop) for low, s in zip(starts, slices, strict=True)]
            for slices in self._chunks
        ]

    def tensors(self, flat: Array) -> list[Array]:
        """The whole as tensors, without a copy."""
        pairs = zip(pairwise(self.bounds), self._shapes, strict=True)
        return [flat[low:high].reshape(shape) for (low, high), shape in pairs]


def all_reduce(
    meeting: Meeting, group: Group, device: str, buckets: Mapping[int, Sequence[Array]]
) -> list[Array]:
    """The sums over all replicas.  All devices of a group call it in the same step.

    Args:
      meeting: the way to the other devices.
      group: who sums.
      device: this one.
      buckets: replica -> its tensors, for each replica of this device.

    Returns:
      A sum per tensor of a bucket, which nobody may write to.
    """
    flats = {
        rank: [np.ascontiguousarray(x).reshape(-1) for x in bucket]
        for rank, bucket in buckets.items()
    }
    layout = _layout(group.shapes, group.world)
    total = direct(meeting, group, device, flats, layout)
    if total is None:
        total = ring(meeting, group, device, flats, layout)
    return layout.tensors(total)


def direct(
    meeting: Meeting,
    group: Group,
    device: str,
    flats: Mapping[int, Sequence[Array]],
    layout: Layout,
) -> Array | None:
    """By memory that all can reach; None: there is none, and nothing was sent."""
    key, devices = group.key, group.devices
    others = [d for d in devices if d != device]
    dtype = next(iter(flats.values()))[0].dtype
    wanted = _Wanted(group, layout, device)
    mine = [flats[rank][t][at] for rank in sorted(flats) for t, at in wanted.pieces]
    if not meeting.lend(others, f"{key}/of/{devices.index(device)}", mine):
        return None
    if device == devices[0]:
        space = meeting.space(others, f"{key}/sum", layout.size * dtype.itemsize)
        assert space is not None
    else:
        space = meeting.receive(f"{key}/sum")
    total = space.view(dtype)
    lent = {
        other: meeting.receive(f"{key}/of/{devices.index(other)}").view(dtype) for other in others
    }
    theirs = {other: _Wanted(group, layout, other) for other in others}
    for index in flats:  # as many chunks as it has replicas
        for t, into in enumerate(layout.flat[index]):
            terms = []
            for rank in [(index + i) % group.world for i in range(group.world)]:
                member = group.members[rank]
                if member == device:
                    terms.append(flats[rank][t][layout.within(index)[t]])
                else:
                    terms.append(lent[member][theirs[member].where(rank, index, t)])
            _sum(terms, total[into])
    _agree(meeting, group, device)
    total.flags.writeable = False
    return total


def _agree(meeting: Meeting, group: Group, device: str) -> None:
    """Go on when all have summed.  Each tells the first one, which tells all: 2 (n - 1) messages
    where n (n - 1) would be one wait shorter, and the processor's time decides."""
    first, *others = group.devices
    if device != first:
        meeting.send_to(first, f"{group.key}/done/{device}", None)
        meeting.receive(f"{group.key}/go")
        return
    for other in others:
        meeting.receive(f"{group.key}/done/{other}")
    for other in others:
        meeting.send_to(other, f"{group.key}/go", None)


@lru_cache(maxsize=1 << 10)
def _layout(shapes: Sequence[tuple[int, ...]], world: int) -> Layout:
    return Layout(shapes, world)


class _Wanted:
    """What a device lends: of each of its replicas, the chunks that others sum."""

    def __init__(self, group: Group, layout: Layout, device: str):
        self._ranks = group.ranks(device)
        self._starts: dict[tuple[int, int], tuple[int, int]] = {}
        self.pieces: list[tuple[int, slice]] = []  # tensor and where in it, for each replica
        self._size = 0
        for index in range(group.world):
            if index not in self._ranks:
                for t, at in enumerate(layout.within(index)):
                    size = at.stop - at.start
                    self.pieces.append((t, at))
                    self._starts[index, t] = self._size, self._size + size
                    self._size += size

    def where(self, rank: int, index: int, tensor: int) -> slice:
        """Where a replica's chunk of a tensor lies in what is lent."""
        start, stop = self._starts[index, tensor]
        before = self._ranks.index(rank) * self._size
        return slice(before + start, before + stop)


def _sum(terms: Sequence[Array], into: Array) -> None:
    """Block by block, each of which stays in the core's own cache while all terms are added: whole
    chunks would go through memory once for each term."""
    step = max(1, _BLOCK // into.itemsize)
    for start in range(0, len(into), step):
        here = slice(start, start + step)
        block = into[here]
        np.add(terms[0][here], terms[1][here], out=block)
        for term in terms[2:]:
            np.add(block, term[here], out=block)


def ring(
    meeting: Meeting,
    group: Group,
    device: str,
    flats: Mapping[int, Sequence[Array]],
    layout: Layout,
) -> Array:
    """By messages from each replica to the next one, in pieces, each of which goes on as soon as it
    is summed."""
    world, ranks = group.world, list(flats)
    dtype = next(iter(flats.values()))[0].dtype
    most = max(1, meeting.piece // dtype.itemsize)
    totals = {rank: meeting.memory(layout.size * dtype.itemsize).view(dtype) for rank in ranks}
    round_ = _Round(meeting, group, device)
    pieces = [layout.pieces(index, most) for index in range(world)]
    for rank in ranks:  # a sum comes where it belongs
        for step in range(world, 2 * world - 1):
            for i, piece in enumerate(pieces[(rank - step) % world]):
                if len(piece) == 1:
                    round_.expect(rank, step - 1, i, totals[rank][piece[0].flat])
    for rank in ranks:
        for i, piece in enumerate(pieces[rank]):
            own = [flats[rank][p.tensor][p.within] for p in piece]
            round_.send(rank, 0, i, _joined(own))
    for step in range(1, 2 * world - 1):
        for rank in ranks:
            total, terms = totals[rank], flats[rank]
            for i, piece in enumerate(pieces[(rank - step) % world]):
                got, at = round_.receive(rank, step - 1, i), 0
                for p in piece:
                    into, part = total[p.flat], got[at : at + p.size]
                    if step < world:  # gather what each adds
                        np.add(part, terms[p.tensor][p.within], out=into)
                    elif part.ctypes.data != into.ctypes.data:  # spread the sums
                        into[...] = part
                    at += p.size
                if step < 2 * world - 2:
                    round_.send(rank, step, i, _joined([total[p.flat] for p in piece]))
    return totals[ranks[0]]


def _joined(pieces: Sequence[Array]) -> Array:
    return pieces[0] if len(pieces) == 1 else np.concatenate(pieces)


class _Round:
    """The messages of one ring."""

    def __init__(self, meeting: Meeting, group: Group, device: str):
        self._meeting = meeting
        self._group = group
        self._device = device
        self._here: dict[str, Any] = {}  # to replicas of this device

    def send(self, rank: int, step: int, piece: int, value: Array) -> None:
        """To the next replica."""
        following = (rank + 1) % self._group.world
        key = self._key(following, step, piece)
        if self._group.members[following] == self._device:
            self._here[key] = value
        else:
            self._meeting.send_to(self._group.members[following], key, value)

    def expect(self, rank: int, step: int, piece: int, memory: Array) -> None:
        """Where to put what the replica before will send in that step, if that can be had."""
        if self._group.members[rank - 1] != self._device:
            self._meeting.expect(self._key(rank, step, piece), memory)

    def receive(self, rank: int, step: int, piece: int) -> Array:
        """What the replica before has sent in that step."""
        key = self._key(rank, step, piece)
        if key in self._here:
            return self._here.pop(key)
        got: Array = self._meeting.receive(key)
        return got

    def _key(self, rank: int, step: int, piece: int) -> str:
        return f"{self._group.key}/{rank}/{step}/{piece}"

"""Frames on a stream, however it is cut."""

from __future__ import annotations

import resource
import struct
import threading
from collections import deque
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphflow.distribute.fast import stream
from graphflow.distribute.fast.sender import Sender
from graphflow.distribute.fast.stream import Stream, pack
from graphflow.distribute.fast.values import Malformed


class Pieces:
    """A connection that gives what it has in pieces of the given sizes."""

    def __init__(self, data, sizes):
        self.data = memoryview(data)
        self.sizes = iter(sizes)

    def recv(self, room):
        size = min(room, next(self.sizes, room))
        piece, self.data = self.data[:size], self.data[size:]
        return bytes(piece)

    def recv_into(self, memory):
        piece = self.recv(len(memory))
        memory[: len(piece)] = piece
        return len(piece)


def frames_of(connection):
    stream, found = Stream(connection), []
    try:
        while True:
            found += [[bytes(part) for part in parts] for parts in stream.read()]
    except EOFError:
        return found


frame = st.lists(st.binary(max_size=40), min_size=1, max_size=4)


@settings(max_examples=200, deadline=None)
@given(st.lists(frame, max_size=5), st.lists(st.integers(1, 50)))
def test_frames_come_whole_and_in_order(frames, sizes):
    data = b"".join(bytes(part) for each in frames for part in pack(each))
    assert frames_of(Pieces(data, sizes)) == frames


def test_large_parts_are_received_in_place_and_lie_at_whole_words():
    parts = [b"head", np.arange(300_000.0).view(np.uint8), b"x", np.ones(100_000).view(np.uint8)]
    packed = pack(parts)
    assert len(packed) == 5  # no copy is made of what is large
    data = b"".join(bytes(part) for part in packed)
    reader = Stream(Pieces(data * 2, [1000, 7, 100_000]))
    found = []
    while len(found) < 2:
        found += list(reader.read())
    for each in found:
        assert [bytes(part) for part in each] == [bytes(part) for part in parts]
        assert all(np.frombuffer(part, np.uint8).ctypes.data % 8 == 0 for part in each)


@settings(max_examples=200, deadline=None)
@given(st.binary())
def test_noise_is_malformed_or_incomplete(noise):
    with suppress(Malformed):
        frames_of(Pieces(noise, []))


def test_a_frame_for_which_there_is_no_room_is_malformed(monkeypatch):
    def full(*_):
        raise MemoryError

    monkeypatch.setattr(stream.np, "empty", full)
    with pytest.raises(Malformed, match="no room"):
        frames_of(Pieces(struct.pack("<IQ4x", 1, 1 << 19), []))


def test_frames_before_a_malformed_one_are_taken():
    good = [b"".join(bytes(part) for part in pack(parts)) for parts in ([b"a"], [b"b", b"c"])]
    found = deque()
    with pytest.raises(Malformed):
        found.extend(Stream(Pieces(b"".join([*good, b"\xff" * 16]), [])).read())
    assert list(found) == [[b"a"], [b"b", b"c"]]


def test_what_a_frame_claims_takes_no_memory_before_it_comes():
    def peak():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # KB

    before = peak()
    assert frames_of(Pieces(struct.pack("<IQ4x", 1, 1 << 30), [])) == []
    assert peak() - before < 1 << 18


def test_bounds():
    for noise in (bytes(4), b"\xff" * 4, b"\1\0\0\0" + b"\xff" * 12):
        with pytest.raises(Malformed):
            frames_of(Pieces(noise, []))


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_sender_that_dies_of_anything_tells_that_it_has_ended():
    """Else its queue would grow, and nobody would learn that nothing is sent."""
    ended = threading.Event()

    def connect() -> None:
        raise MemoryError

    sender = Sender(ended.set, connect=connect)
    assert sender.send([b"x"])
    assert ended.wait(5)
    assert not sender.send([b"x"])

"""Frames of values, whatever the bytes are that come."""

from __future__ import annotations

import os
import socket
import threading
from contextlib import suppress
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphflow.distribute.fast import codec, greeting
from graphflow.distribute.fast.channel import opened, place_of
from graphflow.distribute.fast.codec import Parcel
from graphflow.distribute.fast.greeting import Refused, greet, welcome
from graphflow.distribute.fast.parcels import Kind, Lent, Reader, pack
from graphflow.distribute.fast.peers import Peers
from graphflow.distribute.fast.slots import Buffers, Pool
from graphflow.distribute.fast.values import Malformed

KEY = b"k" * 32
SMALL = np.arange(3.0)
EMPTY, _ = codec.encode(Parcel("s", "k", [np.empty((0, 5, 5))]))


@pytest.fixture(scope="module")
def frames():
    """Bytes of a frame of each kind, and the descriptors that go with them."""
    pool = Pool("graphflow-test")
    head, arrays = codec.encode(Parcel("s", "k", [(SMALL, np.arange(1000), None)]))
    slot = pool.take(100, [0])
    assert slot is not None
    lent, _ = codec.encode(Parcel("s", "k", [np.zeros(100, np.uint8)]))
    space, _ = codec.encode(Parcel("s", "k", []))
    gone = np.array([slot.number, 77], np.uint32)
    made = [
        (pack(Kind.VALUE, head, arrays), []),
        (pack(Kind.VALUE, lent, [Lent(slot, 100)]), [slot.descriptor]),
        (pack(Kind.SPACE, space, [Lent(slot, 100, True)]), [slot.descriptor]),
        (pack(Kind.FORGET, b"", [gone]), []),
    ]
    yield [(b"".join(bytes(part) for part in parts), beside) for parts, beside in made]
    pool.close()


def read(data: bytes, descriptors: list[int]) -> tuple[int, Any]:
    """How many values are taken from these bytes, and what ends them."""
    taken: list[Any] = []
    there = SimpleNamespace(_deliver=lambda frame: taken.append(opened(frame)))
    near, far = socket.socketpair()
    with near, far:
        socket.send_fds(near, [data], descriptors)
        near.shutdown(socket.SHUT_WR)
        reader = Reader(far, Buffers(), lambda *what: place_of(*what[:2]) and None)
        try:
            while True:
                Peers._read_some(there, reader)  # type: ignore[arg-type]
        except (Malformed, MemoryError, EOFError, OSError) as error:
            return len(taken), error  # what `Peers` knows how to take
        finally:
            reader.close()


def test_frames_of_each_kind_are_taken(frames):
    for (data, descriptors), values in zip(frames, (1, 1, 1, 0), strict=True):
        count, end = read(data, descriptors)
        assert (count, type(end)) == (values, EOFError)


@pytest.mark.parametrize(
    "parts",
    [
        pack(Kind.FORGET, b"", [np.zeros(3, np.uint8)]),  # no whole number
        pack(Kind.SPACE, codec.encode(Parcel("s", "k", []))[0], []),  # none is there
        pack(Kind.VALUE, codec.encode(Parcel("s", "k", []))[0][:-1], []),
        pack(Kind.VALUE, EMPTY.replace(b"\x05", b"\xcf" + b"\x1f" * 8), [b""]),  # no such shape
    ],
)
def test_what_does_not_fit_is_malformed(parts):
    assert isinstance(read(b"".join(parts), [])[1], Malformed)


def test_descriptors_that_no_frame_names_are_not_kept(frames):
    """They would fill the table of the process."""
    (value, _), (_, descriptors), *_ = frames
    before = len(os.listdir("/proc/self/fd"))
    count, end = read(value, descriptors * 50)
    assert (count, type(end)) == (1, Malformed)
    assert len(os.listdir("/proc/self/fd")) == before


changes = st.lists(
    st.tuples(st.integers(0, 120), st.integers(0, 3), st.binary(max_size=3)), max_size=4
)


def changed(sound: bytes, changes: list[tuple[int, int, bytes]]) -> bytes:
    """The bytes with some of them replaced, removed or put in."""
    for at, cut, put in changes:
        sound = sound[:at] + put + sound[at + cut :]
    return sound


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 3), changes)
def test_no_change_to_a_frame_brings_the_reader_down(frames, which, changes):
    sound, descriptors = frames[which]
    read(changed(sound, changes), descriptors)


HEADS = [b"", *(codec.encode(Parcel("s", "k", v))[0] for v in ([], [1], [SMALL]))]


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(Kind), st.sampled_from(HEADS), st.lists(st.binary(max_size=40), max_size=3))
def test_parts_that_do_not_fit_do_not_either(kind, head, arrays):
    read(b"".join(bytes(part) for part in pack(kind, head, arrays)), [])


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 3), st.sampled_from([0, 3, 12, 36]), st.binary())
def test_nor_does_noise(frames, which, begin, noise):
    sound, descriptors = frames[which]
    read(sound[:begin] + noise, descriptors)


@pytest.fixture(scope="module")
def recorded() -> bytes:
    """What somebody has said who knows the key."""
    near, far = socket.socketpair()
    said: list[bytes] = []
    tap = SimpleNamespace(
        sendall=lambda given: (said.append(bytes(given)), near.sendall(given)),
        recv_into=near.recv_into,
        settimeout=near.settimeout,
    )
    with near, far:
        thread = threading.Thread(target=welcome, args=(far, KEY, "me"))
        thread.start()
        greet(tap, KEY, "you", "me")
        thread.join()
    return b"".join(said)


@settings(max_examples=100, deadline=None)
@given(changes, st.none() | st.binary(), st.sampled_from([b"", greeting.MAGIC]))
def test_no_greeting_but_a_fresh_one_is_believed(recorded, changes, noise, begin):
    """One that was recorded, as it was and with a few bytes changed; and noise."""
    near, far = socket.socketpair()
    with near, far:
        near.sendall(changed(recorded, changes) if noise is None else begin + noise)
        near.shutdown(socket.SHUT_WR)
        with pytest.raises((Refused, EOFError, OSError)):
            welcome(far, KEY, "me")
        far.close()
        with suppress(OSError):
            assert len(near.recv(200)) <= 32  # a nonce, and never a proof

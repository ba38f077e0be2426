"""Values between the workers of a job, over every kind of connection, within one process."""

from __future__ import annotations

import os
import threading
import time

import numpy as np
import pytest

from graphflow.distribute.fast.slots import LEAST
from graphflow.distribute.messages import Ticket
from tests.distribute.fast.linked import (
    PLAIN,
    TICKET,
    WAYS,
    Worker,
    slots_of,
    until,
    workers,
    workers_now,
)
from tests.until import PATIENCE


@pytest.mark.parametrize("way", WAYS)
def test_values_of_all_sizes_come_in_order(way):
    with workers(WAYS[way]) as (a, b):
        sent = [np.arange(n, dtype=np.float32) for n in (0, 1, 5000, 1_000_000, 3)]
        for i, value in enumerate([*sent, (sent[1], sent[3]), None, 2.5]):
            a.channel.send("b", TICKET, f"k{i}", value)
        for i, value in enumerate(sent):
            ticket, key, got = b.parcel()
            assert (ticket, key) == (TICKET, f"k{i}")
            np.testing.assert_array_equal(got, value)
            assert not got.flags.writeable
        first, second = b.value()
        np.testing.assert_array_equal(first, sent[1])
        np.testing.assert_array_equal(second, sent[3])
        assert b.value() is None
        assert b.value() == 2.5
        assert a.channel.counts["sent"] == 8
        del got, first, second


def test_values_are_received_where_they_are_expected():
    with workers(PLAIN) as (a, b):
        memory = np.zeros(LEAST, np.uint8)
        later = Ticket(0, 2, 2)
        for ticket, size in ((TICKET, LEAST), (later, LEAST)):
            b.channel.expect(ticket, "k", memory[:size])
            a.channel.send("b", ticket, "other", np.ones(LEAST, np.uint8))
            assert b.value().any()
            assert not memory.any()
            a.channel.send("b", ticket, "k", np.full(LEAST, 7, np.uint8))
            got = b.value()
            assert np.shares_memory(got, memory)
            assert (memory == 7).all()
            memory[:] = 0
        b.channel.expect(TICKET, "k", memory)
        a.channel.send("b", TICKET, "k", np.full(LEAST + 1, 7, np.uint8))  # of another size
        assert len(b.value()) == LEAST + 1
        assert not memory.any()


def test_a_key_may_name_other_arrays_than_before():
    """What was said of the last one is said again of its like only."""
    with workers(PLAIN) as (a, b):
        x = np.arange(12, dtype=np.int32)
        kinds = [x, x.reshape(3, 4), x.reshape(3, 4).T, x[::2], x[:6], x.astype(">i4"), x[3:4][0],
                 x.view(np.uint32), np.array(["a", "b"], object), x.astype(np.float32), x[:0],
                 np.array(7, np.int32), (x,), [x], None]  # fmt: skip
        for value in kinds * 2:
            a.channel.send("b", TICKET, "k", value)
            got = b.value()
            assert type(got) is type(value)
            if isinstance(value, np.ndarray):
                assert got.dtype == value.dtype.newbyteorder("=")
            np.testing.assert_array_equal(got, value)


def test_without_shared_memory_nothing_is_lent():
    with workers(PLAIN) as (a, b):
        assert a.channel.lend({"in": "b"}, TICKET, [np.ones(2)]) is None
        assert a.channel.space({"in": "b"}, TICKET, 8) is None
        assert not b.peers.shares_memory(["a"])


def test_what_is_no_plain_data_goes_the_other_way():
    with workers(PLAIN) as (a, _):
        odd = object()
        a.channel.send("b", TICKET, "k", odd)
        assert a.odd == [("b", TICKET, "k", odd)]


@pytest.mark.parametrize("way", WAYS)
def test_a_sender_does_not_wait_and_the_end_of_a_peer_is_told(way):
    with workers(WAYS[way]) as (a, b):
        a.channel.send("b", TICKET, "k", 1)
        b.channel.send("a", TICKET, "k", 1)
        assert a.value() == b.value() == 1
        start = time.monotonic()
        b.peers.close()
        assert a.lost() == b.peers.address.local
        for _ in range(3):  # nobody is there to take them
            a.channel.send("b", TICKET, "k", np.zeros(1_000_000))
        a.channel.send("nobody", TICKET, "k", 1)
        assert time.monotonic() - start < PATIENCE
        until(lambda: all(s.free for s in slots_of(a)))


@pytest.mark.parametrize("way", WAYS)
def test_a_peer_who_cannot_be_reached_is_told(way):
    """It lives, and would wait for ever."""
    with workers(WAYS[way]) as (a, b):
        b.peers._doorway.close()
        until(lambda: all(s.fileno() < 0 for s in b.peers._doorway._listeners))
        a.channel.send("b", TICKET, "k", np.zeros(LEAST, np.uint8))
        assert a.lost() == b.peers.address.local
        until(lambda: all(s.free for s in slots_of(a)))


def test_who_takes_the_place_of_a_lost_peer_keeps_what_is_lent_to_it():
    """Though the end of the lost one is noticed later."""
    with workers(WAYS["shared"]) as (a, b):
        b.channel.send("a", TICKET, "k", 1)
        assert a.value() == 1
        fresh = Worker("b", WAYS["shared"])
        try:
            a.peers.meet({"a": a.peers.address, "b": fresh.peers.address})
            a.channel.send("b", TICKET, "k", np.full(LEAST, 7, np.uint8))
            b.peers.close()
            assert a.lost() == b.peers.address.local
            a.channel.send("b", TICKET, "k", np.full(LEAST, 8, np.uint8))
            first, second = fresh.value(), fresh.value()
            assert (first == 7).all()
            assert (second == 8).all()
            del first, second
            workers_now[:] = [fresh]
            until(lambda: all(s.free for s in slots_of(a)))
        finally:
            fresh.peers.close()


def test_a_slow_reader_holds_up_nobody():
    with workers(PLAIN) as (a, b):
        block = threading.Event()
        take, b.peers._deliver = b.peers._deliver, lambda *x: (block.wait(PATIENCE), take(*x))
        start = time.monotonic()
        for i in range(10):
            a.channel.send("b", TICKET, "k", np.full(1_000_000, i, np.float32))
        assert time.monotonic() - start < PATIENCE
        block.set()
        for i in range(10):
            assert (b.value() == i).all()


def test_a_worker_with_a_key_of_its_own_is_reached_with_that_one():
    """Tasks of servers know no common key: whoever is to connect is told that of each."""
    with workers(PLAIN) as (_, b):
        own = os.urandom(32)
        c = Worker("c", PLAIN._replace(key=own))
        workers_now.append(c)
        try:
            there = c.peers.address
            known = {"b": b.peers.address, "c": there}
            b.peers.meet(known)
            b.channel.send("c", TICKET, "x", 1)
            assert b.lost() == there.local
            assert c.peers.dropped["refused"] == 1
            b.peers.meet({**known, "c": there._replace(key=own, born=1.0)})
            b.channel.send("c", TICKET, "x", 2)
            assert c.value() == 2
        finally:
            c.peers.close()

"""Values in shared memory, from when it is lent until its readers have let go, or are gone."""

from __future__ import annotations

import errno
import mmap
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from graphflow.distribute.fast.parcels import Reader
from graphflow.distribute.fast.slots import LEAST, OWN, Buffers, Pool
from tests.distribute.fast.linked import TICKET, WAYS, slots_of, until, workers


def test_memory_is_used_again_when_the_reader_has_let_go():
    with workers(WAYS["shared"]) as (a, b):
        value = np.arange(LEAST, dtype=np.float64)
        for i in range(5):
            a.channel.send("b", TICKET, "k", value + i)
            got = b.value()
            np.testing.assert_array_equal(got, value + i)
            part = got[10:20]
            del got
        assert len(slots_of(a)) == 2  # one that `part` keeps, one for the next value
        for _ in range(3):
            a.channel.send("b", TICKET, "k", value)
            b.value()
        np.testing.assert_array_equal(part, value[10:20] + 4)


def test_steps_that_are_under_way_at_the_end_make_no_more_memory():
    with workers(WAYS["shared"]) as (a, _):
        a.peers.close()
        assert a.channel.place("b", 8 * LEAST) is None
        a.channel.send("b", TICKET, "k", np.arange(LEAST))
        assert slots_of(a) == []  # and no descriptor: see `leaks`


def test_without_room_values_go_through_the_socket():
    with workers(WAYS["shared"]) as (a, b):
        a.peers.pool._limit = 0
        value = np.arange(100_000)
        a.channel.send("b", TICKET, "k", value)
        np.testing.assert_array_equal(b.value(), value)
        assert a.peers.pool.bytes == 0


@pytest.mark.parametrize(("of", "call"), [(os, "memfd_create"), (os, "ftruncate"), (mmap, "mmap")])
def test_a_process_without_descriptors_or_addresses_has_no_room(monkeypatch, of, call):
    def refused(*_):
        raise OSError(errno.EMFILE, "Too many open files")

    pool = Pool("test")
    monkeypatch.setattr(of, call, refused)
    assert pool.take(LEAST, [1]) is None
    assert pool.bytes == 0  # and no descriptor is left: see `leaks`
    monkeypatch.undo()
    assert pool.take(LEAST, [1]) is not None
    pool.close()


def test_what_is_made_where_it_can_be_read_is_not_copied():
    with workers(WAYS["shared"]) as (a, b):
        size = 8 * LEAST
        assert a.channel.place("b", LEAST - 1) is None
        assert a.channel.place("nobody", size) is None
        value = a.channel.place("b", size).view(np.float64)
        assert value.ctypes.data % 64 == 0
        value[:] = np.arange(LEAST)
        a.channel.send("b", TICKET, "k", value.reshape(2, -1))
        got = b.value()
        np.testing.assert_array_equal(got, np.arange(LEAST).reshape(2, -1))
        (slot,) = slots_of(a)
        value[0] = 7  # what nobody may do: it shows that this is the same memory
        assert got[0, 0] == 7
        del value
        assert not slot.unread
        value = a.channel.place("b", size)
        assert len(slots_of(a)) == 2  # the first one is read
        del got
        assert slot.unread
        again = a.channel.place("b", size)
        assert np.shares_memory(again, slot.data)  # nobody has it, and `value` the other one
        part = again[8:16].view(np.float64)
        del again
        assert not np.shares_memory(a.channel.place("b", size), part)  # a view has it
        assert len(slots_of(a)) == 3
        del value, part
        a.channel._kept.clear()
        assert all(s.free for s in slots_of(a))
        assert not a.channel._placed


def test_places_that_are_kept_leave_room():
    with workers(WAYS["shared"]) as (a, b):
        a.peers.pool._limit = 1 << 20
        assert a.channel.place("b", 1 << 19) is not None
        value = np.arange(100_000)
        a.channel.send("b", TICKET, "k", value)
        np.testing.assert_array_equal(b.value(), value)
        assert [s.size >= value.nbytes for s in slots_of(a)] == [True]  # it was no use of a socket
        for size in range(LEAST, LEAST + 40):
            a.channel.place("b", size)
        assert len(a.channel._placed) <= 16


def test_what_was_made_in_a_slot_is_copied_when_it_is_not_the_first_or_not_the_whole():
    """A reader has one flag: it clears it when it lets go of the first of two."""
    with workers(WAYS["shared"]) as (a, b):
        value = a.channel.place("b", 16 * LEAST).view(np.float64)
        value[:] = np.arange(2 * LEAST)
        for part in (value, value, value[LEAST:]):
            a.channel.send("b", TICKET, "k", part)
        first, second, part = b.value(), b.value(), b.value()
        value[-1] = 7
        assert [x[-1] for x in (first, second, part)] == [7, 2 * LEAST - 1, 2 * LEAST - 1]
        assert part[0] == LEAST
        del value, first
        assert [s.unread for s in slots_of(a)] == [True, False, False]
        np.testing.assert_array_equal(second, np.arange(2 * LEAST))


def test_slots_that_are_dropped_are_forgotten_by_readers():
    with workers(WAYS["shared"]) as (a, b):
        a.peers.pool._limit = 1 << 20
        for size in (1 << 19, 700_000, 1 << 19):
            value = np.full(size, 7, np.uint8)
            a.channel.send("b", TICKET, "k", value)
            np.testing.assert_array_equal(b.value(), value)
            until(lambda: all(s.free for s in slots_of(a)))
        assert a.peers.pool.bytes <= 1 << 20
        until(lambda: Path("/proc/self/maps").read_text().count("graphflow-test") == 2)  # both ends


def test_memory_that_all_may_write_to():
    with workers(WAYS["shared"], 3) as (a, b, c):
        flat = a.channel.lend({"in": "b", "in2": "c"}, TICKET, [np.ones(2), np.full(3, 2.0)])
        for worker in (b, c):
            np.testing.assert_array_equal(worker.value(), [1, 1, 2, 2, 2])
        np.testing.assert_array_equal(flat, [1, 1, 2, 2, 2])
        space = a.channel.space({"sum": "b", "sum2": "c"}, TICKET, 24)
        others = [worker.value() for worker in (b, c)]
        for i, memory in enumerate([space, *others]):
            memory.view(np.float64)[i] = i + 1.0
        for memory in (space, *others):
            np.testing.assert_array_equal(memory.view(np.float64), [1, 2, 3])
        del space, others, memory, flat
        until(lambda: all(s.free for s in slots_of(a)))


# ---- readers and lenders that are gone


LENDER = """
import os, socket, sys
from graphflow.distribute.fast.parcels import Kind, Lent, pack
from graphflow.distribute.fast.slots import Pool

slot = Pool("graphflow-killed").take(1 << 20, [3])
slot.data[:] = 7
frame = pack(Kind.VALUE, b"", [Lent(slot, 1 << 20)], 3)
socket.send_fds(socket.socket(fileno=int(sys.argv[1])), frame, [slot.descriptor])
os.kill(os.getpid(), 9)
"""


def test_what_a_killed_worker_has_lent_is_there_until_its_readers_let_go():
    here, there = socket.socketpair()
    with here, there:
        arguments = [sys.executable, "-c", LENDER, str(there.fileno())]
        assert subprocess.run(arguments, pass_fds=[there.fileno()]).returncode == -9
        there.close()
        reader = Reader(here, Buffers(), lambda ticket, head, size: None)
        (frame,) = reader.read()
        with pytest.raises(EOFError):
            list(reader.read())
        reader.close()
        del reader
    (value,) = frame.arrays
    assert (value == 7).all()
    assert "graphflow-killed" in Path("/proc/self/maps").read_text()
    del frame, value
    assert "graphflow-killed" not in Path("/proc/self/maps").read_text()


@pytest.mark.parametrize("give", ["space", "value", "placed"])
def test_who_was_given_up_may_still_use_what_it_has_and_disturbs_nobody(give):
    """It may be frozen in a step, and go on for a moment before it is ended: what it then writes
    must be no value of the steps that the others do again, nor may it see these."""
    with workers(WAYS["shared"], 3) as (a, b, c):
        size = 8 * LEAST

        def lent(key, fill):
            """Memory of a's that has been given to its peers."""
            if give == "space":
                memory = a.channel.space({key: "b", key + "'": "c"}, TICKET, size)
                memory[:] = fill
                return memory
            memory = a.channel.place("b", size) if give == "placed" else np.empty(size, np.uint8)
            memory[:] = fill
            for peer in "bc":
                a.channel.send(peer, TICKET, key, memory)
            return memory

        b.channel.send("a", TICKET, "k", 1)
        assert a.value() == 1
        lent("before", 1)
        frozen = b.value()
        assert (c.value() == 1).all()
        b.peers._outgoing["a"]._hang_up()
        assert a.lost() == b.peers.address.local
        for fill in range(2, 6):
            memory = lent("after", fill)
            if give == "space":
                frozen[:] = 99
            value = c.value()
            assert (value == fill).all()
            assert (memory == fill).all()
            del memory, value
        assert frozen[0] == (99 if give == "space" else 1)


def test_a_pool_lends_to_each_reader_once():
    pool = Pool("graphflow-test")
    slot = pool.take(100, [0, 3, OWN])
    slot.give_back(0)
    assert not slot.free
    slot.give_back(3)
    view = slot.view(100, OWN)
    assert not slot.free
    del view
    assert slot.free
    assert pool.take(90, [1]) is slot
    assert pool.take(90, [1]) is not slot
    pool.close()


def test_what_a_reader_that_was_given_up_has_is_dropped_when_the_others_have_let_go():
    pool = Pool("graphflow-test")
    both, other = pool.take(100, [0, 3]), pool.take(100, [0])
    pool.release(3)
    other.give_back(0)
    assert pool.take(100, [1]) is other
    assert not pool.lend(both, 2)
    assert pool.take(100, [1]) not in (both, other)
    assert not pool.dropped  # the first one is being read
    both.give_back(0)
    pool.take(100, [1])
    assert pool.dropped == [both.number]
    assert pool.bytes == 3 * other.size
    pool.close()

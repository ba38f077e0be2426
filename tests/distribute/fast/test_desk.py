"""Who receives for others waits for nobody in particular, and leaves nothing behind."""

from __future__ import annotations

import errno
import os
import socket
import threading
import time

import pytest

from graphflow.distribute.fast import desk, doorway, parcels
from graphflow.distribute.fast.channel import place_of
from graphflow.distribute.fast.desk import Bell, Desk
from graphflow.distribute.fast.doorway import Doorway
from graphflow.distribute.fast.greeting import greet
from graphflow.distribute.fast.parcels import MAGIC
from graphflow.distribute.fast.peers import Access, Peers
from tests.until import PATIENCE, until

KEY = b"k" * 32


@pytest.fixture
def peers():
    access = Access("test", KEY, "127.0.0.1", shared_memory=True)

    def lost(name):
        with peers.bell:
            peers.told.append(name)
            peers.bell.notify_all()

    peers = Peers("a", access, lambda frame: None, place_of, lost)
    peers.bell, peers.told = Bell(peers.desk), []
    yield peers
    peers.close()


def member(peers):
    """A connection of one who knows the key."""
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(peers.address.local)
    greet(connection, KEY, "b", peers.address.local)
    until(lambda: peers._reading)
    return connection


def test_who_stops_in_the_middle_of_a_frame_is_given_up(peers, monkeypatch):
    monkeypatch.setattr(parcels, "PATIENCE", 0.2)
    with member(peers) as connection:
        connection.sendall(MAGIC + b"\x01")  # and no more
        with peers.bell:
            assert peers.bell.wait_for(lambda: peers.told, PATIENCE) == ["b"]


def test_who_sends_nothing_is_not(peers, monkeypatch):
    monkeypatch.setattr(parcels, "PATIENCE", 0.05)
    with member(peers), peers.bell:
        assert not peers.bell.wait_for(lambda: peers.told, 0.3)


def test_a_connection_may_end_while_all_are_closed(peers):
    closer = threading.Thread(target=peers.close)

    def read_some(reader):
        (ended,) = peers._reading
        closer.start()
        ended.exception(PATIENCE)  # set by the closing
        raise EOFError

    peers._read_some = read_some
    with member(peers) as connection:
        connection.sendall(b"x")
        with peers.bell:
            peers.bell.wait_for(lambda: peers._closed, PATIENCE)
    closer.join(PATIENCE)


def test_a_process_without_room_for_a_connection_does_not_spin(monkeypatch):
    taken = []

    class Full:
        """A listener of a process that has as many descriptors as it may have."""

        def __init__(self, listener):
            self._listener = listener

        def accept(self):
            taken.append(1)
            if len(taken) < 3:
                raise OSError(errno.EMFILE, "Too many open files")
            return self._listener.accept()

        def __getattr__(self, name):
            return getattr(self._listener, name)

    listen = doorway._listen
    monkeypatch.setattr(doorway, "_listen", lambda *where: Full(listen(*where)))
    monkeypatch.setattr(doorway, "_LATER", 0.2)
    entered = threading.Event()
    name = f"\0graphflow-test-{os.getpid()}"
    door = Doorway(name, "", KEY, lambda plain: plain, lambda peer, connection: entered.set())
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            start = time.monotonic()
            connection.connect(name)
            greet(connection, KEY, "b", name)
            assert entered.wait(PATIENCE)
            assert time.monotonic() - start >= 0.4
            assert len(taken) == 3
    finally:
        door.close()


def test_nobody_is_woken_through_a_descriptor_that_may_be_anothers(monkeypatch):
    seats = Desk()
    seats._leader = -1  # another thread
    real, writes = os.write, []

    class Slowly:
        """A system whose writes take long enough for a close in between."""

        def __getattr__(self, name):
            return getattr(os, name)

        def write(self, descriptor, data):
            if threading.current_thread() is waker:
                closer.start()
                closer.join(0.1)
                writes.append(os.fstat(descriptor).st_ino)
            return real(descriptor, data)

    pipe = os.fstat(seats._woken).st_ino
    closer = threading.Thread(target=seats.close)
    waker = threading.Thread(target=seats.wake)
    monkeypatch.setattr(desk, "os", Slowly())
    waker.start()
    waker.join(PATIENCE)
    closer.join(PATIENCE)
    assert writes == [pipe]


def test_who_waits_for_what_never_comes_does_not_keep_a_desk_from_being_closed():
    seats, came = Desk(), []
    bell = Bell(seats)

    def wait():
        with bell:
            bell.wait_for(lambda: came)

    waiter, closer = threading.Thread(target=wait), threading.Thread(target=seats.close)
    waiter.start()
    until(lambda: seats._leader is not None)
    closer.start()
    closer.join(PATIENCE)
    left_open = closer.is_alive()
    with bell:
        came.append("otherwise")
        bell.notify_all()
    waiter.join(PATIENCE)
    assert (left_open, waiter.is_alive()) == (False, False)


def test_a_door_may_be_closed_while_one_comes_in(monkeypatch):
    """Between the flag that is set and the thread that is woken."""
    name = f"\0graphflow-test-{os.getpid()}-closing"
    door = Doorway(name, "", KEY, lambda plain: plain, lambda peer, connection: None)
    came = threading.Event()
    take = door._take

    def taken(listener):
        take(listener)
        came.set()

    monkeypatch.setattr(door, "_take", taken)
    with socket.socket(socket.AF_UNIX) as late:

        def knock():
            late.connect(name)
            assert came.wait(PATIENCE)
            time.sleep(0.02)  # the thread looks what is next

        monkeypatch.setattr(door._pause, "set", knock)
        door.close()  # and its thread ends: see `leaks`

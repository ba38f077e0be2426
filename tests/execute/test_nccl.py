"""Sums over GPUs without GPUs: a communicator with the signatures of CuPy's, on NumPy arrays."""

from __future__ import annotations

import contextlib
import copy
import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest

from graphflow.base.errors import CancelledError
from graphflow.execute.collective import Group
from graphflow.execute.nccl import Nccl
from graphflow.execute.rendezvous import Meeting, Rendezvous
from tests.until import PATIENCE, until

GPUS = ("/gpu:0", "/gpu:1", "/gpu:2")


class Array(np.ndarray):
    """With CuPy's `data.ptr`."""

    @property
    def data(self):
        return SimpleNamespace(ptr=id(self))


class FakeCupy:
    """What is used of CuPy; `cuda.nccl` as documented for `cupy.cuda.nccl`.

    Attributes:
      made: communicators, in order.
      stuck: sums do not end.
      met: until it is set, communicators wait for a device that is gone.
    """

    ndarray = Array

    def __init__(self, available=True):
        self.made = []
        self.stuck = False
        self.met = threading.Event()
        self.met.set()
        self.known = {}
        self.posted = {}
        self.posting = threading.Condition()
        fake = self

        class NcclCommunicator:
            def __init__(self, ndev, commId, rank, queue=None):
                assert (type(ndev), type(commId), type(rank)) == (int, bytes, int)
                assert len(commId) == 128
                assert 0 <= rank < ndev
                self.world, self.rank, self.id, self.aborted = ndev, rank, commId, False
                self.calls = 0
                self.queue = queue or nullcontext()
                fake.met.wait(PATIENCE)
                fake.made.append(self)

            def allReduce(self, sendbuf, recvbuf, count, datatype, op, stream):
                assert all(type(x) is int for x in (sendbuf, recvbuf, count, datatype, op, stream))
                assert not self.aborted
                assert op == 0
                send, receive = fake.known[sendbuf], fake.known[recvbuf]
                assert send.size == receive.size == count
                assert fake.library.types[datatype] == send.dtype
                with self.queue, fake.posting:  # the n-th call is for the n-th of the others
                    self.calls += 1
                    mine = fake.posted.setdefault((self.id, self.calls), {})
                    mine[self.rank] = send
                    fake.posting.notify_all()
                    assert fake.posting.wait_for(lambda: len(mine) == self.world, PATIENCE)
                receive[...] = sum(mine[r] for r in range(self.world))

            def abort(self):
                self.aborted = True

        names = ["float32", "float64", "int32"]
        self.library = SimpleNamespace(
            available=available,
            get_unique_id=lambda: np.random.default_rng().bytes(128),
            NcclCommunicator=NcclCommunicator,
            NCCL_SUM=0,
            types=names,
            **{f"NCCL_{n.upper()}": i for i, n in enumerate(names)},
        )

        class Event:
            def __init__(self, block=False, disable_timing=False, interprocess=False):
                assert disable_timing

            def record(self, stream=None):
                assert stream.ptr == 77

            @property
            def done(self):
                return not fake.stuck

        stream = SimpleNamespace(ptr=77)
        self.cuda = SimpleNamespace(
            nccl=self.library, Event=Event, get_current_stream=lambda: stream, Device=nullcontext
        )

    def one(self):
        """The same, as a device of its own: one kernel after the other."""
        view, queue = copy.copy(self), threading.Lock()
        make = partial(self.library.NcclCommunicator, queue=queue)
        view.library = SimpleNamespace(**vars(self.library) | {"NcclCommunicator": make})
        view.cuda = SimpleNamespace(**vars(self.cuda) | {"nccl": view.library})
        return view

    def _here(self, array):
        array = np.asarray(array).view(Array)
        self.known[id(array)] = array
        return array

    def ascontiguousarray(self, x):
        return self._here(np.ascontiguousarray(x)).reshape(np.shape(x))

    def concatenate(self, parts):
        return self._here(np.concatenate(parts))

    def empty_like(self, x):
        self.known[id(x)] = x
        return self._here(np.empty(x.shape, x.dtype))


def run(
    cupy, nccls, values, members=GPUS, generation=0, cancelled=None, key="sum", meetings=Meeting
):
    rendezvous = Rendezvous(threading.Event(), deadline=PATIENCE)
    group = Group(key, members, tuple(np.shape(x) for x in values[0]))

    def one(device):
        meeting = meetings(rendezvous, device)
        meeting.generation = generation
        buckets = {r: [cupy._here(x) for x in values[r]] for r in group.ranks(device)}
        stop = cancelled or threading.Event()
        return nccls[device].all_reduce(meeting, group, device, buckets, stop)

    with ThreadPoolExecutor(len(members)) as pool:
        return dict(zip(group.devices, pool.map(one, group.devices), strict=True))


@pytest.fixture
def three():
    cupy = FakeCupy()
    return cupy, {device: Nccl(cupy, threading.Lock()) for device in GPUS}


def test_sums_and_one_communicator_per_device(three):
    cupy, nccls = three
    values = [[np.full((2, 3), r + 1.0, np.float32), np.full(5, 10.0 * r, "f")] for r in range(3)]
    for step in range(3):
        for sums in run(cupy, nccls, values, key=f"sum{step}").values():
            np.testing.assert_array_equal(sums[0], np.full((2, 3), 6.0))
            np.testing.assert_array_equal(sums[1], np.full(5, 30.0))
    assert sorted(c.rank for c in cupy.made) == [0, 1, 2]
    assert len({c.id for c in cupy.made}) == 1


def test_replicas_of_one_device_are_added_first():
    cupy = FakeCupy()
    nccls = {device: Nccl(cupy, threading.Lock()) for device in GPUS}
    members = (GPUS[0], GPUS[1], GPUS[0])
    values = [[np.full(4, 10**r, np.int32)] for r in range(3)]
    for (total,) in run(cupy, nccls, values, members).values():
        np.testing.assert_array_equal(total, np.full(4, 111))


def test_a_loss_makes_all_begin_anew(three):
    cupy, nccls = three
    values = [[np.ones(3)] for _ in range(3)]
    run(cupy, nccls, values)
    nccls[GPUS[1]] = Nccl(cupy, threading.Lock())  # it has taken the place of one that was lost
    for (total,) in run(cupy, nccls, values, generation=1).values():
        np.testing.assert_array_equal(total, np.full(3, 3.0))
    assert [c.aborted for c in cupy.made].count(True) == 2
    assert len(cupy.made) == 6


def test_those_whom_a_cancelled_run_left_a_communicator_begin_anew_with_those_it_did_not(three):
    cupy, nccls = three
    values = [[np.ones(3)] for _ in range(3)]
    run(cupy, nccls, values)
    cupy.stuck = True
    stop = threading.Event()
    stop.set()
    stream = cupy.cuda.get_current_stream()
    (joined,) = nccls[GPUS[1]]._communicators.values()
    with pytest.raises(CancelledError):  # the others had not come to the sum
        nccls[GPUS[1]]._wait(joined, stream, stop)
    cupy.stuck = False
    for (total,) in run(cupy, nccls, values).values():
        np.testing.assert_array_equal(total, np.full(3, 3.0))
    assert [c.aborted for c in cupy.made] == [True] * 3 + [False] * 3


def test_a_cancelled_run_frees_the_kernel(three):
    cupy, nccls = three
    cupy.stuck = True
    cancelled = threading.Event()
    cancelled.set()
    with pytest.raises(CancelledError):
        run(cupy, nccls, [[np.ones(3)] for _ in range(3)], cancelled=cancelled)
    assert all(c.aborted for c in cupy.made)


def test_a_cancelled_run_does_not_wait_for_a_device_that_never_comes(three):
    cupy, nccls = three
    cupy.met.clear()
    cancelled = threading.Event()
    threading.Timer(0.1, cancelled.set).start()
    with pytest.raises(CancelledError):
        run(cupy, nccls, [[np.ones(3)] for _ in range(3)], cancelled=cancelled)
    assert not cupy.made
    cupy.met.set()  # too late
    until(lambda: [c.aborted for c in cupy.made] == [True] * 3)


@pytest.mark.parametrize(
    ("members", "dtype"),
    [(("/gpu:0", "/cpu:0", "/gpu:2"), "float32"), (GPUS, "complex64"), (GPUS, "bool")],
)
def test_what_nccl_does_not_sum_is_left_to_the_host(three, members, dtype):
    cupy, nccls = three
    nccls["/cpu:0"] = Nccl(cupy, threading.Lock())
    values = [[np.ones(3, dtype)] for _ in range(3)]
    assert set(run(cupy, nccls, values, members).values()) == {None}
    assert not cupy.made


def test_where_one_device_lacks_nccl_all_do_without(three):
    cupy, nccls = three
    lacking = FakeCupy(available=False)
    nccls[GPUS[2]] = Nccl(lacking, threading.Lock())
    assert set(run(cupy, nccls, [[np.ones(3)] for _ in range(3)]).values()) == {None}
    assert not cupy.made


def test_ranks_are_the_order_of_the_group_and_outlive_a_device_lost_in_a_sum(three):
    """Whoever comes first: the order in which NCCL adds follows from the ranks."""
    cupy, nccls = three
    members = (GPUS[2], GPUS[0], GPUS[1])
    values = [[np.full(3, 10.0**r)] for r in range(3)]

    def ranks() -> list[int]:
        found = [list(nccls[device]._communicators.values()) for device in members]
        return [joined.communicator.rank for (joined,) in found]

    run(cupy, nccls, values, members)
    assert ranks() == [0, 1, 2]
    cupy.stuck = True  # the kernels wait for a device that is gone
    cancelled = threading.Event()
    threading.Timer(0.1, cancelled.set).start()
    with pytest.raises(CancelledError):
        run(cupy, nccls, values, members, cancelled=cancelled)
    assert all(c.aborted for c in cupy.made)
    cupy.stuck = False
    nccls[GPUS[0]] = Nccl(cupy, threading.Lock())  # it takes the place of the lost one
    for (total,) in run(cupy, nccls, values, members, generation=1).values():
        np.testing.assert_array_equal(total, np.full(3, 111.0))
    assert ranks() == [0, 1, 2]
    assert [c.aborted for c in cupy.made] == [True] * 3 + [False] * 3


def test_sums_of_several_runs_are_taken_in_one_order(three):
    """Device 1 hears of the sum of the first run late, when that of the second could begin."""
    cupy, nccls = three
    values = [[np.full(3, 10.0**r)] for r in range(3)]
    run(cupy, nccls, values)
    of_device_0, of_device_1, _ = sorted(cupy.made, key=lambda c: c.rank)

    class Late(Meeting):
        def receive(self, key):
            value = super().receive(key)
            ends = time.monotonic() + 0.1
            while self._device == GPUS[1] and of_device_1.calls < 2 and time.monotonic() < ends:
                time.sleep(0.001)
            return value

    with ThreadPoolExecutor(2) as pool:
        one = pool.submit(run, cupy, nccls, values, meetings=Late)
        until(lambda: of_device_0.calls == 2)
        more = [[7 * x for x in bucket] for bucket in values]
        other = pool.submit(run, cupy, nccls, more)
        for (total,) in one.result(10).values():
            np.testing.assert_array_equal(total, np.full(3, 111.0))
        for (total,) in other.result(10).values():
            np.testing.assert_array_equal(total, np.full(3, 777.0))


class Run:
    """A run of sums, some over some devices: each device does its own, in order."""

    def __init__(self, nccls, sums):
        """Args:
        nccls: of each device.
        sums: the devices of each.
        """
        self.rendezvous = Rendezvous(threading.Event(), deadline=PATIENCE)
        self._nccls = nccls
        self._groups = [Group(f"sum{i}", tuple(members), ((3,),)) for i, members in enumerate(sums)]

    def part(self, device):
        """A device's part."""
        nccl = self._nccls[device]
        meeting = Meeting(self.rendezvous, device)
        for group in self._groups:
            for rank in group.ranks(device):
                own = nccl._cupy._here(np.full(3, 10.0**rank))
                stop = threading.Event()
                (total,) = nccl.all_reduce(meeting, group, device, {rank: [own]}, stop)
                np.testing.assert_array_equal(total, np.full(3, (10**group.world - 1) // 9))


def ends(nccls, runs, first=()):
    """All runs end, which begin at once, but for some parts that come first."""
    left = [(run, device) for run in runs for device in nccls if (run, device) not in first]
    with ThreadPoolExecutor(len(nccls) * len(runs)) as pool:
        parts = [pool.submit(run.part, device) for run, device in first]
        until(lambda: all(run.rendezvous._values for run, _ in first))
        for part in parts + [pool.submit(run.part, device) for run, device in left]:
            part.result(PATIENCE)
    assert not any(nccl._turn.locked() for nccl in nccls.values())


@pytest.fixture
def devices():
    cupy = FakeCupy()
    return cupy, {name: Nccl(cupy.one(), threading.Lock()) for name in (*GPUS, "/gpu:3")}


@pytest.mark.parametrize("sums", [("01", "10"), ("01", "12", "20")])
def test_sums_over_groups_that_share_devices_do_not_wait_in_a_circle(devices, sums):
    """Each calls the kernel of its first device before the others call theirs, if it may."""
    cupy, nccls = devices
    together = threading.Barrier(len(sums))
    communicator = cupy.library.NcclCommunicator
    call = communicator.allReduce

    def first_ones_together(self, *arguments):
        if self.rank == 0:
            with contextlib.suppress(threading.BrokenBarrierError):
                together.wait(0.2)
        call(self, *arguments)

    communicator.allReduce = first_ones_together
    ends(nccls, [Run(nccls, [[f"/gpu:{i}" for i in members]]) for members in sums])


def test_who_waits_for_others_to_come_to_a_sum_has_taken_nothing(devices):
    """They may come from another one, for which they need what he would have taken."""
    _, nccls = devices
    a, b, c, d = nccls
    one, other = Run(nccls, [(b, c), (a, b)]), Run(nccls, [(a, d), (c, a)])
    ends(nccls, [one, other], first=[(one, a), (other, c)])


def test_sums_over_groups_that_share_devices_all_end(devices):
    _, nccls = devices
    draw = random.Random(0)
    runs = [
        Run(nccls, [draw.sample(sorted(nccls), draw.choice([2, 3, 4])) for _ in range(5)])
        for _ in range(6)
    ]
    ends(nccls, runs)


def test_runs_that_meet_first_agree_that_the_host_sums(three):
    cupy, nccls = three
    lacking = FakeCupy(available=False)
    nccls[GPUS[2]] = Nccl(lacking, threading.Lock())
    values = [[np.ones(3)] for _ in range(3)]
    with ThreadPoolExecutor(3) as pool:
        runs = [pool.submit(run, cupy, nccls, values) for _ in range(3)]
        assert {sums for each in runs for sums in each.result(10).values()} == {None}

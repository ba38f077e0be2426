"""Queues on workers and servers: no element is lost, repeated or seen in another order, whatever
fails, is tried again, or is done again after a loss."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

import graphflow as tf
from graphflow.base import errors
from graphflow.distribute.events import Expired
from graphflow.distribute.messages import Save, Step
from graphflow.ops.gate import gate_admit, gate_handle, gate_open, gate_wait
from tests.distribute.in_process import InProcess
from tests.queue_kinds import QUEUES, elements
from tests.until import until

T0, T1 = "/job:worker/task:0", "/job:worker/task:1"
WAIT = 20.0
each_kind = pytest.mark.parametrize("kind", QUEUES)


@pytest.fixture
def cluster() -> Iterator[InProcess]:
    with InProcess(2, every=4) as found:
        yield found


@pytest.fixture
def graph() -> Iterator[None]:
    with tf.Graph().as_default():
        yield


class Program:
    """Worker 1 has a queue and what is taken from it; worker 0 may keep a run from committing."""

    def __init__(self, session: Any, kind: str, where: bool = True):
        self.session = session
        with tf.device(T1 if where else ""):
            self.queue = QUEUES[kind]()
            self.total = tf.Variable(0.0)
            self.taken = self.queue.dequeue()[1]
            self.add = self.total.assign_add(self.taken)
            self.size = self.queue.size()
        with tf.device(T0 if where else ""):
            self.gate = tf.FIFOQueue(4, tf.int32, [[]])
            with tf.control_dependencies([self.taken]):
                self.check = tf.floordiv(1, self.gate.dequeue())
            self.x = tf.placeholder(tf.int32, [])
            self.open = self.gate.enqueue(self.x)
        session.run(self.total.initializer)
        session.run(self.queue.enqueue_many(elements()))

    def rest(self) -> list[float]:
        self.session.run(self.queue.close())
        return self.session.run(self.queue.dequeue_up_to(100)[1]).tolist()


@each_kind
def test_a_loss_after_a_run_that_failed_changes_no_order(cluster: InProcess, kind: str) -> None:
    def order(where: InProcess | None, disturbs: bool) -> list[float]:
        with tf.Graph().as_default(), tf.Session(cluster=where, seed=1) as session:
            program = Program(session, kind, where is not None)
            found = []
            for step in range(7):
                found.append(session.run(program.taken))
                if disturbs and step % 2:
                    session.run(program.open, {program.x: 0})
                    with pytest.raises(errors.InvalidArgumentError):
                        session.run([program.add, program.check])
                if disturbs and step % 3 == 2:
                    cluster.kill(1)
            return [*found, session.run(program.total), *program.rest()]

    assert order(cluster, True) == order(None, False)


@each_kind
def test_runs_that_overlap_take_the_same_when_they_are_done_again(
    cluster: InProcess, graph: None, kind: str
) -> None:
    """The first one has an element and waits; the second one takes the next one, and commits."""
    with tf.Session(cluster=cluster, seed=1) as session, ThreadPoolExecutor(1) as pool:
        program = Program(session, kind)
        first = pool.submit(session.run, [program.taken, program.check])
        until(lambda: queue_of(cluster).size() == 11)
        second, total = session.run([program.taken, program.add])
        assert total == second
        cluster.kill(1)
        session.run(program.open, {program.x: 1})
        mine, _ = first.result(WAIT)
        left = program.rest()
        assert session.run(program.total) == second
        assert sorted([mine, second, *left]) == list(range(12))


def queue_of(cluster: InProcess, worker: int = 1) -> Any:
    (queue,) = cluster.host(worker)._resources._objects.values()
    return queue


@each_kind
def test_an_element_that_a_run_had_at_a_cut_is_there_after_a_loss(
    cluster: InProcess, graph: None, kind: str
) -> None:
    """Whether that run was committed or failed between the cut and the loss."""
    for opens in (0, 1):
        with (
            tf.Graph().as_default(),
            tf.Session(cluster=cluster, seed=1) as session,
            ThreadPoolExecutor(1) as pool,
        ):
            program = Program(session, kind)
            held = pool.submit(session.run, [program.taken, program.check])
            until(lambda: queue_of(cluster).size() == 11)
            before = cluster.sent(Save)
            with tf.device(T0):
                other = tf.Variable(0.0)
            session.run(other.initializer)
            up = other.assign_add(1.0)
            while cluster.sent(Save) == before:
                session.run(up)
            session.run(program.open, {program.x: opens})
            if opens:
                found = [held.result(WAIT)[0]]
            else:
                found = []
                with pytest.raises(errors.InvalidArgumentError):
                    held.result(WAIT)
            cluster.kill(1)
            assert sorted([*found, *program.rest()]) == list(range(12))


def test_a_run_that_is_given_up_after_losses_gives_back_what_it_took(
    cluster: InProcess, graph: None
) -> None:
    with tf.Session(cluster=cluster, seed=1) as session, ThreadPoolExecutor(1) as pool:
        program = Program(session, "first in, first out")
        held = pool.submit(session.run, [program.taken, program.check])
        for losses in range(3):
            until(lambda: attempts(cluster) == losses + 1)  # noqa: B023
            cluster.kill(0)
        with pytest.raises(errors.UnavailableError, match="given up"):
            held.result(WAIT)
        assert program.rest() == list(range(12))
        assert 3 not in cluster.host(1)._inputs


def attempts(cluster: InProcess) -> int:
    """How often both workers have begun with the run that takes an element and then waits."""
    begun = [m.ticket for _, m in cluster.log if isinstance(m, Step) and m.replay is None]
    return sum(ticket.run == 3 for ticket in begun) // 2


def test_an_element_of_a_run_that_failed_elsewhere_reaches_who_waits_for_it(
    cluster: InProcess, graph: None
) -> None:
    """At once: no other run is needed to tell the worker."""
    with tf.Session(cluster=cluster, seed=1) as session, ThreadPoolExecutor(2) as pool:
        program = Program(session, "first in, first out")
        session.run(program.queue.dequeue_many(11))
        held = pool.submit(session.run, [program.taken, program.check])
        until(lambda: queue_of(cluster).size() == 0)
        waits = pool.submit(session.run, program.taken)
        until(lambda: len(queue_of(cluster)._waiting) == 1)
        session.run(program.open, {program.x: 0})
        with pytest.raises(errors.InvalidArgumentError):
            held.result(WAIT)
        assert waits.result(WAIT) == 11


def test_a_run_that_ends_while_it_gives_way_gives_back_what_it_took(
    cluster: InProcess, graph: None, monkeypatch: Any
) -> None:
    from graphflow.distribute import runs

    monkeypatch.setattr(runs, "REST", 60.0)  # seconds: longer than it may take
    with tf.Session(cluster=cluster, seed=1) as session, ThreadPoolExecutor(2) as pool:
        with tf.device(T1):
            v = tf.Variable(0.0)
            queue = tf.FIFOQueue(4, tf.float32, [[]])
            other = tf.FIFOQueue(4, tf.float32, [[]])
            hold = v.assign_add(1.0)
            take = v.assign_add(queue.dequeue())
        with tf.device(T0):
            gate = tf.FIFOQueue(4, tf.float32, [[]])
            late = gate.dequeue()
        session.run([v.initializer, queue.enqueue(1.0), other.size()])
        held = pool.submit(session.run, [hold, late])  # it has prepared on worker 1
        until(lambda: any(t for t in promises(cluster)))
        loses = pool.submit(session.run, take)
        conductor = session._target.conductor
        until(lambda: resting(conductor))
        (number,) = resting(conductor)
        with conductor._lock:
            conductor._handle(Expired(number, 1.0))
        with pytest.raises(errors.DeadlineExceededError, match="other runs kept writing"):
            loses.result(WAIT)
        until(lambda: session_queue(cluster, "fifo_queue").size() == 1)
        session.run(gate.enqueue(0.0))
        held.result(WAIT)
        assert session.run(queue.dequeue()) == 1.0


def resting(conductor: Any) -> list[int]:
    """Numbers of the runs that give way to others."""
    with conductor._lock:
        return [r.number for r in conductor._machine._runs.values() if r.state == "resting"]


def promises(cluster: InProcess) -> list[Any]:
    return list(cluster.host(1).store._promises)


def session_queue(cluster: InProcess, name: str) -> Any:
    found = cluster.host(1)._resources._objects.values()
    return next(queue for queue in found if queue.name == name)


def test_queue_runners_lose_and_repeat_nothing_when_workers_are_killed(
    cluster: InProcess, graph: None
) -> None:
    """Two threads count and put in, this one takes out, and workers die in between."""
    with tf.Session(cluster=cluster, seed=1) as session:
        with tf.device(T0):
            count = tf.Variable(0)
            number = count.assign_add(1)
        with tf.device(T1):
            queue = tf.FIFOQueue(3, tf.int32, [[]])
            taken, put = queue.dequeue(), queue.enqueue(number)
        session.run(count.initializer)
        coordinator = tf.train.Coordinator()
        threads = tf.train.QueueRunner(queue, [put] * 2).create_threads(
            session, coordinator, daemon=True, start=True
        )
        found = []
        for step in range(15):
            found.append(session.run(taken))
            if step % 5 == 2:
                cluster.kill(step % 2)
        coordinator.request_stop()
        coordinator.join(threads, stop_grace_period_secs=WAIT)
    assert found == list(range(1, 16))


class Loser:
    """A function for `py_func`: at its first call another run commits, so that the one that it
    belongs to loses the race and is tried again."""

    def __init__(self, rival: Callable[[], Any]):
        self.rival, self.calls = rival, 0

    def __call__(self, value: Any) -> Any:
        self.calls += 1
        if self.calls == 1:
            other = threading.Thread(target=self.rival)
            other.start()
            other.join(WAIT)
        return np.float32(value)


LOSERS: dict[str, Loser] = {}


def _lose(value: Any) -> Any:
    """By name: what travels to a worker is pickled."""
    return LOSERS["one"](value)


@each_kind
@pytest.mark.parametrize("kill", [False, True])
def test_elements_of_a_branch_that_is_not_taken_in_the_end_go_back_on_workers(
    cluster: InProcess, graph: None, kind: str, kill: bool
) -> None:
    with tf.Session(cluster=cluster, seed=1) as session:
        with tf.device(T1):
            v = tf.Variable(0.0)
            one, two = QUEUES[kind](), QUEUES[kind]()
            taken = tf.cond(v > 0, lambda: two.dequeue()[1], lambda: one.dequeue()[1])
            step = v.assign(tf.reshape(tf.py_func(_lose, [taken], tf.float32), []))
            sizes = [one.size(), two.size()]
        session.run(v.initializer)
        session.run([each.enqueue_many(elements()) for each in (one, two)])
        up = v.assign_add(1)
        LOSERS["one"] = loser = Loser(lambda: session.run(up))
        session.run(step)
        if kill:
            cluster.kill(1)
        assert loser.calls >= 1
        assert session.run(sizes) == [12, 11]
        session.run(one.close())
        left = session.run(one.dequeue_up_to(20)[1]).tolist()
    with tf.Graph().as_default(), tf.Session(seed=1) as session:
        assert left == Program(session, kind, False).rest()


# ---- servers

SPEC = {"ps": ["ps0:1"], "worker": ["worker0:1", "worker1:1"]}


@pytest.fixture
def servers() -> Iterator[dict[str, tf.train.Server]]:
    found = {
        f"{job}{i}": tf.train.Server(SPEC, job, i) for job in SPEC for i in range(len(SPEC[job]))
    }
    yield found
    for server in found.values():
        server.stop()


class Client:
    """A client of a queue and a variable on a server, which may keep a run from committing."""

    def __init__(self, servers: dict[str, tf.train.Server], kind: str, worker: int = 0):
        with tf.Graph().as_default() as graph:
            with tf.device("/job:ps/task:0"):
                self.queue = QUEUES[kind](shared_name="elements")
                self.v = tf.Variable(0.0, name="v")
                self.up = self.v.assign_add(1.0)
                self.taken = self.queue.dequeue()[1]
                self.fill = self.queue.enqueue_many(elements())
                self.size, self.close = self.queue.size(), self.queue.close()
                self.all = self.queue.dequeue_up_to(20)[1]
                other = QUEUES[kind](shared_name="other")
                taken = tf.cond(self.v > 0, lambda: other.dequeue()[1], lambda: self.taken_now())
                self.step = self.v.assign(tf.reshape(tf.py_func(_lose, [taken], tf.float32), []))
                self.fill_other, self.size_of_other = other.enqueue_many(elements()), other.size()
            with tf.device(f"/job:worker/task:{worker}"):
                gate = tf.FIFOQueue(4, tf.int32, [[]])
                with tf.control_dependencies([self.taken]):
                    self.check = tf.floordiv(1, gate.dequeue())
                self.fail = gate.enqueue(0)
        self.session = tf.Session(servers[f"worker{worker}"].target, graph=graph)

    def taken_now(self) -> Any:
        return self.queue.dequeue()[1]

    def rest(self) -> list[float]:
        self.session.run(self.close)
        return self.session.run(self.all).tolist()


@each_kind
@pytest.mark.parametrize("end", ["fails", "closes", "dies"])
def test_a_client_that_ends_in_the_middle_gives_back_what_it_took(
    servers: dict[str, tf.train.Server], kind: str, end: str
) -> None:
    a, b = Client(servers, kind, 0), Client(servers, kind, 1)
    b.session.run([b.v.initializer, b.fill])
    ps = servers["ps0"]._serving._member.task
    with ThreadPoolExecutor(1) as pool:
        held = pool.submit(a.session.run, [a.taken, a.check])
        until(lambda: b.session.run(b.size) == 11)
        if end == "fails":
            a.session.run(a.fail)
        elif end == "closes":
            a.session.close()
        else:
            ps.forget(servers["worker0"]._serving.name, 1)
            a.session.run(a.fail)
        with pytest.raises(errors.OpError):
            held.result(WAIT)
    until(lambda: b.session.run(b.size) == 12)
    with tf.Graph().as_default(), tf.Session() as session:
        undisturbed = Program(session, kind, False).rest()
    found = b.rest()
    assert sorted(found) == sorted(undisturbed)
    if kind != "shuffling":  # its order follows from the seed of the session that made it
        assert found == undisturbed
    for each in (a, b):
        each.session.close()


@each_kind
def test_elements_of_a_branch_that_is_not_taken_in_the_end_go_back_on_servers(
    servers: dict[str, tf.train.Server], kind: str
) -> None:
    """The part on the server is executed anew when it is committed, and may not wait then."""
    a, b = Client(servers, kind, 0), Client(servers, kind, 1)
    b.session.run([b.v.initializer, b.fill, b.fill_other])
    LOSERS["one"] = Loser(lambda: b.session.run(b.up))
    a.session.run(a.step)
    assert b.session.run([b.size, b.size_of_other]) == [12, 11]
    for each in (a, b):
        each.session.close()


# ---- what else is shared


def test_gradients_and_tokens_come_back_after_a_loss(cluster: InProcess) -> None:
    """Accumulators collect gradients of several runs; a mean is taken of them now and then."""

    def train(where: InProcess | None) -> list[float]:
        with tf.Graph().as_default(), tf.Session(cluster=where, seed=1) as session:
            with tf.device(T1 if where else ""):
                dense = tf.ConditionalAccumulator(tf.float32, [])
                sparse = tf.SparseConditionalAccumulator(tf.float32, [4])
                v = tf.Variable(0.0)
                x = tf.placeholder(tf.float32, [])
                row = tf.reshape(x, [1])
                gives = [
                    dense.apply_grad(x, 10, rank=0),
                    sparse.apply_grad(tf.constant([2], tf.int64), row, [4], 10, rank=0),
                ]
                mean = dense.take_grad(2) + tf.reduce_sum(sparse.take_grad(2)[1])
                add = v.assign_add(mean)
                counts = [dense.num_accumulated(), sparse.num_accumulated()]
                gate = gate_handle(shared_name="gate")
                passes = gate_wait(gate, 7, rank=0)
            with tf.device(T0 if where else ""):
                divisor = tf.placeholder(tf.int32, [])
                check = tf.floordiv(1, divisor)
            session.run([v.initializer, gate_admit(gate, 12)])
            found = []
            for step in range(12):
                with pytest.raises(errors.InvalidArgumentError):
                    session.run([*gives, passes, check], {x: 100.0, divisor: 0})
                session.run([*gives, passes], {x: step})
                if step % 5 == 3 and where is not None:
                    where.kill(1)
                if step % 2:
                    with pytest.raises(errors.InvalidArgumentError):
                        session.run([add, check], {divisor: 0})
                    found.append(session.run(add))
                found += session.run(counts)
            with pytest.raises(errors.DeadlineExceededError):  # no more may pass
                session.run(passes, options=tf.RunOptions(timeout_in_ms=50))
            session.run(gate_open(gate, 9))
            return [session.run(passes), *found]

    wanted = train(None)
    assert wanted[0] == 9
    assert wanted[-3:] == [sum(range(12)), 0, 0]
    assert train(cluster) == wanted

"""What a run takes from a queue is gone when it commits, and not before."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import graphflow as tf
from graphflow.base import errors
from graphflow.base.waiting import telling
from graphflow.ops.queues import QueueBase
from tests.queue_kinds import QUEUES, elements

WAIT = 20.0
each_kind = pytest.mark.parametrize("kind", QUEUES)

# How a run takes elements, and how many it takes.
WAYS = {
    "one": (lambda q: q.dequeue()[1], 1),
    "three": (lambda q: q.dequeue_many(3)[1], 3),
    "up to three": (lambda q: q.dequeue_up_to(3)[1], 3),
    "in a loop": (
        lambda q: tf.while_loop(
            lambda i, _: i < 3, lambda i, sum: (i + 1, sum + q.dequeue()[1]), [0, 0.0]
        )[1],
        3,
    ),
}


@pytest.fixture
def session() -> Iterator[Any]:
    with tf.Graph().as_default(), tf.Session() as session:
        yield session


def filled(session: Any, kind: str) -> QueueBase:
    queue = QUEUES[kind]()
    session.run(queue.enqueue_many(elements()))
    return queue


def rest(session: Any, queue: QueueBase) -> list[float]:
    """All that is left, in its order."""
    session.run(queue.close())
    taken = queue.dequeue_up_to(100)
    return session.run(taken[-1] if isinstance(taken, list) else taken).tolist()


def test_all_kinds_are_in_the_table() -> None:
    with tf.Graph().as_default():
        assert {type(make()) for make in QUEUES.values()} == set(QueueBase.__subclasses__())


@each_kind
@pytest.mark.parametrize("way", WAYS)
def test_a_run_that_fails_takes_nothing(kind: str, way: str) -> None:
    """Others find all elements, in the order in which they would have been otherwise."""

    def order(fails: int) -> tuple[Any, list[float]]:
        with tf.Graph().as_default(), tf.Session() as session:
            queue = filled(session, kind)
            taken = WAYS[way][0](queue)
            x = tf.placeholder(tf.int32, [])
            with tf.control_dependencies([taken]):
                check = tf.floordiv(1, x)
            session.run(queue.dequeue())
            for _ in range(fails):
                with pytest.raises(errors.InvalidArgumentError):
                    session.run([taken, check], {x: 0})
            now = session.run([taken, check], {x: 1})[0]
            return np.sum(now), rest(session, queue)

    undisturbed = order(0)
    assert len(undisturbed[1]) == 12 - 1 - WAYS[way][1]
    assert order(2) == undisturbed


@each_kind
def test_a_run_that_ends_late_takes_nothing(session: Any, kind: str) -> None:
    queue, empty = filled(session, kind), tf.FIFOQueue(1, tf.float32, [[]])
    with tf.control_dependencies([queue.dequeue_many(2)[1]]):
        never = empty.dequeue()
    before = session.run(queue.dequeue()[1])
    with pytest.raises(errors.DeadlineExceededError):
        session.run(never, options=tf.RunOptions(timeout_in_ms=50))
    with tf.Graph().as_default(), tf.Session() as other:
        again = filled(other, kind)
        assert [before, *rest(session, queue)] == rest_from(other, again)


def rest_from(session: Any, queue: QueueBase) -> list[float]:
    first = session.run(queue.dequeue()[1])
    return [first, *rest(session, queue)]


@each_kind
def test_elements_go_back_to_their_places_whoever_took_what_meanwhile(kind: str) -> None:
    """Two runs have two elements each, and fail in either order."""

    def left(*order: int) -> list[float]:
        with tf.Graph().as_default(), tf.Session() as session:
            queue = filled(session, kind)
            gates = [tf.FIFOQueue(1, tf.int32, [[]]) for _ in range(2)]
            runs, opens = [], []
            for gate in gates:
                with tf.control_dependencies([queue.dequeue_many(2)[1]]):
                    runs.append(tf.floordiv(1, gate.dequeue()))
                opens.append(gate.enqueue(0))
            threads = [waiting(session, run) for run in runs]
            for i in order:
                session.run(opens[i])
                threads[i].join(WAIT)
            assert session.run(queue.size()) == 12
            return sorted(rest(session, queue)) if kind == "shuffling" else rest(session, queue)

    with tf.Graph().as_default(), tf.Session() as session:
        undisturbed = rest(session, filled(session, kind))
    if kind == "shuffling":  # who draws second draws from fewer
        undisturbed = sorted(undisturbed)
    assert left(0, 1) == left(1, 0) == undisturbed


def waiting(session: Any, fetch: Any) -> threading.Thread:
    """A run in a thread, which waits by now, and is to fail."""
    begun = threading.Event()

    def run() -> None:
        with telling(begun.set), pytest.raises(errors.InvalidArgumentError):
            session.run(fetch)

    thread = threading.Thread(target=run)
    thread.start()
    assert begun.wait(WAIT)
    return thread


class Loser:
    """A function for `py_func`: at its first call another run commits, so that the one that it
    belongs to loses the race and is tried again."""

    def __init__(self, session: Any, rival: Any):
        self.session, self.rival, self.calls = session, rival, 0

    def __call__(self, value: Any) -> Any:
        self.calls += 1
        if self.calls == 1:
            other = threading.Thread(target=self.session.run, args=(self.rival,))
            other.start()
            other.join(WAIT)
        return np.float32(value)


@each_kind
def test_elements_of_a_branch_that_is_not_taken_in_the_end_go_back(kind: str) -> None:
    with tf.Graph().as_default(), tf.Session() as session:
        v = tf.Variable(0.0)
        session.run(v.initializer)
        one, two = filled(session, kind), filled(session, kind)
        loser = Loser(session, v.assign_add(1))
        taken = tf.cond(v > 0, lambda: two.dequeue()[1], lambda: one.dequeue()[1])
        session.run(v.assign(tf.reshape(tf.py_func(loser, [taken], tf.float32), [])))
        assert loser.calls >= 1
        assert session.run([one.size(), two.size()]) == [12, 11]
        undisturbed = rest(session, one)
    with tf.Graph().as_default(), tf.Session() as session:
        assert undisturbed == rest(session, filled(session, kind))


def test_an_interrupted_run_takes_nothing(session: Any) -> None:
    queue = tf.FIFOQueue(4, tf.float32, [[]])

    def interrupted(value: Any) -> Any:
        raise KeyboardInterrupt

    session.run(queue.enqueue(1.0))
    with pytest.raises(KeyboardInterrupt):
        session.run(tf.py_func(interrupted, [queue.dequeue()], tf.float32))
    assert session.run(queue.size()) == 1


def test_what_cannot_be_handed_on_stays_where_it_was(session: Any) -> None:
    """The next queue is closed, before or while there is no room in it."""
    one, two = tf.FIFOQueue(4, tf.float32, [[]]), tf.FIFOQueue(1, tf.float32, [[]])
    move, close = two.enqueue(one.dequeue()), two.close(cancel_pending_enqueues=True)
    session.run(one.enqueue_many([[1.0, 2.0, 3.0]]))
    session.run(move)
    begun, failed = threading.Event(), []

    def late() -> None:
        with telling(begun.set), pytest.raises(errors.CancelledError) as caught:
            session.run(move)
        failed.append(caught.value)

    thread = threading.Thread(target=late)
    thread.start()
    assert begun.wait(WAIT)
    session.run(close)
    thread.join(WAIT)
    assert failed
    with pytest.raises(errors.CancelledError):
        session.run(move)
    assert rest(session, one) == [2, 3]
    assert rest(session, two) == [1]


def test_what_a_run_has_put_in_itself_is_neither_lost_nor_repeated(session: Any) -> None:
    """It takes one that was there, and one of its own; then it fails, and then it does not."""
    queue = tf.FIFOQueue(8, tf.float32, [[]])
    x = tf.placeholder(tf.int32, [])
    session.run(queue.enqueue(1.0))
    with tf.control_dependencies([queue.enqueue_many([[2.0, 3.0]])]):
        taken = queue.dequeue_many(2)
    with tf.control_dependencies([taken]):
        check = tf.floordiv(1, x)
    with pytest.raises(errors.InvalidArgumentError):
        session.run([taken, check], {x: 0})
    assert session.run(queue.size()) == 1
    assert session.run([taken, check], {x: 1})[0].tolist() == [1, 2]
    assert rest(session, queue) == [3]


@each_kind
def test_a_resumed_script_sees_the_order_that_it_saw(tmp_path: Any, kind: str) -> None:
    """A run that came too late does not count: the script may not even make it the next time."""

    def script(folder: Any, stop: int, late: int) -> list[float]:
        with tf.Graph().as_default():
            queue, empty = QUEUES[kind](), tf.FIFOQueue(1, tf.float32, [[]])
            fill, take = queue.enqueue_many(elements()), queue.dequeue_many(2)[1]
            with tf.control_dependencies([queue.dequeue()[1]]):
                never = empty.dequeue()
            with tf.Session(resume=folder, resume_every=3, seed=1) as session:
                session.run(fill)
                found = []
                for step in range(stop):
                    if step == late:
                        with pytest.raises(errors.DeadlineExceededError):
                            session.run(never, options=tf.RunOptions(timeout_in_ms=50))
                    found.append(session.run(take).tolist())
                return found

    wanted = script(tmp_path / "whole", 5, -1)
    assert script(tmp_path / "cut", 4, 3) == wanted[:4]
    assert script(tmp_path / "cut", 5, -1) == wanted

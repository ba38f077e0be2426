"""Queues, within runs, between runs and between threads."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import graphflow as tf
from graphflow.base.waiting import telling
from graphflow.ops.queue_state import PriorityState, QueueState, ShuffleState

WAIT = 20.0


@pytest.fixture
def session() -> Iterator[Any]:
    with tf.Graph().as_default(), tf.Session() as session:
        yield session


def later(function: Any) -> tuple[threading.Thread, list[Any]]:
    """Call it in a thread, which waits by now or is through; what it returned or raised comes in
    the list."""
    found: list[Any] = []
    begun = threading.Event()

    def target() -> None:
        try:
            with telling(begun.set):
                found.append(function())
        except Exception as error:
            found.append(error)
        begun.set()

    thread = threading.Thread(target=target)
    thread.start()
    assert begun.wait(WAIT)
    return thread, found


def test_gives_back_what_came_first(session: Any) -> None:
    q = tf.FIFOQueue(10, tf.int32)
    x = tf.placeholder(tf.int32, ())
    put, get, size = q.enqueue(x), q.dequeue(), q.size()
    for k in (3, 1, 2):
        session.run(put, {x: k})
    assert session.run(size) == 3
    assert [session.run(get) for _ in range(3)] == [3, 1, 2]


def test_names_are_those_of_tensorflow(session: Any) -> None:
    q = tf.FIFOQueue(10, tf.int32)
    assert q.name == "fifo_queue"
    assert q.enqueue(1).name == "fifo_queue_enqueue"
    assert q.dequeue().name == "fifo_queue_Dequeue:0"
    assert tf.FIFOQueue(10, tf.int32).name == "fifo_queue_1"


def test_components_and_names(session: Any) -> None:
    q = tf.FIFOQueue(10, [tf.int32, tf.float32], shapes=[(), (2,)], names=["a", "b"])
    session.run(q.enqueue({"a": 1, "b": [2.0, 3.0]}))
    session.run(q.enqueue_many({"a": [4, 5], "b": [[6.0, 7.0], [8.0, 9.0]]}))
    got = session.run(q.dequeue_many(3))
    np.testing.assert_array_equal(got["a"], [1, 4, 5])
    np.testing.assert_array_equal(got["b"], [[2, 3], [6, 7], [8, 9]])


def test_static_shapes(session: Any) -> None:
    q = tf.FIFOQueue(10, [tf.int32, tf.float32], shapes=[(), (2,)])
    a, b = q.dequeue_many(4)
    assert (a.shape.as_list(), b.shape.as_list()) == ([4], [4, 2])
    assert q.dequeue_up_to(4)[1].shape.as_list() == [None, 2]
    assert tf.FIFOQueue(3, tf.int32).dequeue().shape.ndims is None


def test_a_closed_queue_gives_the_rest_and_then_ends(session: Any) -> None:
    q = tf.FIFOQueue(10, tf.int32, shapes=())
    session.run(q.enqueue_many([[1, 2, 3]]))
    session.run(q.close())
    assert session.run(q.is_closed())
    with pytest.raises(tf.errors.OutOfRangeError, match="requested 5, current size 3"):
        session.run(q.dequeue_many(5))
    np.testing.assert_array_equal(session.run(q.dequeue_up_to(2)), [1, 2])
    np.testing.assert_array_equal(session.run(q.dequeue_up_to(2)), [3])
    for get in (q.dequeue(), q.dequeue_up_to(2)):
        with pytest.raises(tf.errors.OutOfRangeError, match="closed and has insufficient"):
            session.run(get)
    with pytest.raises(tf.errors.CancelledError, match="closed"):
        session.run(q.enqueue(1))


def test_a_run_sees_what_it_has_enqueued(session: Any) -> None:
    q = tf.FIFOQueue(10, tf.int32, shapes=())
    session.run(q.enqueue(1))
    with tf.control_dependencies([q.enqueue_many([[2, 3]])]):
        got, size = q.dequeue_many(2), q.size()
    np.testing.assert_array_equal(session.run(got), [1, 2])
    assert session.run(q.dequeue()) == 3
    assert session.run(size) == 2


def test_a_failed_run_enqueues_nothing(session: Any) -> None:
    q = tf.FIFOQueue(10, tf.int32)
    x = tf.placeholder(tf.float32)
    with tf.control_dependencies([q.enqueue(1)]):
        bad = tf.reshape(x, [5])
    with pytest.raises(tf.errors.InvalidArgumentError):
        session.run(bad, {x: [1.0]})
    assert session.run(q.size()) == 0


def test_a_dequeue_waits_for_another_thread(session: Any) -> None:
    q = tf.FIFOQueue(10, tf.int32, shapes=())
    put, get = q.enqueue(7), q.dequeue()
    thread, found = later(lambda: session.run(get))
    assert not found
    session.run(put)
    thread.join(WAIT)
    assert found == [7]


def test_an_enqueue_waits_for_room(session: Any) -> None:
    q = tf.FIFOQueue(1, tf.int32)
    put, get, size = q.enqueue(7), q.dequeue(), q.size()
    session.run(put)
    thread, found = later(lambda: session.run(put))
    assert not found
    assert session.run(size) == 1
    session.run(get)
    thread.join(WAIT)
    assert found == [None]


def test_many_more_than_fit_pass(session: Any) -> None:
    q = tf.FIFOQueue(2, tf.int32, shapes=())
    put, get = q.enqueue(7), q.dequeue_many(5)
    thread, found = later(lambda: session.run(get))
    for _ in range(5):
        session.run(put)
    thread.join(WAIT)
    assert found[0].tolist() == [7] * 5


@pytest.mark.parametrize("cancel", [True, False])
def test_closing_wakes_those_who_wait(session: Any, cancel: bool) -> None:
    empty, full = tf.FIFOQueue(1, tf.int32), tf.FIFOQueue(1, tf.int32)
    get, put = empty.dequeue(), full.enqueue(1)
    room = full.dequeue()
    close = [empty.close(), full.close(cancel_pending_enqueues=cancel)]
    session.run(put)
    threads = [later(lambda: session.run(get)), later(lambda: session.run(put))]
    session.run(close)
    if not cancel:
        session.run(room)
    for thread, _ in threads:
        thread.join(WAIT)
    assert isinstance(threads[0][1][0], tf.errors.OutOfRangeError)
    assert isinstance(threads[1][1][0], tf.errors.CancelledError if cancel else type(None))


def test_closing_the_session_wakes_those_who_wait() -> None:
    with tf.Graph().as_default():
        q = tf.FIFOQueue(1, tf.int32)
        get = q.dequeue()
        session = tf.Session()
        thread, found = later(lambda: session.run(get))
        session.close()
        thread.join(WAIT)
        assert isinstance(found[0], (tf.errors.CancelledError, tf.errors.OutOfRangeError))


def test_shuffling_keeps_some_to_choose_from(session: Any) -> None:
    q = tf.RandomShuffleQueue(100, 10, tf.int32, shapes=(), seed=1)
    session.run(q.enqueue_many([np.arange(60, dtype=np.int32)]))
    first = session.run(q.dequeue_many(50)).tolist()
    assert first != sorted(first)
    thread, found = later(lambda: session.run(q.dequeue()))
    assert not found
    session.run(q.close())
    thread.join(WAIT)
    rest = session.run(q.dequeue_up_to(20)).tolist()
    assert sorted([*first, *found, *rest]) == list(range(60))


def test_priorities(session: Any) -> None:
    q = tf.PriorityQueue(10, tf.string, shapes=[()])
    for priority, text in ((3, "c"), (1, "a"), (1, "b")):
        session.run(q.enqueue((np.int64(priority), text)))
    got = [session.run(q.dequeue())[1] for _ in range(3)]
    assert got == [b"a", b"b", b"c"]


def test_padding(session: Any) -> None:
    q = tf.PaddingFIFOQueue(10, tf.int32, shapes=[[None]])
    session.run([q.enqueue([[1, 2]]), q.enqueue([[3, 4, 5]])])
    got = session.run(q.dequeue_many(2))
    np.testing.assert_array_equal(got, [[1, 2, 0], [3, 4, 5]])


def test_shared_names_name_one_queue(session: Any) -> None:
    a = tf.FIFOQueue(10, tf.int32, shared_name="q")
    b = tf.FIFOQueue(10, tf.int32, shared_name="q")
    session.run(a.enqueue(5))
    assert session.run(b.dequeue()) == 5
    with pytest.raises(tf.errors.InvalidArgumentError, match="capacity 10, not 3"):
        session.run(tf.FIFOQueue(3, tf.int32, shared_name="q").size())


def test_queues_in_loops(session: Any) -> None:
    q = tf.FIFOQueue(10, tf.int32, shapes=())
    session.run(q.enqueue_many([[1, 2, 3, 4]]))
    total = tf.while_loop(lambda i, _: i < 3, lambda i, t: (i + 1, t + q.dequeue()), [0, 0])[1]
    assert session.run(total) == 6
    assert session.run(q.size()) == 1


def test_what_was_taken_in_vain_goes_back() -> None:
    for state in (QueueState("q", 9), ShuffleState("q", 9, 0, [1]), PriorityState("q", 9)):
        cancelled = threading.Event()
        state.reserve(3, cancelled)
        state.put([(k,) for k in range(3)])
        cancelled.set()
        with pytest.raises(tf.errors.CancelledError):
            state.take(5, False, (), cancelled)
        assert state.size() == 3
        taken = state.take(3, False, (), threading.Event())
        if type(state) is not ShuffleState:
            assert [element.parts for element in taken.elements] == [(0,), (1,), (2,)]


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (lambda q: q.enqueue(1.5), TypeError, "int32"),
        (lambda q: q.enqueue([1, 2]), ValueError, r"takes \(\)"),
        (lambda q: q.enqueue_many(1), ValueError, "takes"),
        (lambda q: q.enqueue({"a": 1}), ValueError, "components"),
        (lambda q: tf.FIFOQueue(3, tf.int32).dequeue_many(2), ValueError, "shapes of the"),
        (lambda q: tf.FIFOQueue(3, [tf.int32] * 2, shapes=[()]), ValueError, "1 shapes"),
        (lambda q: tf.FIFOQueue(3, tf.int32, names=["a", "b"]), ValueError, "2 names"),
    ],
)
def test_errors_of_building(session: Any, call: Any, error: Any, match: str) -> None:
    with pytest.raises(error, match=match):
        call(tf.FIFOQueue(3, tf.int32, shapes=()))


def test_shapes_are_checked_when_run(session: Any) -> None:
    q = tf.FIFOQueue(3, tf.int32, shapes=(2,))
    x = tf.placeholder(tf.int32)
    with pytest.raises(tf.errors.InvalidArgumentError, match="takes"):
        session.run(q.enqueue(x), {x: [1, 2, 3]})


def test_runs_that_conflict_lose_no_element(session: Any) -> None:
    """Each run takes an element and counts it in a variable: overlapping runs are tried again."""
    source, sink = tf.FIFOQueue(200, tf.int32, shapes=()), tf.FIFOQueue(200, tf.int32, shapes=())
    total = tf.Variable(0)
    value = source.dequeue()
    step = tf.group(total.assign_add(value), sink.enqueue(value))
    session.run(tf.global_variables_initializer())
    session.run(source.enqueue_many([np.arange(100, dtype=np.int32)]))
    threads = [later(lambda: [session.run(step) for _ in range(25)]) for _ in range(4)]
    for thread, _ in threads:
        thread.join(WAIT)
    assert all(type(found[0]) is list for _, found in threads)
    assert session.run(total) == sum(range(100))
    assert sorted(session.run(sink.dequeue_many(100)).tolist()) == list(range(100))

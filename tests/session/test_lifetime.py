"""Sessions beside and inside each other, in threads, and at their end."""

from __future__ import annotations

import gc
import threading

import numpy as np
import pytest

import graphflow as tf
from tests.growth import assert_linear


@pytest.fixture(autouse=True)
def graph():
    with tf.Graph().as_default() as graph:
        yield graph


def in_threads(work, count=4):
    failures = []

    def guarded(k):
        try:
            work(k)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=guarded, args=(k,)) for k in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_two_sessions_run_one_graph_at_once():
    v = tf.Variable(0)
    add = v.assign_add(1)
    with tf.Session() as one, tf.Session() as two:
        one.run(v.initializer)
        two.run(v.initializer)
        in_threads(lambda k: [(one, two)[k % 2].run(add) for _ in range(50)])
        assert (one.run(v), two.run(v)) == (100, 100)


def test_threads_make_and_use_plans_of_one_session():
    x = tf.placeholder(tf.float32, [])
    with tf.Session() as session:
        product = [x * float(k) for k in range(4)]

        def work(k):
            for i in range(50):
                assert session.run(product[(k + i) % 4], {x: i}) == i * ((k + i) % 4)

        in_threads(work)


def test_threads_may_build_while_others_run(graph):
    x = tf.placeholder(tf.float32, [])
    with tf.Session() as session:

        def work(k):
            for i in range(20):
                with graph.as_default():
                    y = tf.add(x, float(i))
                assert session.run(y, {x: k}) == k + i

        in_threads(work)


def test_sessions_nest():
    x = tf.constant(1)
    with tf.Session() as outer:
        with tf.Session() as inner:
            assert tf.get_default_session() is inner
            with outer.as_default():
                assert tf.get_default_session() is outer
            assert tf.get_default_session() is inner
        assert tf.get_default_session() is outer
        assert outer.run(x) == 1
        with pytest.raises(RuntimeError, match="closed"):
            inner.run(x)
    assert tf.get_default_session() is None


def test_as_default_does_not_close():
    session = tf.Session()
    with session.as_default():
        assert tf.constant(1).eval() == 1
    assert session.run(tf.constant(2)) == 2
    session.close()


def test_interactive_sessions_close_in_any_order():
    one, two = tf.InteractiveSession(), tf.InteractiveSession()
    x = tf.constant(3)
    assert tf.get_default_session() is two
    one.close()
    assert x.eval() == 3
    two.close()
    with pytest.raises(ValueError, match="no default session"):
        x.eval()


def test_the_default_session_belongs_to_its_thread():
    seen = []
    with tf.Session():
        in_threads(lambda _: seen.append(tf.get_default_session()), 1)
    assert seen == [None]


def test_a_session_in_another_graph_builds_there():
    other = tf.Graph()
    with tf.Session(graph=other) as session:
        x = tf.constant(5)
        assert x.graph is other
        assert session.run(x) == 5


def test_a_session_that_nobody_holds_gives_back_its_threads():
    x = tf.placeholder_with_default(1, [])
    with tf.device("/cpu:1"):
        y = x + 1
    with tf.device("/cpu:0"):
        z = y * 2
    before = threading.active_count()
    session = tf.Session(config=tf.ConfigProto(device_count={"CPU": 2}))
    assert session.run(z) == 4
    assert threading.active_count() > before
    del session
    gc.collect()
    assert threading.active_count() == before


def test_an_exception_in_the_block_closes_the_session():
    with pytest.raises(ZeroDivisionError), tf.Session() as session:
        raise ZeroDivisionError
    with pytest.raises(RuntimeError, match="closed"):
        session.run(tf.constant(1))
    assert tf.get_default_session() is None


def test_empty_fetches_give_empty_structures():
    with tf.Session() as session:
        assert session.run([]) == []
        assert session.run({"a": (), "b": [[]]}) == {"a": (), "b": [[]]}


def test_the_sessions_deadline_is_that_of_its_runs():
    queue = tf.FIFOQueue(1, tf.int32)
    take = queue.dequeue()  # waits here
    with (
        tf.Session(config=tf.ConfigProto(operation_timeout_in_ms=100)) as session,
        pytest.raises(tf.errors.DeadlineExceededError, match=r"within 0.1 s") as caught,
    ):
        session.run(take)
    assert "# waits here" in "\n".join(caught.value.__notes__)


def test_options_copy_like_protocol_buffers():
    config = tf.ConfigProto(device_count={"CPU": 2})
    copy = tf.ConfigProto()
    copy.CopyFrom(config)
    copy.gpu_options.allow_growth = True
    copy.device_count["CPU"] = 1
    assert config.device_count == {"CPU": 2}
    assert not config.gpu_options.allow_growth
    assert copy != config


def test_values_with_nan_and_infinities_pass_through():
    x = tf.placeholder(tf.float32, [4])
    given = np.float32([np.nan, np.inf, -np.inf, -0.0])
    with tf.Session() as session:
        got = session.run(tf.identity(x) * 1.0, {x: given})
    np.testing.assert_array_equal(got, given)
    assert np.signbit(got[3])


@pytest.mark.parametrize("devices", [1, 2])
def test_planning_many_fetches_is_linear(devices):
    config = tf.ConfigProto(device_count={"CPU": devices})

    def work_of(size):
        with tf.Graph().as_default() as graph:
            start = tf.placeholder_with_default(0.0, [])
            fetches = [start + float(i) for i in range(size)]
        session = tf.Session(graph=graph, config=config)
        return lambda: session.run(fetches)

    assert_linear(work_of, 300)


def test_a_run_that_meets_the_end_of_its_session_says_so():
    config = tf.ConfigProto(device_count={"CPU": 2})
    started, failures = threading.Event(), []
    with tf.Graph().as_default():
        session = tf.Session(config=config)
        with tf.device("/cpu:1"):
            far = tf.py_func(lambda: (started.set(), np.float32(1))[1], [], tf.float32)

        with tf.device("/cpu:0"):
            total = far + 1.0

        def again():
            try:
                while True:
                    session.run(total)
            except Exception as error:
                failures.append(error)

        thread = threading.Thread(target=again)
        thread.start()
        assert started.wait(20)
        session.close()
        thread.join(20)
    assert not thread.is_alive()
    assert isinstance(failures[0], tf.errors.CancelledError) or "closed Session" in str(failures[0])

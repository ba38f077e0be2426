"""Runs are transactions: all or nothing, overlapping, and blocked ones hold nobody up."""

from __future__ import annotations

import threading

import numpy as np
import pytest

import graphflow as tf
from graphflow.base.waiting import telling


def test_reads_see_the_value_from_before_the_step_unless_ordered(session):
    v = tf.Variable(1)
    session.run(v.initializer)
    add = v.assign_add(10)
    with tf.control_dependencies([add]):
        after = tf.identity(v.value())
        through = v + 0
    assert session.run([v, add, after, through, add * 2]) == [1, 11, 11, 11, 22]
    assert session.run(v) == 11


def test_writes_follow_the_order_of_creation(session):
    v = tf.Variable(1.0)
    session.run(v.initializer)
    double = v.assign(v * 2.0)  # reads the value from before the step
    add = v.assign_add(1.0)
    assert session.run([add, double]) == [3.0, 2.0]
    assert session.run(v) == 3


def test_writes_follow_control_dependencies_against_creation(session):
    v = tf.Variable(0)
    session.run(v.initializer)
    five = v.assign(5)
    seven = v.assign(7)
    five.graph.add_control_input(five.op, seven.op)
    session.run([five.op, seven.op])
    assert session.run(v) == 5


def test_a_swap_needs_no_copy_by_the_user(session):
    a, b = tf.Variable(1), tf.Variable(2)
    session.run(tf.global_variables_initializer())
    swap = tf.group(a.assign(b.value()), b.assign(a.value()))
    session.run(swap)
    assert session.run([a, b]) == [2, 1]
    session.run(swap)
    assert session.run([a, b]) == [1, 2]


def test_an_edge_that_would_close_a_cycle_is_a_copy(session):
    a, b = tf.Variable(1), tf.Variable(2)
    session.run(tf.global_variables_initializer())
    write_a = a.assign(10)
    with tf.control_dependencies([write_a]):
        read_b = b.value()  # before the write of b, after that of a
    write_b = b.assign(20)
    with tf.control_dependencies([write_b]):
        read_a = a.value()  # before the write of a, after that of b
    assert session.run([read_a, read_b]) == [1, 2]
    assert session.run([a, b]) == [10, 20]


def test_a_failing_run_applies_nothing(session):
    v = tf.Variable(1)
    w = tf.Variable([1.0])
    session.run(tf.global_variables_initializer())
    x = tf.placeholder(tf.int32, [])
    with tf.control_dependencies([v.assign_add(1), w.assign([2.0])]):
        boom = tf.floordiv(1, x)
    with pytest.raises(tf.errors.InvalidArgumentError):
        session.run(boom, {x: 0})
    assert session.run(v) == 1
    assert session.run(w).tolist() == [1]
    session.run(boom, {x: 1})
    assert session.run(v) == 2


def test_an_uninitialised_variable_says_so_and_changes_nothing(session):
    ready = tf.Variable(0)
    missing = tf.Variable(1.0, name="missing")
    session.run(ready.initializer)
    with pytest.raises(tf.errors.FailedPreconditionError, match="uninitialized value missing") as e:
        session.run([ready.assign_add(1), missing * 2.0])  # run here
    assert "# run here" in "\n".join(e.value.__notes__)
    assert session.run(ready) == 0


def test_increments_from_many_threads_are_never_lost(session):
    v = tf.Variable(0)
    total = tf.Variable(0.0)
    session.run(tf.global_variables_initializer())
    add = tf.group(v.assign_add(1), total.assign(total + 2.0))
    session.run(v)

    def work():
        for _ in range(50):
            session.run(add)

    threads = [threading.Thread(target=work) for _ in range(6)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert session.run([v, total]) == [300, 600]


def test_a_run_that_loses_every_race_commits_and_lets_others_feed_it(session, monkeypatch):
    """It keeps others from committing only once it needs nothing from them."""
    from graphflow.execute import local
    from graphflow.execute.store import Conflict, Transaction

    monkeypatch.setattr(local, "_CONFLICTS", 1)
    queue = tf.FIFOQueue(4, [tf.int32], shapes=[[]])
    total = tf.Variable(0)
    session.run(total.initializer)
    take, put = total.assign_add(queue.dequeue()), queue.enqueue([5])
    commit, lost = Transaction.commit, []

    def unlucky(self):
        if threading.current_thread() is waiter and len(lost) < 1:
            lost.append(1)
            raise Conflict("total")
        return commit(self)

    monkeypatch.setattr(Transaction, "commit", unlucky)
    waiter = threading.Thread(target=session.run, args=(take,))
    waiter.start()
    session.run(put)
    waiter.join(20)
    assert not waiter.is_alive()
    assert lost
    assert session.run(total) == 5


class Loser:
    """A function for `py_func`: when it is called first, another run commits meanwhile, so that
    the one that it belongs to loses the race and is tried again."""

    def __init__(self, session, rival, result=lambda *values: 10):
        self.session, self.rival, self.result = session, rival, result
        self.calls = []

    def __call__(self, *values):
        self.calls.append(tuple(np.asarray(v).tolist() for v in values))
        if len(self.calls) == 1:
            other = threading.Thread(target=self.session.run, args=(self.rival,))
            other.start()
            other.join(20)
        return np.int32(self.result(*values))


def test_a_function_of_what_has_changed_is_called_again_by_a_run_that_lost(session):
    v = tf.Variable(0)
    session.run(v.initializer)
    function = Loser(session, v.assign_add(10), lambda value: value + 1)
    session.run(v.assign(tf.reshape(tf.py_func(function, [v], tf.int32), [])))
    assert session.run(v) == 11  # and not 1, from the value that has lost
    assert function.calls == [(0,), (10,)]


@pytest.mark.parametrize("arguments", [[], [np.float32("nan")], [b"name"]])
def test_a_function_of_what_is_the_same_is_called_once_by_a_run_that_lost(session, arguments):
    v = tf.Variable(0)
    session.run(v.initializer)
    function = Loser(session, v.assign_add(1))
    ten = tf.py_func(function, [tf.constant(a) for a in arguments], tf.int32)
    session.run(v.assign_add(tf.reshape(ten, [])))
    assert session.run(v) == 11
    assert len(function.calls) == 1


def test_a_run_that_lost_and_takes_another_branch_takes_its_own_input_there(session):
    v = tf.Variable(0)
    one, two = (tf.FIFOQueue(4, [tf.int32], shapes=[[]]) for _ in range(2))
    session.run([v.initializer, one.enqueue(100), two.enqueue(200)])
    function = Loser(session, v.assign_add(1), lambda value: value)
    taken = tf.cond(v > 0, two.dequeue, one.dequeue)
    session.run(v.assign_add(tf.reshape(tf.py_func(function, [taken], tf.int32), [])))
    assert session.run(v) == 201
    assert function.calls == [(100,), (200,)]


def test_a_run_that_lost_takes_as_many_elements_as_it_wants_now(session):
    v = tf.Variable(1)
    queue = tf.FIFOQueue(4, [tf.int32], shapes=[[]])
    session.run([v.initializer, queue.enqueue_many([[1, 2, 3]])])
    function = Loser(session, v.assign_add(1), lambda value: value.sum())
    taken = queue.dequeue_many(v)
    session.run(v.assign_add(tf.reshape(tf.py_func(function, [taken], tf.int32), [])))
    assert session.run(v) == 2 + 1 + 2
    assert session.run(queue.dequeue()) == 3


def test_threads_of_products_are_limited():
    import threadpoolctl

    with threadpoolctl.threadpool_limits(user_api="blas"):
        tf.Session(config=tf.ConfigProto(intra_op_parallelism_threads=1)).close()
        pools = threadpoolctl.threadpool_info()
        assert {p["num_threads"] for p in pools if p["user_api"] == "blas"} == {1}


def test_random_counters_are_rolled_back_with_a_failing_run():
    def draw(fail_first):
        with tf.Graph().as_default(), tf.Session() as s:
            noise = tf.random_uniform([3], seed=7)
            x = tf.placeholder(tf.int32, [])
            with tf.control_dependencies([noise]):
                boom = tf.floordiv(1, x)
            if fail_first:
                with pytest.raises(tf.errors.InvalidArgumentError):
                    s.run([noise, boom], {x: 0})
            return [s.run(noise).tolist() for _ in range(3)]

    plain = draw(False)
    assert draw(True) == plain
    assert plain[0] != plain[1]


def test_without_seeds_the_session_draws_one_and_tells_it():
    with tf.Graph().as_default():
        noise = tf.random_normal([4])
        with tf.Session() as one:
            first = one.run(noise)
        with tf.Session() as two:
            assert not np.array_equal(two.run(noise), first)
        with tf.Session(seed=one.seed) as again:
            np.testing.assert_array_equal(again.run(noise), first)


def test_a_blocked_dequeue_waits_while_another_thread_enqueues(session):
    queue = tf.FIFOQueue(10, [tf.int32], shapes=[[]])
    x = tf.placeholder(tf.int32, [])
    put, take = queue.enqueue([x]), queue.dequeue()
    taken = tf.Variable(0)
    session.run(taken.initializer)
    with tf.control_dependencies([taken.assign_add(take)]):
        done = tf.no_op()
    waiter = threading.Thread(target=session.run, args=(done,))
    waiter.start()
    assert session.run(taken.assign_add(100)) == 100  # the variable is not locked
    session.run(put, {x: 5})
    waiter.join(20)
    assert not waiter.is_alive()
    assert session.run(taken) == 105


def test_output_is_released_only_when_the_run_commits(session):
    queue = tf.FIFOQueue(10, [tf.int32], shapes=[[]])
    x = tf.placeholder(tf.int32, [])
    put = queue.enqueue([1])
    with tf.control_dependencies([put]):
        boom = tf.floordiv(1, x)
    with pytest.raises(tf.errors.InvalidArgumentError):
        session.run(boom, {x: 0})
    assert session.run(queue.size()) == 0
    session.run(boom, {x: 1})
    assert session.run(queue.size()) == 1


def test_output_that_fails_names_its_line_and_keeps_no_other_back(session, tmp_path):
    v = tf.Variable(0.0)
    session.run(v.initializer)
    grow = v.assign_add(1.0)
    lost = tf.write_file(str(tmp_path / "missing" / "file"), "a")
    other = tf.write_file(str(tmp_path / "file"), "b")
    with pytest.raises(tf.errors.NotFoundError, match="missing") as caught:
        session.run([grow, lost, other])
    notes = "\n".join(caught.value.__notes__)
    assert "in WriteFile 'WriteFile'()\n  built at" in notes
    assert "lost = tf.write_file" in notes
    assert "the run was committed before that" in notes
    assert caught.value.op is lost
    assert (tmp_path / "file").read_bytes() == b"b"
    assert session.run(v) == 1


def test_an_enqueue_that_waits_for_room_names_its_line(session):
    queue = tf.FIFOQueue(1, [tf.float32])
    enqueue = queue.enqueue(1.0)
    session.run(enqueue)
    with pytest.raises(tf.errors.DeadlineExceededError) as caught:
        session.run(enqueue, options=tf.RunOptions(timeout_in_ms=50))
    assert "enqueue = queue.enqueue(1.0)" in "\n".join(caught.value.__notes__)


def test_a_session_may_be_closed_by_its_own_function():
    config = tf.ConfigProto(device_count={"CPU": 2})
    with tf.Graph().as_default(), tf.Session(config=config) as session:
        with tf.device("/cpu:0"):
            here = tf.constant(1.0) + tf.placeholder_with_default(1.0, [])
        with tf.device("/cpu:1"):
            closing = tf.py_func(lambda: (session.close(), np.float32(1))[1], [], tf.float32)
        assert session.run([here, closing]) == [2.0, 1.0]


def test_closing_a_session_wakes_who_waits():
    with tf.Graph().as_default():
        queue = tf.FIFOQueue(10, [tf.int32])
        take = queue.dequeue()
        s = tf.Session()
        failures = []
        waiting = threading.Event()

        def work():
            try:
                with telling(waiting.set):
                    s.run(take)
            except tf.errors.OpError as error:
                failures.append(error)

        waiter = threading.Thread(target=work)
        waiter.start()
        assert waiting.wait(20)
        s.close()
        waiter.join(20)
        assert not waiter.is_alive()
        assert isinstance(failures[0], tf.errors.CancelledError)


def test_a_run_with_a_deadline_ends(session):
    queue = tf.FIFOQueue(10, [tf.int32])
    options = tf.RunOptions(timeout_in_ms=100)
    with pytest.raises(tf.errors.DeadlineExceededError):
        session.run(queue.dequeue(), options=options)


# ---- virtual devices


@pytest.fixture
def devices():
    config = tf.ConfigProto(device_count={"CPU": 3})
    with tf.Graph().as_default(), tf.Session(config=config) as s:
        yield s


def test_virtual_devices_run_what_is_asked_of_them(devices):
    x = tf.placeholder(tf.float32, [2])
    with tf.device("/cpu:1"):
        y = tf.exp(x)
    with tf.device("/cpu:2"):
        z = tf.reduce_sum(y) + y
    placement = devices.placement(z, {x: None})
    assert {d[-5:] for d in placement.devices.values()} == {"CPU:1", "CPU:2"}
    np.testing.assert_allclose(devices.run(z, {x: [0.0, 0.0]}), [3, 3])


def test_variables_stay_where_they_are(devices):
    with tf.device("/cpu:2"):
        v = tf.Variable(1.0)
    devices.run(v.initializer)
    with tf.device("/cpu:1"):
        y = v * 2.0
    assert devices.run([y, v.assign_add(1.0)]) == [2, 2]
    assert devices.run(v) == 2


def test_an_error_on_one_device_stops_the_others_and_applies_nothing(devices):
    x = tf.placeholder(tf.int32, [])
    with tf.device("/cpu:1"):
        v = tf.Variable(0)
        boom = tf.floordiv(1, x)  # the culprit
    devices.run(v.initializer)
    with tf.device("/cpu:2"):
        late = tf.identity(boom) + 1
    with tf.device("/cpu:1"):
        add = v.assign_add(1)
    with pytest.raises(tf.errors.InvalidArgumentError) as caught:
        devices.run([late, add], {x: 0})
    assert "# the culprit" in "\n".join(caught.value.__notes__)
    assert devices.run(v) == 0


def test_a_device_that_is_not_there_is_named(devices):
    with tf.device("/cpu:7"):
        x = tf.constant(1.0, name="far") + tf.placeholder_with_default(1.0, [])
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"CPU:7.*available"):
        devices.run(x)
    with tf.device("/gpu:0"):
        y = tf.placeholder_with_default(1.0, []) * 2.0
    with pytest.raises(tf.errors.InvalidArgumentError, match="GPU:0"):
        devices.run(y)

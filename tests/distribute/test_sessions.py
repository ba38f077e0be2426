"""Sessions on workers without Ray: messages, effects, overlapping runs, faults."""

from __future__ import annotations

import signal
import threading
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import graphflow as tf
from graphflow.base import errors
from graphflow.distribute.messages import Notice, Step
from graphflow.distribute.watch import PINGS
from tests.distribute.in_process import InProcess
from tests.distribute.programs import impatient, train
from tests.until import PATIENCE, asleep, forked, until

T0, T1 = "/job:worker/task:0", "/job:worker/task:1"


@pytest.fixture
def two(graph):
    """A variable on each worker, and a step that changes both by what the other one holds."""
    with tf.device(T0):
        a = tf.Variable(1.0, name="a")
    with tf.device(T1):
        b = tf.Variable(2.0, name="b")
    with tf.device(T0):
        grow_a = a.assign_add(b)
    with tf.device(T1):
        grow_b = b.assign_add(1.0)
    return a, b, tf.group(grow_a, grow_b)


@pytest.fixture
def session(cluster, two):
    with tf.Session(cluster=cluster) as session:
        session.run(tf.global_variables_initializer())
        yield session


def kinds(log):
    return [(worker[-1], type(message)) for worker, message in log]


def test_a_step_is_one_message_per_worker(cluster, session, two):
    grow = two[2]
    session.run(grow)
    cluster.log.clear()
    for _ in range(10):
        session.run(grow)
    assert sorted(kinds(cluster.log)) == sorted([("0", Step), ("1", Step)] * 10, key=str)


def test_a_worker_without_a_part_hears_of_a_commit_once_and_then_nothing(cluster, session, two):
    a, b, grow = two
    session.run(b)
    session.run(grow)
    cluster.log.clear()
    for _ in range(3):
        session.run(b)
    assert kinds(cluster.log) == [("1", Step), ("0", Notice), ("1", Step), ("1", Step)]
    assert session.run([a, b]) == [3.0, 3.0]


def test_plans_are_shipped_once(cluster, session, two):
    _, _, grow = two
    session.run(grow)
    before = session._target.statistics()
    for _ in range(5):
        session.run(grow)
    after = session._target.statistics()
    for worker in cluster.names:
        assert after[worker]["loads"] == before[worker]["loads"]
        assert after[worker]["steps"] == before[worker]["steps"] + 5


def test_training_gives_the_bits_of_one_process(cluster, graph):
    losses, weights = train(None, steps=6)
    with tf.Graph().as_default():
        far_losses, far_weights = train(cluster, steps=6, scopes=(T0, T1))
    np.testing.assert_array_equal(far_losses, losses)
    for far, near in zip(far_weights, weights, strict=True):
        np.testing.assert_array_equal(far, near)


def test_values_are_the_users_own(session, two):
    a, _, _ = two
    value = session.run(a)
    assert isinstance(value, np.float32)
    feed = np.zeros(3, np.float32)
    x = tf.placeholder(tf.float32, [3])
    v = tf.Variable(np.ones(3, np.float32))
    session.run(v.assign(x), {x: feed})
    feed[:] = 7
    fetched = session.run(v)
    fetched[:] = 8
    np.testing.assert_array_equal(session.run(v), np.zeros(3))
    one, two_ = session.run([v, v])
    assert one.flags.writeable
    assert two_.flags.writeable


def test_a_failure_on_one_worker_undoes_the_step_on_all(session, two):
    a, b, grow = two
    x = tf.placeholder(tf.int32, [None], name="x")
    with tf.device(T1):
        bad = tf.reshape(tf.zeros([4]), x, name="bad")
    with pytest.raises(errors.InvalidArgumentError) as caught:
        session.run([grow, bad], {x: [3]})
    notes = "\n".join(caught.value.__notes__)
    assert 'bad = tf.reshape(tf.zeros([4]), x, name="bad")' in notes
    assert "session.run([grow, bad], {x: [3]})" in notes
    assert caught.value.op is bad.op
    assert session.run([a, b]) == [1.0, 2.0]


def test_a_peer_that_waits_for_a_failed_one_is_woken(cluster, session, two):
    a, _, _ = two
    x = tf.placeholder(tf.int32, [None])
    with tf.device(T1):
        bad = tf.reshape(tf.zeros([4]), x)
    with tf.device(T0):
        needs_it = a.assign_add(tf.reduce_sum(bad))
    for _ in range(3):
        with pytest.raises(errors.InvalidArgumentError, match=r"do not fit|elements"):
            session.run(needs_it, {x: [3]})
    assert session.run(needs_it, {x: [4]}) == 1.0
    assert not cluster.host(0)._work.keys() - cluster.host(0)._machine.states.keys()


def test_what_an_aborted_run_sent_never_reaches_a_later_one(cluster, graph):
    held = []
    x = tf.placeholder(tf.float32, [])
    n = tf.placeholder(tf.int32, [None])
    with tf.device(T0):
        sent = x * 1.5
    with tf.device(T1):
        got = sent + 0.0
    with tf.device(T0):
        bad = tf.reshape(tf.zeros([4]), n)
    with tf.Session(cluster=cluster) as session:
        assert session.run([got, bad], {x: 2.0, n: [4]})[0] == 3.0
        cluster.deliver_later = held.append
        with pytest.raises(errors.InvalidArgumentError):
            session.run([got, bad], {x: 100.0, n: [3]})
        cluster.deliver_later = None
        with ThreadPoolExecutor(1) as pool:
            cluster.deliver_later = held.append
            later = pool.submit(session.run, got, {x: 4.0})
            while len(held) < 2:
                time.sleep(0.001)
            for deliver in held:  # the old value first
                deliver()
            assert later.result() == 6.0
        cluster.deliver_later = None
        assert [counts.get("late") for counts in session._target.statistics().values()] == [None, 1]


def test_uninitialised_variables_say_so(cluster, two):
    with (
        tf.Session(cluster=cluster) as session,
        pytest.raises(errors.FailedPreconditionError, match="uninitialized value"),
    ):
        session.run(two[2])


def test_sessions_on_one_cluster_have_their_own_variables(cluster, two):
    a, _, _ = two
    with tf.Session(cluster=cluster) as one, tf.Session(cluster=cluster) as other:
        one.run(a.initializer)
        one.run(a.assign(5.0))
        other.run(a.initializer)
        assert (one.run(a), other.run(a)) == (5.0, 1.0)


def test_threads_that_count_lose_nothing(session, two):
    """Overlapping runs of reads and writes on both workers, in opposite placements."""
    a, b, _ = two
    with tf.device(T0):
        up_a = a.assign_add(1.0)
    with tf.device(T1):
        up_b = b.assign_add(1.0)
    both = tf.group(up_a, up_b)

    def count():
        for fetch in (up_a, both, up_b) * 5:
            session.run(fetch)

    with ThreadPoolExecutor(4) as pool:
        for each in [pool.submit(count) for _ in range(4)]:
            each.result()
    assert session.run([a, b]) == [1 + 40, 2 + 40]


def test_a_blocked_dequeue_holds_nobody_up(cluster, session, two):
    a, _, _ = two
    with tf.device(T1):
        queue = tf.FIFOQueue(4, [tf.float32], shapes=[[]])
        value = queue.dequeue()
    with tf.device(T0):
        take = a.assign_add(value)  # it holds what it read of `a` while it waits
        up = a.assign_add(1.0)
    put = queue.enqueue(10.0)
    with ThreadPoolExecutor(1) as pool:
        before = cluster.sent(Step)
        taken = pool.submit(session.run, take)
        until(lambda: cluster.sent(Step) >= before + 2)
        for _ in range(5):
            session.run(up)
        assert not taken.done()
        session.run(put)
        assert taken.result(PATIENCE) == 16.0
    assert session.run(a) == 16.0


def test_an_enqueue_reaches_a_waiting_dequeue_without_a_further_run(cluster, session):
    with tf.device(T0):
        queue = tf.FIFOQueue(4, [tf.float32], shapes=[[]])
    value, put = queue.dequeue(), queue.enqueue(3.0)
    with ThreadPoolExecutor(1) as pool:
        before = cluster.sent(Step)
        taken = pool.submit(session.run, value)
        until(lambda: cluster.sent(Step) > before)
        session.run(put)
        assert taken.result(PATIENCE) == 3.0


def test_a_run_that_takes_too_long_ends_and_changes_nothing(session, two):
    a, _, grow = two
    with tf.device(T1):
        queue = tf.FIFOQueue(4, [tf.float32], shapes=[[]])
        value = queue.dequeue()
    options = tf.RunOptions(timeout_in_ms=200)
    with pytest.raises(errors.DeadlineExceededError, match=r"within 0.2 s: no answer .*task:1"):
        session.run([grow, value], options=options)
    assert session.run(a) == 1.0


def test_more_overlapping_runs_than_there_are_threads_are_refused(cluster, session):
    queue = tf.FIFOQueue(4, [tf.float32], shapes=[[]])
    value, put = queue.dequeue(), queue.enqueue(3.0)
    cluster.slots = session._target.conductor._slots = deque([None] * 2)
    with ThreadPoolExecutor(1) as pool:
        taken = pool.submit(session.run, value)
        until(lambda: cluster.sent(Step))
        with tf.Session(cluster=cluster) as other:
            assert other.run(tf.constant(1.0)) == 1.0
            cluster.slots.pop()
            for each in (session, other):
                with pytest.raises(errors.ResourceExhaustedError, match="overlapping runs"):
                    each.run(tf.constant(1.0))
            cluster.slots.append(None)
        session.run(put)
        assert taken.result(PATIENCE) == 3.0


def test_closing_wakes_whoever_waits(cluster, graph):
    queue = tf.FIFOQueue(4, [tf.float32], shapes=[[]])
    value = queue.dequeue()
    session = tf.Session(cluster=cluster)
    with ThreadPoolExecutor(1) as pool:
        taken = pool.submit(session.run, value)
        until(lambda: cluster.sent(Step))
        session.close()
        with pytest.raises(errors.CancelledError):
            taken.result(PATIENCE)
    session.close()


def test_a_worker_that_dies_in_a_run_is_named_and_later_runs_fail_at_once(cluster, session, two):
    a, _, grow = two
    with tf.device(T1):
        queue = tf.FIFOQueue(4, [tf.float32], shapes=[[]])
        value = queue.dequeue()
    with tf.device(T0):
        take = a.assign_add(value)
    with ThreadPoolExecutor(1) as pool:
        before = cluster.sent(Step)
        taken = pool.submit(session.run, take)
        until(lambda: cluster.sent(Step) > before)
        cluster.kill(1)
        with pytest.raises(errors.UnavailableError, match=r"task:1 was lost in run \d+: killed"):
            taken.result(PATIENCE)
    for fetch in (grow, a, tf.constant(1.0) + 1.0):
        with pytest.raises(errors.UnavailableError, match="variables that it held are lost"):
            session.run(fetch)
    session.close()


def test_a_worker_that_died_between_runs_is_noticed_by_the_next_one(cluster, session, two):
    cluster.kill(0)
    with pytest.raises(errors.UnavailableError, match="task:0 was lost"):
        session.run(two[0])


def test_a_frozen_worker_is_given_up_at_the_deadline(two):
    with InProcess(2) as cluster, tf.Session(cluster=cluster) as session:
        session.run(tf.global_variables_initializer())
        session.run(two[2])
        impatient(session, 0.4)
        cluster.freeze(1)
        start = time.monotonic()
        with pytest.raises(errors.DeadlineExceededError, match=r"task:1.*no sign of life for 0.4"):
            session.run(two[2])
        assert time.monotonic() - start > 0.3
        with pytest.raises(errors.DeadlineExceededError):
            session.run(two[0])


def test_a_worker_that_is_frozen_when_a_plan_is_shipped_is_given_up_too(two):
    with InProcess(2, deadline=0.3) as cluster, tf.Session(cluster=cluster) as session:
        cluster.freeze(1)
        with pytest.raises(errors.DeadlineExceededError, match=r"task:1.*did not answer 'load'"):
            session.run(tf.global_variables_initializer())


def test_a_long_run_outlives_the_deadline_while_its_workers_answer(two):
    deadline = 1.0  # a busy machine may keep a worker from answering for a while
    with InProcess(2) as cluster, tf.Session(cluster=cluster) as session:
        counts = session._target.conductor._counts[cluster.names[1]]
        with tf.device(T1):
            queue = tf.FIFOQueue(4, [tf.float32], shapes=[[]])
        value, put = queue.dequeue(), queue.enqueue(3.0)
        session.run(put)
        session.run(value)
        with ThreadPoolExecutor(1) as pool:
            impatient(session, deadline)
            start, before = time.monotonic(), counts["pings"]
            taken = pool.submit(session.run, value)
            until(lambda: counts["pings"] > before + PINGS)  # of which so many make a deadline
            assert time.monotonic() - start > deadline
            session.run(put)
            assert taken.result(PATIENCE) == 3.0


def test_input_is_taken_once_however_often_a_run_is_tried(session, two):
    a, _, _ = two
    with tf.device(T0):
        queue = tf.FIFOQueue(64, [tf.float32], shapes=[[]])
        add = a.assign_add(queue.dequeue())
    put = queue.enqueue(1.0)
    for _ in range(24):
        session.run(put)
    with ThreadPoolExecutor(4) as pool:
        for each in [pool.submit(session.run, add) for _ in range(24)]:
            each.result(PATIENCE)
    assert session.run(a) == 25.0
    assert session.run(queue.size()) == 0


def test_state_is_found_again_by_plans_that_would_rather_have_it_elsewhere(cluster):
    """Random counters and queues stay where they are first used, as variables do."""

    def program(where):
        with tf.Graph().as_default():
            r = tf.random_uniform([], seed=1)
            queue = tf.FIFOQueue(4, [tf.float32], shapes=[[]])
            with tf.device(T1 if where else ""):
                v = tf.Variable(tf.zeros([1000, 1000]))
                y = tf.reduce_sum(tf.matmul(v, v)) + r
                z = queue.dequeue() + v[0, 0]
            with tf.Session(cluster=where, seed=1) as session:
                session.run(v.initializer)
                session.run(queue.enqueue(5.0))
                options = tf.RunOptions(timeout_in_ms=60_000)
                return [session.run(f, options=options) for f in (r, y, r, y, z)]

    near = program(None)
    assert len(set(near)) == 5
    assert program(cluster) == near


def test_an_interrupt_undoes_the_run(cluster, session, two):
    a, _, grow = two
    with tf.device(T1):
        queue = tf.FIFOQueue(4, [tf.float32], shapes=[[]])
    value = queue.dequeue()
    main = threading.main_thread().ident

    def interrupt():
        until(lambda: asleep(session._target.conductor._bell))
        signal.pthread_kill(main, signal.SIGINT)

    interrupter = threading.Thread(target=interrupt)
    interrupter.start()
    with pytest.raises(KeyboardInterrupt):
        session.run([grow, value])
    interrupter.join(PATIENCE)
    assert session.run(a) == 1.0
    assert not session._target.conductor._machine.running


def test_an_interrupt_tears_no_message_from_those_it_belongs_to(cluster, session, two):
    a, b, grow = two
    session.run(grow)
    sent = []

    def interrupts(worker, message):
        sent.append(message)
        if len(sent) == 1:
            signal.raise_signal(signal.SIGINT)

    cluster.before = interrupts
    with pytest.raises(KeyboardInterrupt):
        session.run(grow)
    assert len(sent) > 1  # the other worker has its part, too
    assert session.run([a, b]) in ([3.0, 3.0], [6.0, 4.0])
    assert not session._target.conductor._machine.running


def test_in_a_fork_a_session_is_of_no_use_and_does_no_harm(cluster, session, two):
    a, b, grow = two
    sent = len(cluster.log)

    def child():
        for _ in range(2):
            with pytest.raises(errors.CancelledError, match="forked"):
                session.run(grow)
        session.close()
        assert len(cluster.log) == sent

    assert forked(child)
    session.run(grow)
    assert session.run([a, b]) == [3.0, 3.0]


def test_a_traced_run_tells_of_all_workers(session, two):
    metadata = tf.RunMetadata()
    options = tf.RunOptions(trace_level=tf.RunOptions.FULL_TRACE)
    session.run(two[2], options=options, run_metadata=metadata)
    assert len({span.device for span in metadata.step_stats}) == 2
    assert len(metadata.partition_graphs) == 2


def test_the_session_leaves_nothing_on_the_workers(cluster, session, two):
    for _ in range(20):
        session.run(two[2])
    host = cluster.host(0)
    assert len(host._work) <= 1  # the last one, whose commit rides on the next step
    assert len(host._inputs) <= 1
    assert not host._notices
    assert threading.active_count() < 80


@pytest.mark.parametrize("worker", [T0, T1])
def test_output_that_fails_on_a_worker_is_told_and_hurts_no_other_run(
    cluster, session, two, tmp_path, worker
):
    a, b, grow = two
    with tf.device(worker):
        lost = tf.write_file(str(tmp_path / "missing" / "file"), "a")
    with pytest.raises(errors.NotFoundError, match="missing") as caught:
        session.run([grow, lost])
    notes = "\n".join(caught.value.__notes__)
    assert "lost = tf.write_file" in notes
    assert "the run was committed before that" in notes
    assert session.run([a, b]) == [3, 3]
    session.run(grow)
    assert session.run([a, b]) == [6, 4]

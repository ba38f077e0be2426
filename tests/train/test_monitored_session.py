"""Monitored sessions, hooks, coordinators and queue runners."""

from __future__ import annotations

import json
import logging
import threading

import numpy as np
import pytest

import graphflow as tf
from graphflow.train import monitored_session


@pytest.fixture(autouse=True)
def graph():
    with tf.Graph().as_default() as g:
        yield g


def counting():
    """A program whose step and weight count."""
    step = tf.train.get_or_create_global_step()
    weight = tf.Variable(0.0, name="weight")
    train = tf.group(step.assign_add(1), weight.assign_add(0.5))
    return step, weight, train


def test_a_session_is_tried_again_until_lost_tasks_are_back(monkeypatch, caplog):
    monkeypatch.setattr(monitored_session, "_PAUSE", 0.01)
    counting()

    class Slow(tf.train.ChiefSessionCreator):
        tries = 0

        def create_session(self):
            self.tries += 1
            if self.tries < 3:
                raise tf.errors.UnavailableError(None, None, "/job:ps/task:0 is not there yet")
            return super().create_session()

    creator = Slow()
    with tf.train.MonitoredSession(creator) as session:
        assert session.run("weight:0") == 0.0
    assert creator.tries == 3
    assert "/job:ps/task:0 is not there yet" in caplog.text
    monkeypatch.setattr(monitored_session, "RETURNING", 0.0)
    never = Slow(creator.scaffold)
    never.tries = -1000
    with pytest.raises(tf.errors.UnavailableError, match="not there yet"):
        tf.train.MonitoredSession(never)


def test_training_that_is_over_does_not_go_on(tmp_path):
    """TensorFlow's does, by a step; in synchronous training nobody would be there for it."""
    for steps in (3, 0):
        with tf.Graph().as_default():
            _, _, train = counting()
            done = 0
            with tf.train.MonitoredTrainingSession(
                checkpoint_dir=str(tmp_path), hooks=[tf.train.StopAtStepHook(last_step=3)]
            ) as session:
                while not session.should_stop():
                    session.run(train)
                    done += 1
            assert done == steps


def test_training_stops_saves_and_goes_on(tmp_path):
    for last, begins in ((5, 0), (8, 5)):
        with tf.Graph().as_default():
            step, weight, train = counting()
            hooks = [tf.train.StopAtStepHook(last_step=last)]
            with tf.train.MonitoredTrainingSession(
                checkpoint_dir=str(tmp_path), hooks=hooks, save_checkpoint_steps=2
            ) as session:
                assert session.run(step) == begins
                assert session.run(weight) == begins / 2
                runs = 0
                while not session.should_stop():
                    session.run(train)
                    runs += 1
            assert runs == last - begins
        assert tf.train.latest_checkpoint(str(tmp_path)).endswith(f"model.ckpt-{last}")
    saved = tf.train.get_checkpoint_state(str(tmp_path)).all_model_checkpoint_paths
    assert [int(path.rpartition("-")[2]) for path in saved] == [2, 4, 5, 7, 8]


def test_the_graph_is_finalised_and_hooks_are_called_in_order():
    calls = []

    class Noted(tf.train.SessionRunHook):
        def __init__(self, name):
            self.name = name

        def begin(self):
            calls.append((self.name, "begin"))
            self.tensor = tf.constant(self.name)

        def after_create_session(self, session, coord):
            calls.append((self.name, "created"))

        def before_run(self, run_context):
            calls.append((self.name, "before"))
            return tf.train.SessionRunArgs({"mine": self.tensor})

        def after_run(self, run_context, run_values):
            calls.append((self.name, run_values.results["mine"].decode()))

        def end(self, session):
            calls.append((self.name, "end"))

    x = tf.placeholder(tf.float32, [])
    y = x * 2.0
    with tf.train.MonitoredSession(hooks=[Noted("a"), Noted("b")]) as session:
        assert session.run([y], {x: 3.0}) == [6]
        with pytest.raises(RuntimeError, match="finalized"):
            tf.constant(1)
    kinds = ["begin", "created", "before"]
    assert calls[:6] == [(name, kind) for kind in kinds for name in "ab"]
    assert calls[6:] == [("a", "a"), ("b", "b"), ("a", "end"), ("b", "end")]
    with pytest.raises(RuntimeError, match="closed"):
        session.run(y)


def test_the_end_of_input_leaves_the_loop_quietly_and_other_errors_do_not():
    queue = tf.FIFOQueue(3, [tf.int32], shapes=[[]])
    fill = tf.group(queue.enqueue_many([[1, 2, 3]]))
    take, close = queue.dequeue(), queue.close()
    x = tf.placeholder_with_default(0, [])
    boom = 1 // x
    ended = []

    class End(tf.train.SessionRunHook):
        def end(self, session):
            ended.append(True)

    with tf.train.MonitoredSession(hooks=[End()]) as session:
        session.run(fill)
        session.run(close)
        got = []
        while True:
            got.append(int(session.run(take)))
    assert got == [1, 2, 3]
    assert ended == [True]
    with tf.Graph().as_default(), pytest.raises(tf.errors.InvalidArgumentError):  # noqa: PT012
        x = tf.placeholder_with_default(0, [])
        boom = 1 // x
        with tf.train.MonitoredSession(hooks=[End()]) as session:
            session.run(boom)
    assert ended == [True]


def test_a_lost_worker_begins_again_from_the_last_checkpoint(tmp_path):
    step, _, train = counting()
    lost = []

    class Lose(tf.train.SessionRunHook):
        def before_run(self, run_context):
            if len(lost) < 1 and seen and seen[-1] == 3:
                lost.append(True)
                raise tf.errors.UnavailableError(None, None, "worker 1 is gone")

    seen = []
    hooks = [Lose(), tf.train.StopAtStepHook(last_step=5)]
    with tf.train.MonitoredTrainingSession(
        checkpoint_dir=str(tmp_path), hooks=hooks, save_checkpoint_steps=2
    ) as session:
        while not session.should_stop():
            session.run(train)
            seen.append(int(session.raw_session.run(step)))
    assert lost
    assert seen == [1, 2, 3, 3, 4, 5]  # the third step was not saved


def test_a_loss_that_threads_meet_first_begins_again_too(tmp_path):
    step, _, train = counting()
    seen = []

    class Fail(tf.train.SessionRunHook):
        def after_create_session(self, session, coord):
            self.coordinator = coord

        def before_run(self, run_context):
            if len(seen) == 3:
                gone = tf.errors.UnavailableError(None, None, "worker 1 is gone")
                self.coordinator.request_stop(gone)
                seen.append("lost")
                assert not session.should_stop()
                raise gone

    with tf.train.MonitoredTrainingSession(
        checkpoint_dir=str(tmp_path),
        hooks=[Fail(), tf.train.StopAtStepHook(last_step=5)],
        save_checkpoint_steps=1,
    ) as session:
        while not session.should_stop():
            session.run(train)
            seen.append(int(session.raw_session.run(step)))
    assert seen == [1, 2, 3, "lost", 4, 5]


def test_a_hook_that_fails_at_the_start_leaves_no_session():
    class Fail(tf.train.SessionRunHook):
        def after_create_session(self, session, coord):
            self.session = session
            raise ValueError("no")

    hook = Fail()
    with pytest.raises(ValueError, match="no"):
        tf.train.MonitoredSession(hooks=[hook])
    with pytest.raises(RuntimeError, match="closed"):
        hook.session.run([])


def test_a_variable_without_a_value_is_named():
    tf.Variable(1.0, name="forgotten")
    scaffold = tf.train.Scaffold(init_op=tf.no_op())
    line = r"no value for forgotten \(built at .*test_monitored_session.py:\d+"
    with pytest.raises(RuntimeError, match=line):
        tf.train.MonitoredSession(tf.train.ChiefSessionCreator(scaffold))


def test_nan_losses_are_noticed():
    x = tf.placeholder(tf.float32, [])
    loss = tf.sqrt(x)
    with tf.train.MonitoredSession(hooks=[tf.train.NanTensorHook(loss)]) as session:
        session.run(loss, {x: 4.0})
        with pytest.raises(tf.train.NanLossDuringTrainingError):
            session.run(loss, {x: -1.0})
    with tf.Graph().as_default():
        x = tf.placeholder(tf.float32, [])
        hook = tf.train.NanTensorHook(x * 1.0, fail_on_nan_loss=False)
        with tf.train.MonitoredSession(hooks=[hook]) as session:
            session.run([], {x: np.nan})
            assert session.should_stop()


def test_values_are_logged_every_so_often(caplog):
    _, weight, train = counting()
    hook = tf.train.LoggingTensorHook({"w": weight}, every_n_iter=2, at_end=True)
    with (
        caplog.at_level(logging.INFO, "graphflow"),
        tf.train.MonitoredSession(hooks=[hook]) as session,
    ):
        for _ in range(4):
            session.run(train)
    logged = [r.getMessage().split(" (")[0] for r in caplog.records if "w = " in r.getMessage()]
    assert logged == ["w = 0.0", "w = 1.0", "w = 2.0"]


def test_a_profiler_hook_writes_traces(tmp_path):
    step, _, train = counting()
    hook = tf.train.ProfilerHook(save_steps=2, output_dir=str(tmp_path / "traces"))
    with tf.train.MonitoredSession(hooks=[hook]) as session:
        for _ in range(5):
            session.run(train)
    found = {path.name: json.loads(path.read_text()) for path in (tmp_path / "traces").iterdir()}
    assert sorted(found) == ["timeline-2.json", "timeline-4.json"]
    for trace in found.values():
        assert step.handle.op.name in str(trace["traceEvents"])


def test_options_of_a_hook_and_of_the_program_add_up():
    seen = []

    class Traces(tf.train.SessionRunHook):
        def before_run(self, run_context):
            return tf.train.SessionRunArgs(options=tf.RunOptions(trace_level=3))

        def after_run(self, run_context, run_values):
            seen.append((run_values.options, run_values.run_metadata))

    x = tf.placeholder(tf.float32, [])
    y = tf.exp(x)
    with tf.train.MonitoredSession(hooks=[Traces()]) as session:
        session.run(y, {x: 0.0}, options=tf.RunOptions(timeout_in_ms=9000))
    (options, metadata) = seen[0]
    assert (options.trace_level, options.timeout_in_ms) == (3, 9000)
    assert metadata.step_stats[0].op == "Exp"


def test_a_worker_may_wait_for_others():
    step = tf.train.get_or_create_global_step()
    up = step.assign_add(1)
    looks = []

    class Others(tf.train.SessionRunHook):
        """Go on by a step whenever somebody looks."""

        def after_create_session(self, session, coord):
            self.wait, coord.wait_for_stop = coord.wait_for_stop, self.look
            self.session = session

        def look(self, seconds):
            looks.append(seconds)
            self.session.run(up)
            return self.wait(0)

    waiter = tf.train.GlobalStepWaiterHook(3)
    with tf.train.MonitoredSession(hooks=[waiter, Others()]) as session:
        assert session.run(step) == 3
        assert session.run(step) == 3
        assert len(looks) == 3
    never = tf.train.GlobalStepWaiterHook(10**9)
    with tf.train.MonitoredSession(hooks=[never]) as session:
        never._coordinator.request_stop()  # as a failing thread does
        session.run(step)


@pytest.mark.parametrize(
    ("hook", "by", "counts"),
    [
        (lambda: tf.train.StopAtStepHook(last_step=5), 1, [1, 1, 1, 1, 2]),
        (lambda: tf.train.StopAtStepHook(num_steps=5), 1, [1, 1, 1, 1, 2]),
        (lambda: tf.train.StopAtStepHook(last_step=6), 3, [1, 1, 2]),
        (lambda: tf.train.StopAtStepHook(last_step=3), 0, [1] * 9),
        (lambda: tf.train.GlobalStepWaiterHook(0), 1, [1] * 9),
        (lambda: tf.train.NanTensorHook("x:0"), 1, [1] * 9),
        (lambda: tf.train.LoggingTensorHook(["x:0"], every_n_iter=3), 1, [1] * 9),
        (lambda: tf.train.FeedFnHook(lambda: {"x:0": 2.0}), 1, [1] * 9),
    ],
)
def test_hooks_run_the_session_as_often_as_tensorflows(monkeypatch, hook, by, counts):
    """The numbers are TensorFlow 2.21's, for at most nine runs of the program."""
    step = tf.train.get_or_create_global_step()
    tf.constant(1.0, name="x")
    up = step.assign_add(by)
    runs, found = [], []
    inner = tf.Session.run

    def counted(*args, **options):
        runs.append(args)
        return inner(*args, **options)

    monkeypatch.setattr(tf.Session, "run", counted)
    with tf.train.MonitoredSession(hooks=[hook()]) as session:
        while not session.should_stop() and len(found) < 9:
            before = len(runs)
            session.run(up)
            found.append(len(runs) - before)
    assert found == counts


def test_hooks_want_exactly_one_interval():
    with pytest.raises(ValueError, match="either"):
        tf.train.StopAtStepHook()
    with pytest.raises(ValueError, match="either"):
        tf.train.CheckpointSaverHook("x", save_secs=1, save_steps=1)
    with pytest.raises(ValueError, match="either"):
        tf.train.StepCounterHook(every_n_steps=3, every_n_secs=1)
    with pytest.raises(ValueError, match="every_n_iter is 0"):
        tf.train.LoggingTensorHook(["x:0"], every_n_iter=0)
    with pytest.raises(RuntimeError, match="needs a global step"):
        tf.train.MonitoredSession(hooks=[tf.train.StopAtStepHook(last_step=1)])


def test_a_checkpoint_hook_takes_the_saver_that_there_is(tmp_path):
    counting()
    savers = [tf.train.Saver(), tf.train.Saver()]
    with pytest.raises(ValueError, match="either saver or scaffold"):
        tf.train.CheckpointSaverHook("x", 1, saver=savers[0], scaffold=tf.train.Scaffold())
    hook = tf.train.CheckpointSaverHook(str(tmp_path), save_steps=1)
    scaffold = tf.train.Scaffold(saver=savers[0])  # so nobody else puts one into the collection
    with pytest.raises(RuntimeError, match="0 savers in the collection SAVERS"):
        tf.train.SingularMonitoredSession([hook], scaffold)
    with tf.Graph().as_default():
        counting()
        with tf.train.SingularMonitoredSession([hook]):
            pass
    assert tf.train.latest_checkpoint(str(tmp_path)).endswith("model.ckpt-0")


def test_nothing_may_be_run_at_the_end():
    hook = tf.train.FinalOpsHook(None)
    with tf.train.MonitoredSession(hooks=[hook]):
        pass
    assert hook.final_ops_values is None


def test_values_are_logged_by_tag(caplog):
    x = tf.constant(2.0)
    hook = tf.train.LoggingTensorHook({"b": x, "a": x}, at_end=True)
    with caplog.at_level(logging.INFO, "graphflow"), tf.train.MonitoredSession(hooks=[hook]):
        pass
    assert "a = 2.0, b = 2.0" in caplog.text


# ---- coordinators and queue runners


def test_queue_runners_fill_until_they_are_stopped():
    queue = tf.FIFOQueue(5, [tf.int32], shapes=[[]])
    counter = tf.Variable(0)
    put = queue.enqueue([counter.assign_add(1)])
    tf.train.add_queue_runner(tf.train.QueueRunner(queue, [put]))
    take = queue.dequeue()
    coord = tf.train.Coordinator()
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        threads = tf.train.start_queue_runners(session, coord)
        assert [int(session.run(take)) for _ in range(20)] == list(range(1, 21))
        coord.request_stop()
        coord.join(threads)
    assert not any(t.is_alive() for t in threads)


def test_a_failing_runner_stops_everybody_and_is_raised_by_join():
    queue = tf.FIFOQueue(5, [tf.int32], shapes=[[]])
    zero = tf.placeholder_with_default(0, [])
    runner = tf.train.QueueRunner(queue, [queue.enqueue([1 // zero])])
    coord = tf.train.Coordinator()
    with tf.Session() as session:
        threads = runner.create_threads(session, coord, daemon=True, start=True)
        with pytest.raises(tf.errors.InvalidArgumentError):
            coord.join(threads)
        with pytest.raises(tf.errors.OpError):
            session.run(queue.dequeue())


def test_the_end_of_a_runners_input_closes_its_queue():
    source = tf.FIFOQueue(3, [tf.int32], shapes=[[]])
    target = tf.FIFOQueue(3, [tf.int32], shapes=[[]])
    runner = tf.train.QueueRunner(target, [target.enqueue([source.dequeue()])])
    fill, close, take = source.enqueue_many([[7, 8]]), source.close(), target.dequeue()
    coord = tf.train.Coordinator()
    with tf.Session() as session:
        session.run(fill)
        session.run(close)
        threads = runner.create_threads(session, coord, start=True, daemon=True)
        assert [session.run(take), session.run(take)] == [7, 8]
        with pytest.raises(tf.errors.OutOfRangeError):
            session.run(take)
        coord.request_stop()
        coord.join(threads)


def test_a_coordinator_names_threads_that_do_not_stop():
    coord = tf.train.Coordinator()
    release = threading.Event()
    thread = threading.Thread(target=release.wait, name="stubborn")
    thread.start()
    coord.request_stop()
    with pytest.raises(RuntimeError, match="stubborn"):
        coord.join([thread], stop_grace_period_secs=0.05)
    release.set()
    thread.join()
    with coord.stop_on_exception():
        raise KeyError("late")
    with pytest.raises(KeyError, match="late"):
        coord.join()
    coord.clear_stop()
    assert not coord.should_stop()
    coord.join([])

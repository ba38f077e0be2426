"""What makes sessions of training programs: scaffolds, session managers, supervisors."""

from __future__ import annotations

import pytest

import graphflow as tf


@pytest.fixture(autouse=True)
def graph():
    with tf.Graph().as_default() as g:
        yield g


# ---- scaffolds


def test_a_graph_that_is_finalised_serves_further_sessions(tmp_path):
    step = tf.train.get_or_create_global_step()
    train = step.assign_add(1)
    for begins in (0, 1):
        with tf.train.MonitoredTrainingSession(checkpoint_dir=str(tmp_path)) as session:
            assert session.run(step) == begins
            session.run(train)


def test_parts_are_taken_from_the_collections_of_the_graph():
    local = tf.get_local_variable("local", initializer=tf.constant(0))
    size = tf.placeholder(tf.int32, [])
    first = tf.train.Scaffold(
        local_init_op=local.assign(size + 1).op, local_init_feed_dict={size: 4}
    )
    with tf.train.MonitoredSession(tf.train.ChiefSessionCreator(first)) as session:
        assert session.run(local) == 5
    copy = tf.train.Scaffold(copy_from_scaffold=first)
    assert copy.local_init_feed_dict == {size: 4}
    assert copy.ready_op is tf.get_collection(tf.GraphKeys.READY_OP)[0]
    with pytest.raises(TypeError, match="no Scaffold"):
        tf.train.Scaffold(copy_from_scaffold={})


def test_a_workers_scaffold_is_fed_too():
    local = tf.get_local_variable("local", initializer=tf.constant(0))
    size = tf.placeholder(tf.int32, [])
    scaffold = tf.train.Scaffold(
        local_init_op=local.assign(size).op, local_init_feed_dict={size: 4}
    )
    with tf.train.MonitoredSession(tf.train.WorkerSessionCreator(scaffold)) as session:
        assert session.run(local) == 4


def test_one_of_several_in_a_collection_has_to_be_named():
    for _ in range(2):
        tf.add_to_collection(tf.GraphKeys.INIT_OP, tf.no_op())
    with pytest.raises(RuntimeError, match=r"'init_op' has 2 .*Scaffold\(init_op=...\)"):
        tf.train.Scaffold().finalize()


def test_init_fn_gets_the_scaffold_and_the_session():
    v = tf.Variable(1.0)
    load = v.assign(5.0).op
    seen = []

    def init(scaffold, session):
        seen.append(scaffold)
        session.run(load)

    scaffold = tf.train.Scaffold(init_fn=init)
    with tf.train.MonitoredSession(tf.train.ChiefSessionCreator(scaffold)) as session:
        assert session.run(v) == 5.0
    with tf.Session() as session:
        scaffold.init_fn(session)
        assert session.run(v) == 5.0
    assert seen == [scaffold] * 2


# ---- MonitoredTrainingSession


@pytest.mark.parametrize(
    ("how", "saved"),
    [
        ({}, True),
        ({"save_checkpoint_secs": None}, False),
        ({"save_checkpoint_steps": None}, False),
        ({"save_checkpoint_secs": None, "save_checkpoint_steps": 2}, True),
        ({"save_checkpoint_secs": 0}, False),
    ],
)
def test_none_says_that_nothing_is_saved(tmp_path, how, saved):
    train = tf.train.get_or_create_global_step().assign_add(1)
    with tf.train.MonitoredTrainingSession(checkpoint_dir=str(tmp_path), **how) as session:
        session.run(train)
    assert (tf.train.latest_checkpoint(str(tmp_path)) is not None) == saved


def test_the_programs_hooks_come_after_those_that_save(tmp_path):
    """As in TensorFlow: in the end, a hook finds the last checkpoint."""
    train = tf.train.get_or_create_global_step().assign_add(1)
    calls = []

    class Noted(tf.train.SessionRunHook):
        def __init__(self, name):
            self.name = name

        def end(self, session):
            calls.append((self.name, (tf.train.latest_checkpoint(str(tmp_path)) or "")[-2:]))

    with tf.train.MonitoredTrainingSession(
        checkpoint_dir=str(tmp_path), hooks=[Noted("mine")], chief_only_hooks=[Noted("chief")]
    ) as session:
        session.run(train)
    assert calls == [("chief", "-0"), ("mine", "-1")]


def test_a_step_function_gets_a_context():
    x = tf.placeholder(tf.int32, [])
    y = x + 1
    with tf.train.MonitoredSession() as session:

        def step(context):
            assert isinstance(context, tf.train.MonitoredSession.StepContext)
            context.request_stop()
            return context.run_with_hooks(y, {x: 1}) + context.session.run(x, {x: 1})

        assert session.run_step_fn(step) == 3
        assert session.should_stop()


# ---- session managers


def test_a_session_that_does_not_get_ready_is_closed(tmp_path):
    v = tf.Variable(1.0, name="v")
    manager = tf.train.SessionManager(ready_op=tf.report_uninitialized_variables())
    made = []

    def fail(session):
        made.append(session)
        raise KeyError("no")

    with pytest.raises(KeyError, match="no"):
        manager.prepare_session("", init_op=v.initializer, init_fn=fail)
    with pytest.raises(RuntimeError, match="no value for v"):
        manager.prepare_session("", init_fn=made.append)
    for session in made:
        with pytest.raises(RuntimeError, match="closed"):
            session.run(v)
    with pytest.raises(tf.errors.DeadlineExceededError, match="no checkpoint came into"):
        manager.recover_session(
            "", tf.train.Saver(), str(tmp_path), wait_for_checkpoint=True, max_wait_secs=0
        )


# ---- supervisors


def test_a_supervisor_initialises_tables_too():
    v = tf.get_local_variable("v", initializer=tf.constant(1))
    with tf.control_dependencies([v.initializer]):
        tf.add_to_collection(tf.GraphKeys.TABLE_INITIALIZERS, v.assign(2).op)
    with tf.train.Supervisor().managed_session() as session:
        assert session.run(v) == 2


def test_a_supervisor_answers_to_its_old_names(tmp_path):
    v = tf.Variable(1.0, name="v")
    supervisor = tf.train.Supervisor(logdir=str(tmp_path), save_model_secs=7)
    assert supervisor.save_model_secs == 7
    session = supervisor.PrepareSession()
    assert session.run(v) == 1.0
    with pytest.raises(RuntimeError, match="summary_writer"):
        supervisor.SummaryComputed(session, b"")
    assert not supervisor.ShouldStop()
    with supervisor.StopOnException():
        raise KeyError("mine")
    assert supervisor.should_stop()
    with pytest.raises(KeyError, match="mine"):
        supervisor.Stop()
    session.close()
    again = tf.train.Supervisor(logdir=str(tmp_path))  # on the graph that the first one finalised
    assert again.saver is supervisor.saver
    assert again.init_op is supervisor.init_op

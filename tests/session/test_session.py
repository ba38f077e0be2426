"""Session.run: errors with the user's lines, plans that are kept, options, the end of a session."""

from __future__ import annotations

import pickle
import re

import pytest

import graphflow as tf


def test_the_readme_program_prints_3(capsys):
    with tf.Graph().as_default():
        a = tf.Variable(1, name="a")
        b = tf.Variable(2, name="b")
        f = a + b
        init = tf.global_variables_initializer()
        with tf.Session():
            init.run()
            print(f.eval())
    assert capsys.readouterr().out == "3\n"


# ---- errors


def test_merged_operations_name_all_lines(session):
    x = tf.placeholder(tf.int32, [])
    one = tf.floordiv(1, x)  # the first line
    two = tf.floordiv(1, x, name="again")  # the second line
    with pytest.raises(tf.errors.InvalidArgumentError) as caught:
        session.run(one + two, {x: 0})
    notes = "\n".join(caught.value.__notes__)
    assert "# the first line" in notes
    assert re.search("'again' at .*# the second line", notes)


def test_errors_in_bodies_name_the_lines_of_all_loops_and_branches(session):
    x = tf.placeholder(tf.int32, [])

    def body(i):
        return tf.cond(  # the branch
            i > 1,
            lambda: tf.floordiv(6, x),  # the division
            lambda: i + 1,
        )

    loop = tf.while_loop(lambda i: i < 9, body, [0])  # the loop
    with pytest.raises(tf.errors.InvalidArgumentError) as caught:
        session.run(loop, {x: 0})  # the run
    notes = "\n".join(caught.value.__notes__)
    for line in ("the branch", "the division", "the loop", "the run"):
        assert f"# {line}" in notes


def test_errors_have_tensorflows_fields_and_pickle(session):
    x = tf.placeholder(tf.int32, [])
    boom = tf.floordiv(1, x, name="mine")
    with pytest.raises(tf.errors.OpError) as caught:
        session.run(boom, {x: 0})
    error = caught.value
    assert error.op is boom.op
    assert error.node_def == "mine"
    assert error.error_code == tf.errors.INVALID_ARGUMENT
    assert error.message == "integer division by zero"
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is type(error)
    assert (copy.op, copy.node_def, copy.message) == (None, "mine", error.message)
    assert copy.__notes__ == error.__notes__


# ---- the cache


def test_a_growing_graph_leaves_cached_plans_valid(session):
    x = tf.placeholder(tf.float32, [])
    y = x + 1.0
    assert session.run(y, {x: 1.0}) == 2
    cached = dict(session._cache)
    z = y * 2.0
    assert session.run(y, {x: 2.0}) == 3
    assert session._cache == cached
    assert session.run(z, {x: 1.0}) == 4


def test_set_shape_after_a_run_is_seen(session):
    x = tf.placeholder(tf.float32, [None])
    assert session.run(x, {x: [1.0]}).tolist() == [1]
    x.set_shape([2])
    with pytest.raises(ValueError, match="Cannot feed value of shape"):
        session.run(x, {x: [1.0]})


def test_plans_of_a_graph_that_has_changed_are_dropped(session):
    x = tf.placeholder(tf.float32, None)
    y = x + 1.0
    for size in range(5):
        tf.placeholder(tf.float32, None).set_shape([size])
        assert session.run(y, {x: [1.0]}).tolist() == [2]
    assert len(session._cache) == 1


def test_a_control_input_added_after_a_run_is_seen(session):
    v = tf.Variable(0)
    session.run(v.initializer)
    y = tf.constant(1) + 0
    add = v.assign_add(1)
    session.run(y)
    y.graph.add_control_input(y.op, add.op)
    session.run(y)
    assert session.run(v) == 1


def test_a_cycle_through_control_inputs_names_both_lines(session):
    a = tf.constant(1) + 1  # first
    b = a + 1  # second
    a.graph.add_control_input(a.op, b.op)
    with pytest.raises(ValueError, match="cycle") as caught:
        session.run(b)
    assert "# first" in str(caught.value)
    assert "# second" in str(caught.value)


# ---- lifetime


def test_a_closed_session_does_not_run():
    with tf.Graph().as_default():
        x = tf.constant(1)
        s = tf.Session()
        assert s.run(x) == 1
        s.close()
        s.close()
        with pytest.raises(RuntimeError, match="closed Session"):
            s.run(x)


def test_sessions_have_their_own_state():
    with tf.Graph().as_default():
        v = tf.Variable(0)
        with tf.Session() as one, tf.Session() as two:
            one.run(v.initializer)
            two.run(v.initializer)
            one.run(v.assign_add(5))
            assert one.run(v) == 5
            assert two.run(v) == 0


def test_an_interactive_session_is_the_default():
    with tf.Graph().as_default():
        s = tf.InteractiveSession()
        assert tf.constant(3).eval() == 3
        s.close()
        with pytest.raises(ValueError, match="no default session"):
            tf.constant(3).eval()


def test_eval_and_run_take_a_session():
    with tf.Graph().as_default() as graph:
        v = tf.Variable(4)
    with tf.Session(graph=graph) as s:
        v.initializer.run(session=s)
        assert v.eval(session=s) == 4
        assert (v + 1).eval(session=s) == 5
    with tf.Graph().as_default(), tf.Session() as other, pytest.raises(ValueError, match="another"):
        (v + 1).eval(session=other)


def test_unknown_targets_and_wrong_types_are_refused():
    with pytest.raises(ValueError, match="unknown target"):
        tf.Session("http://nowhere:1")
    with pytest.raises(TypeError, match=r"tf\.Graph"):
        tf.Session(graph="g")
    with pytest.raises(TypeError, match="ConfigProto"):
        tf.Session(config={"device_count": 1})


# ---- options


def test_config_proto_has_tensorflows_fields_and_no_others():
    config = tf.ConfigProto(
        device_count={"CPU": 2},
        intra_op_parallelism_threads=1,
        inter_op_parallelism_threads=1,
        allow_soft_placement=True,
        log_device_placement=False,
    )
    config.gpu_options.allow_growth = True
    with tf.Graph().as_default(), tf.Session(config=config) as s:
        assert len(s.list_devices()) == 2
        assert s.run(tf.constant(1)) == 1
    with pytest.raises(TypeError):
        tf.ConfigProto(alow_soft_placement=True)
    with pytest.raises(AttributeError):
        config.gpu_options.alow_growth = True


def test_placement_can_be_logged(capsys):
    config = tf.ConfigProto(log_device_placement=True)
    with tf.Graph().as_default(), tf.Session(config=config) as s:
        x = tf.placeholder(tf.float32, [])
        s.run(tf.exp(x, name="e"), {x: 0.0})
    assert "e: (Exp): /job:localhost/replica:0/task:0/device:CPU:0" in capsys.readouterr().err


def test_a_full_trace_names_each_kernel(session):
    x = tf.placeholder(tf.float32, [])
    metadata = tf.RunMetadata()
    options = tf.RunOptions(trace_level=tf.RunOptions.FULL_TRACE)
    session.run(tf.exp(x, name="e"), {x: 0.0}, options=options, run_metadata=metadata)
    assert [(s.name, s.op) for s in metadata.step_stats] == [("e", "Exp")]
    assert metadata.step_stats[0].seconds > 0


def test_a_trace_has_tensorflows_fields(session):
    x = tf.placeholder(tf.float32, [])
    y = tf.exp(tf.sin(x, name="first"), name="second")
    metadata = tf.RunMetadata()
    options = tf.RunOptions(trace_level=tf.RunOptions.FULL_TRACE)
    session.run(y, {x: 0.0}, options=options, run_metadata=metadata)
    (device,) = metadata.step_stats.dev_stats
    assert device.device == session.list_devices()[0]
    assert [node.node_name for node in device.node_stats] == ["first", "second"]
    first, second = device.node_stats
    assert first.all_start_micros + first.all_end_rel_micros <= second.all_start_micros + 1
    assert second.timeline_label == "second = Exp()"
    assert tf.RunMetadata().step_stats.dev_stats == []


def test_plans_are_told_without_a_trace(session):
    metadata = tf.RunMetadata()
    options = tf.RunOptions(output_partition_graphs=True)
    session.run(tf.constant(1.0), options=options, run_metadata=metadata)
    assert "constant float32[]" in metadata.partition_graphs[0]
    assert metadata.step_stats == []


def test_a_partial_run_is_refused_with_what_to_do(session):
    x = tf.placeholder(tf.float32, [])
    with pytest.raises(tf.errors.UnimplementedError, match="feed its values"):
        session.partial_run_setup([x], [x])
    with pytest.raises(tf.errors.UnimplementedError, match="feed its values"):
        session.partial_run("handle", x, feed_dict={x: 1.0})


def test_make_callable(session):
    x = tf.placeholder(tf.float32, [])
    double = session.make_callable(x * 2.0, [x])
    assert double(3.0) == 6
    with pytest.raises(ValueError, match="1 values are needed"):
        double()


def test_a_failing_control_input_stops_what_waits_for_it(session):
    x = tf.placeholder(tf.int32, [])
    with tf.control_dependencies([tf.floordiv(1, x), tf.assert_less(x, 9)]):
        y = tf.constant(5) + 0
    assert session.run(y, {x: 1}) == 5
    with pytest.raises(tf.errors.InvalidArgumentError, match="division by zero"):
        session.run(y, {x: 0})
    with pytest.raises(tf.errors.InvalidArgumentError, match="x < y did not hold"):
        session.run(y, {x: 9})


def test_memory_that_is_not_there_is_a_typed_error(session):
    size = tf.placeholder(tf.int32, [])
    big = tf.ones([size, size])  # too big
    with pytest.raises(tf.errors.ResourceExhaustedError) as caught:
        session.run(tf.reduce_sum(big), {size: 10**7})
    assert "# too big" in "\n".join(caught.value.__notes__)
    with pytest.raises(tf.errors.InvalidArgumentError, match="negative"):
        session.run(big, {size: -1})

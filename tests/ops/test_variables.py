"""Variables: initial values, reading, writing, scopes and what they pass on."""

from __future__ import annotations

import numpy as np
import pytest

import graphflow as tf


@pytest.fixture
def session():
    with tf.Graph().as_default(), tf.Session() as session:
        yield session


def initialised(session, *fetches):
    session.run([tf.global_variables_initializer(), tf.local_variables_initializer()])
    return session.run(fetches[0] if len(fetches) == 1 else list(fetches))


# ---- making


def test_initial_values_may_be_functions_tensors_arrays_and_numbers(session):
    made = [
        tf.Variable(lambda: tf.fill([2], 3.0)),
        tf.Variable(tf.fill([2], 3.0)),
        tf.Variable(np.float32([3, 3])),
        tf.Variable([3.0, 3.0]),
    ]
    for value in initialised(session, *made):
        assert value.tolist() == [3, 3]
        assert value.dtype == np.float32


def test_collections_decide_what_is_initialised_and_trained(session):
    plain = tf.Variable(1.0)
    fixed = tf.Variable(1.0, trainable=False)
    local = tf.Variable(1.0, collections=[tf.GraphKeys.LOCAL_VARIABLES], trainable=False)
    named = tf.get_local_variable("named", [], initializer=tf.zeros_initializer())
    mine = tf.Variable(1.0, collections=["mine"], trainable=False)
    assert tf.global_variables() == [plain, fixed]
    assert tf.trainable_variables() == [plain]
    assert tf.local_variables() == [local, named]
    assert tf.get_collection("mine") == [mine]
    session.run(tf.global_variables_initializer())
    missing = session.run(tf.report_uninitialized_variables())
    assert missing.tolist() == [b"Variable_2", b"named"]


def test_a_variable_of_unknown_shape_takes_any(session):
    x = tf.placeholder(tf.float32, [None])
    v = tf.Variable(x, validate_shape=False)
    assert v.shape.ndims is None
    session.run(v.initializer, {x: [1, 2]})
    assert session.run(v).tolist() == [1, 2]
    session.run(v.assign([1.0, 2.0, 3.0]))
    assert session.run(v).tolist() == [1, 2, 3]


def test_initialising_from_another_variable(session):
    v = tf.Variable(tf.random_normal([3]))
    w = tf.Variable(v.initialized_value() * 2.0)
    a, b = initialised(session, v, w)
    np.testing.assert_array_equal(a * 2, b)


def test_a_variable_made_in_a_branch_or_loop_belongs_to_the_root(session):
    def body(i):
        with tf.variable_scope("inside", reuse=tf.AUTO_REUSE):
            step = tf.get_variable("step", [], tf.int32, tf.ones_initializer())
        return i + step

    loop = tf.while_loop(lambda i: i < 3, body, [0])
    (v,) = tf.global_variables()
    assert v.graph is tf.get_default_graph()
    assert v.name == "inside/step:0"
    assert initialised(session, loop) == 3


# ---- reading and writing


def test_each_way_to_write(session):
    v = tf.Variable([1.0, 2.0])
    session.run(v.initializer)
    assert session.run(v.assign([3.0, 4.0])).tolist() == [3, 4]
    assert session.run(tf.assign_add(v, [1.0, 1.0])).tolist() == [4, 5]
    assert session.run(v.assign_sub([1.0, 0.0])).tolist() == [3, 5]
    assert session.run(v.assign([0.0, 0.0], read_value=False)) is None
    v.load([7.0, 8.0], session)
    assert v.eval().tolist() == [7, 8]
    with pytest.raises(TypeError, match="float32"):
        v.assign(["a", "b"])
    with pytest.raises(ValueError, match="shapes"):
        v.assign([1.0, 2.0, 3.0])


def test_a_value_of_another_shape_is_refused_in_the_run(session):
    v = tf.Variable([1.0, 2.0])
    x = tf.placeholder(tf.float32)
    session.run(v.initializer)
    write = v.assign(x)
    add = v.assign_add(x)
    for update in (write, add):
        with pytest.raises(tf.errors.InvalidArgumentError):
            session.run(update, {x: [1, 2, 3]})
        with pytest.raises(tf.errors.InvalidArgumentError):
            session.run(update, {x: [[1, 2], [3, 4]]})
    assert session.run(v).tolist() == [1, 2]


def test_operators_and_indexing_work_on_variables(session):
    v = tf.Variable([1.0, 2.0, 3.0])
    got = initialised(session, v + 1.0, 2.0 * v, -v, v[1], v[::-1], v > 2.0, tf.reduce_sum(v))
    assert [np.asarray(g).tolist() for g in got] == [
        [2, 3, 4], [2, 4, 6], [-1, -2, -3], 2, [3, 2, 1], [False, False, True], 6,
    ]  # fmt: skip
    with pytest.raises(TypeError, match="cannot be iterated"):
        iter(v)


def test_reads_follow_the_control_dependencies_in_force(session):
    v = tf.Variable(1)
    add = v.assign_add(1)
    with tf.control_dependencies([add]):
        after = v.read_value()
        value = v.value()
    session.run(v.initializer)
    assert session.run([after, value, v]) == [2, 2, 1]


# ---- get_variable


def test_initializers_of_each_kind(session):
    made = [
        tf.get_variable("by_class", [2], initializer=tf.ones_initializer),
        tf.get_variable("by_object", [2], initializer=tf.constant_initializer(1.0)),
        tf.get_variable("by_value", initializer=[1.0, 1.0]),
        tf.get_variable("by_tensor", initializer=tf.ones([2])),
        tf.get_variable("by_nothing", initializer=lambda: tf.ones([2])),
        tf.get_variable("by_shape", [2], initializer=lambda shape, dtype: tf.ones(shape, dtype)),
        tf.get_variable("by_tf", [2], initializer=lambda shape, **kwargs: tf.ones(shape)),
    ]
    for value in initialised(session, *made):
        assert value.tolist() == [1, 1]
    assert tf.get_variable("ints", initializer=3).dtype is tf.int32
    assert tf.get_variable("zeros", [2], tf.int64).dtype is tf.int64


def test_scopes_pass_their_defaults_on(session):
    regularized = []

    def regularizer(value):
        regularized.append(value)
        return tf.reduce_sum(value)

    with tf.variable_scope(
        "outer",
        initializer=tf.constant_initializer(2.0),
        regularizer=regularizer,
        dtype=tf.float64,
        constraint=tf.abs,
    ):
        v = tf.get_variable("v", [2])
        with tf.variable_scope("inner", dtype=tf.float32):
            w = tf.get_variable("w", [])
            plain = tf.get_variable("plain", [], initializer=tf.zeros_initializer())
    assert (v.dtype, w.dtype, v.constraint) == (tf.float64, tf.float32, tf.abs)
    assert initialised(session, v, w, plain)[0].tolist() == [2, 2]
    assert regularized == [v, w, plain]
    names = [t.name for t in tf.get_collection(tf.GraphKeys.REGULARIZATION_LOSSES)]
    assert names[0] == "outer/v/Regularizer/Sum:0"


def test_a_regularizer_is_called_once_for_a_reused_variable():
    with tf.Graph().as_default():
        for _ in range(2):
            with tf.variable_scope("s", reuse=tf.AUTO_REUSE):
                tf.get_variable("v", [2], regularizer=tf.nn.l2_loss)
        assert len(tf.get_collection(tf.GraphKeys.REGULARIZATION_LOSSES)) == 1


def test_custom_getters_nest_and_see_all_options(session):
    calls = []

    def outer(getter, name, *args, **kwargs):
        calls.append(("outer", name, kwargs["dtype"]))
        return getter(name, *args, **kwargs)

    def inner(getter, name, shape=None, dtype=None, **kwargs):
        calls.append(("inner", name, dtype))
        return tf.cast(getter(name, shape, dtype=tf.float32, **kwargs), dtype)

    with tf.variable_scope("s", custom_getter=outer):
        v = tf.get_variable("v", [2], tf.float64, custom_getter=inner)
    assert calls == [("inner", "s/v", tf.float64), ("outer", "s/v", tf.float32)]
    assert v.dtype is tf.float64
    assert tf.global_variables()[0].dtype is tf.float32


def test_layers_that_are_called_twice_share_by_default_names():
    """What opens a scope again gets the same default names inside."""

    def layer(x):
        with tf.variable_scope(None, "dense"):
            return x * tf.get_variable("w", [])

    with tf.Graph().as_default():
        x = tf.placeholder(tf.float32, [])
        for reuse in (False, True):
            with tf.variable_scope("net", reuse=reuse):
                layer(layer(x))
        assert [v.op.name for v in tf.global_variables()] == ["net/dense/w", "net/dense_1/w"]


def test_scopes_are_left_when_something_fails():
    with tf.Graph().as_default():
        with (
            pytest.raises(ZeroDivisionError),
            tf.variable_scope("s", reuse=True),
            tf.device("/cpu:1"),
            tf.control_dependencies([tf.no_op()]),
        ):
            raise ZeroDivisionError
        scope = tf.get_variable_scope()
        assert (scope.name, scope.reuse) == ("", False)
        x = tf.constant(1)
        assert (x.name, x.device, x.op.control_inputs) == ("Const:0", "", ())


def test_an_unknown_variable_and_one_made_twice_name_what_to_do():
    with tf.Graph().as_default():
        tf.get_variable("v", [2])  # made here
        with pytest.raises(ValueError, match="exists already") as caught:
            tf.get_variable("v", [2])
        assert "# made here" in str(caught.value)
        with (
            tf.variable_scope("s", reuse=True),
            pytest.raises(ValueError, match=r"'s/w' does not exist.*AUTO_REUSE"),
        ):
            tf.get_variable("w", [2])


def test_initial_values_computed_from_other_variables():
    """One run initialises all, in whatever order; later each has its own value."""
    with tf.Graph().as_default(), tf.Session() as session:
        a = tf.Variable(tf.random_normal([3], seed=1))
        b = tf.Variable(a)
        c = tf.Variable(tf.reduce_sum(b * 2.0) + a)
        session.run(tf.global_variables_initializer())
        x, y, z = session.run([a, b, c])
        np.testing.assert_array_equal(x, y)
        np.testing.assert_allclose(z, 2 * x.sum() + x, rtol=1e-6)
        session.run(a.assign([1.0, 1.0, 1.0]))
        session.run(b.initializer)  # now from the value that a has
        assert session.run(b).tolist() == [1, 1, 1]


def test_containers_nest_and_reach_into_bodies():
    def made(name):
        return tf.Variable(lambda: 1.0, name=name)

    found = {}

    def body(i):
        found["body"] = made("body")
        return i + 1

    with tf.Graph().as_default(), tf.container("a"):
        found["outer"] = made("outer")
        with tf.container("b"):
            found["inner"] = made("inner")
        with tf.container(""):
            found["none"] = made("none")
        tf.while_loop(lambda i: i < 1, body, [0])
        queues = [tf.FIFOQueue(1, [tf.int32], shared_name="q")]
        with tf.container("b"):
            queues.append(tf.FIFOQueue(2, [tf.int32], shared_name="q"))
        with tf.Session() as session:  # of one name, they would have one capacity
            assert session.run([queue.size() for queue in queues]) == [0, 0]
    told = {name: v.op.get_attr("container") for name, v in found.items()}
    assert told == {"outer": "a", "inner": "b", "none": "", "body": "a"}
    with pytest.raises(TypeError, match="named by a string"), tf.container(None):
        pass

"""What a session may be given: any tensor, and values that fit it."""

from __future__ import annotations

import numpy as np
import pytest

import graphflow as tf


@pytest.mark.parametrize("feeds", [[1.0], {1.0}])
def test_feeds_that_are_no_mapping_are_refused(session, feeds):
    with pytest.raises(TypeError, match="feed_dict must be a mapping"):
        session.run(tf.constant(1.0), feeds)


def test_any_tensor_may_be_fed(session):
    x = tf.placeholder(tf.float32, [2])
    y = x * 2.0
    z = tf.reduce_sum(y) + 1.0
    assert session.run(z, {y: [10, 20]}) == 31  # x is not needed
    assert session.run(z, {x: [1, 2], "mul:0": [1, 1]}) == 3
    assert session.run(y, {y: [7, 8]}).tolist() == [7, 8]
    constant = tf.constant(5.0)
    assert session.run(constant + 1.0, {constant: 1.0}) == 2


def test_a_fed_tensor_that_rewriting_would_remove_still_counts(session):
    x = tf.placeholder(tf.float32, [])
    inner = -x
    outer = -inner  # the algebra rules make this x
    assert session.run(outer, {x: 3.0}) == 3
    assert session.run(outer, {x: 3.0, inner: 5.0}) == -5


def test_a_feed_that_is_not_needed_is_ignored(session):
    x = tf.placeholder(tf.float32, [])
    assert session.run(tf.constant(1), {x: 2.0}) == 1


def test_a_fed_variable_hides_its_value(session):
    v = tf.Variable(1.0)
    y = v * 10.0
    assert session.run(y, {v: 2.0}) == 20


def test_feeds_nest(session):
    x, y = tf.placeholder(tf.int32, []), tf.placeholder(tf.int32, [])
    assert session.run(x + y, {(x, y): (1, 2)}) == 3
    assert session.run(x + y, {(x, y): (3, 4)}) == 7


# ---- values


@pytest.mark.parametrize(
    ("dtype", "value", "error"),
    [
        (tf.float32, np.ones(3), ValueError),
        (tf.float32, [[1.0], [2.0, 3.0]], ValueError),
        (tf.int32, [1.5, 2.0], TypeError),
        (tf.int32, np.array([1.5, 2.0]), TypeError),
        (tf.uint8, [300, 1], TypeError),
        (tf.float32, ["a", "b"], TypeError),
        (tf.float32, [1j, 2j], TypeError),
        (tf.bool, [0.5, 0.0], TypeError),
        (tf.int32, [float("nan"), 1.0], TypeError),
        (tf.int32, [2**40, 1], TypeError),
        (tf.int64, [2**70, 1], TypeError),
        (tf.float32, [np.datetime64("2020-01-01")] * 2, TypeError),
        (tf.string, [1, 2], TypeError),
        (tf.float32, None, TypeError),
    ],
)
def test_feeds_that_do_not_fit_name_both_lines(session, dtype, value, error):
    x = tf.placeholder(dtype, [2], name="x")  # built here
    with pytest.raises(error) as caught:
        session.run(x, {x: value})  # run here
    notes = "\n".join(caught.value.__notes__)
    assert "x" in str(caught.value)
    assert "# built here" in notes
    assert "# run here" in notes


@pytest.mark.parametrize(
    ("dtype", "value", "wanted"),
    [
        (tf.float32, True, 1.0),
        (tf.float32, np.bool_(True), 1.0),
        (tf.int32, 3.0, 3),
        (tf.int32, True, 1),
        (tf.bool, 1, True),
        (tf.float32, [np.float64(1), 2], [1, 2]),
        (tf.float32, range(2), [0, 1]),
        (tf.float32, (), []),
        (tf.float32, np.arange(4.0)[::-2], [3, 1]),
        (tf.float32, np.asfortranarray(np.ones((2, 2))), [[1, 1], [1, 1]]),
        (tf.float32, memoryview(np.ones(2)), [1, 1]),
        (tf.float32, np.zeros((0, 3)), []),
        (tf.float32, np.array([1, 2], np.int8), [1, 2]),
        (tf.complex64, 1, 1),
    ],
)
def test_feeds_of_all_kinds(session, dtype, value, wanted):
    x = tf.placeholder(dtype)
    got = session.run(tf.identity(x), {x: value})
    assert got.dtype == dtype.as_numpy_dtype
    np.testing.assert_array_equal(got.tolist(), wanted)


# ---- memory


def test_subclasses_of_arrays_become_arrays(session):
    class Celsius(np.ndarray):
        pass

    x = tf.placeholder(tf.float64, [2])
    given = np.array([1.0, 2.0]).view(Celsius)
    assert type(session.run(x, {x: given})) is np.ndarray
    assert type(session.run(x * 2.0, {x: np.ma.masked_array([1.0, 2.0])})) is np.ndarray


def test_read_only_arrays_are_fed_and_come_back_writeable(session):
    x = tf.placeholder(tf.float32, [2])
    mine = np.ones(2, np.float32)
    mine.flags.writeable = False
    for fetch in (x, tf.identity(x), tf.reshape(x, [2, 1]), tf.exp(x)):
        session.run(fetch, {x: mine})[:] = 7
    assert mine.tolist() == [1, 1]


def test_some_outputs_may_be_fed(session):
    x = tf.placeholder(tf.float32, [2, 3])
    a, b = tf.unstack(x)
    total = a + b
    ones = np.ones((2, 3))
    np.testing.assert_array_equal(session.run(total, {x: ones, a: [1, 2, 3]}), [2, 3, 4])
    np.testing.assert_array_equal(session.run([a, b], {x: ones, a: [1, 2, 3]})[0], [1, 2, 3])
    assert session.run(total, {a: [1, 2, 3], b: [1, 1, 1]}).tolist() == [2, 3, 4]
    slope = tf.gradients(tf.square(a), x)[0]
    assert session.run(slope, {x: ones, a: [3, 4, 5]}).tolist() == [[6, 8, 10], [0, 0, 0]]


def test_a_shape_of_the_run_that_does_not_fit_fails(session):
    x = tf.placeholder(tf.float32, [2])
    shape = tf.placeholder_with_default([2], [1])
    for y in (tf.reshape(x, shape), tf.reshape(tf.reshape(x, shape), [2, 1])):
        assert session.run(y, {x: [1, 2]}).size == 2
        with pytest.raises(tf.errors.InvalidArgumentError):
            session.run(y, {x: [1, 2], shape: [3]})


def test_feeds_convert_where_nothing_is_lost(session):
    x = tf.placeholder(tf.int32, [None])
    assert session.run(x, {x: np.array([1.0, 2.0])}).dtype == np.int32
    assert session.run(x, {x: np.array([1, 2], ">i8")}).tolist() == [1, 2]
    y = tf.placeholder(tf.float32, [])
    assert session.run(y, {y: 1}) == 1
    s = tf.placeholder(tf.string, [None])
    assert session.run(s, {s: ["a", b"b"]}).tolist() == [b"a", b"b"]


def test_a_tensor_that_is_fed_twice_is_named_with_its_keys(session):
    x = tf.placeholder(tf.float32, [], name="x")
    with pytest.raises(ValueError, match=r"feeds 'x:0' twice, as <.*> and 'x:0'"):
        session.run(x, {x: 1.0, "x:0": 2.0})


def test_a_tensor_is_no_feed(session):
    x = tf.placeholder(tf.float32, [])
    with pytest.raises(TypeError, match="fetch the tensor first"):
        session.run(x, {x: tf.constant(1.0)})


def test_an_unfed_placeholder_names_its_line(session):
    x = tf.placeholder(tf.float32, [2], name="x")  # built here
    with pytest.raises(
        tf.errors.InvalidArgumentError, match="feed a value for placeholder tensor 'x'"
    ) as e:
        session.run(x + 1.0)  # run here
    notes = "\n".join(e.value.__notes__)
    assert "# built here" in notes
    assert "# run here" in notes
    assert e.value.op is x.op


def test_a_fed_array_stays_the_users_own(session):
    v = tf.Variable([0.0, 0.0])
    x = tf.placeholder(tf.float32, [2])
    assign = v.assign(x)
    mine = np.array([1, 2], np.float32)
    session.run(assign, {x: mine})
    mine[:] = 99
    assert session.run(v).tolist() == [1, 2]


# ---- odd places


def test_tensors_inside_chains_and_gradients_are_fed(session):
    x = tf.placeholder(tf.float32, [2])
    h = tf.tanh(x, name="h")
    y = tf.reduce_sum((h * 2.0 + 1.0) * 3.0)
    slope_x, slope_h = tf.gradients(y, [x, h])
    assert session.run(y, {h: [1, 2]}) == 24
    assert session.run(slope_x, {x: [0, 0], h: [1, 1]}).tolist() == [0, 0]
    assert session.run(slope_x, {x: [0, 0], slope_h: [5, 5]}).tolist() == [5, 5]
    assert session.run([y, "mul:0"], {x: [0, 0], "mul:0": [1, 1]})[0] == 12
    assert session.run(y, {"add/y:0": 0.0, h: [1, 2]}) == 18


def test_shapes_are_fed(session):
    x = tf.placeholder(tf.float32, [None, 2])
    shape = tf.shape(x)
    y = tf.reshape(x, shape)
    ones = np.ones((3, 2))
    assert session.run(y, {x: ones}).shape == (3, 2)
    assert session.run(shape, {shape: [9, 9]}).tolist() == [9, 9]


def test_initial_values_are_fed(session):
    v = tf.Variable(1.0)
    session.run(v.initializer, {v.initial_value: 5.0})
    assert session.run(v) == 5

"""Loops and branches over variables that live on different devices."""

import numpy as np
import pytest

import graphflow as tf
from graphflow.base.errors import InvalidArgumentError


@pytest.fixture(autouse=True)
def graph():
    with tf.Graph().as_default() as graph:
        yield graph


def variables():
    with tf.device("/cpu:0"):
        a = tf.Variable(1.5, name="a")
    with tf.device("/cpu:1"):
        b = tf.Variable(2.0, name="b")
        w = tf.Variable(0.5 * np.eye(3, dtype=np.float32), name="w")
    return a, b, w


def outcome(fetches, cpus, soft=False):
    """Three runs of the fetches, on so many virtual devices."""
    config = tf.ConfigProto(device_count={"CPU": cpus}, allow_soft_placement=soft or cpus == 1)
    with tf.Session(config=config) as session:
        session.run(tf.global_variables_initializer())
        return [session.run(fetches) for _ in range(3)]


def same_on_two_devices(fetches, soft=False):
    one, two = outcome(fetches, 1), outcome(fetches, 2, soft)
    for left, right in zip(one, two, strict=True):
        for a, b in zip(left, right, strict=True):
            np.testing.assert_array_equal(a, b)


def loop(a, b, w):
    x = tf.constant(np.ones((2, 3), np.float32))
    return tf.while_loop(
        lambda i, h: i < 4, lambda i, h: (i + 1, tf.matmul(h, w) * a + b), [tf.constant(0), x]
    )[1]


def test_a_loop_that_reads_variables_of_two_devices():
    same_on_two_devices([loop(*variables())])


def test_its_gradient():
    a, b, w = variables()
    loss = tf.reduce_sum(loop(a, b, w))
    train = tf.train.GradientDescentOptimizer(0.01).minimize(loss)
    with tf.control_dependencies([train]):
        after = [tf.identity(v.read_value()) for v in (a, b, w)]
    same_on_two_devices([loss, *after])


def test_a_branch_that_reads_one_variable_and_writes_another():
    a, b, _ = variables()
    result = tf.cond(a > 2, lambda: a + b, lambda: a.assign_add(b))
    same_on_two_devices([result])


def test_a_read_keeps_its_place_among_writes():
    a, b, w = variables()
    with tf.control_dependencies([b.assign_add(1.0)]):
        result = loop(a, b, w)
    same_on_two_devices([result])


def test_writes_to_both_cannot_be_placed():
    a, b, _ = variables()
    result = tf.cond(a > 0, lambda: a.assign_add(1.0), lambda: b.assign_add(1.0))
    with pytest.raises(InvalidArgumentError, match="must share a device") as caught:
        outcome([result], 2)
    assert "VarHandle 'a'" in str(caught.value)
    assert "VarHandle 'b'" in str(caught.value)
    assert "or allow soft placement" not in str(caught.value)  # variables stay


def loop_and_gradient(grow):
    """A loop and its gradient, asked for on two devices."""
    x = tf.placeholder_with_default(np.float32([0.5, 2.0]), [2])
    with tf.device("/cpu:0"):
        _, y = tf.while_loop(lambda i, h: i < 3, lambda i, h: (i + 1, grow(h, x)), [0, x])
    with tf.device("/cpu:1"):
        return [y, tf.convert_to_tensor(tf.gradients(y, x)[0])]


@pytest.mark.parametrize(
    "grow",
    [lambda h, x: h * tf.sin(h), lambda h, x: h * tf.gather(x, [1, 0])],
    ids=["dense", "sparse"],
)
def test_a_loop_and_its_gradient_on_two_devices_share_one_when_soft(grow):
    """What the loop records does not travel."""
    fetches = loop_and_gradient(grow)
    same_on_two_devices(fetches, soft=True)
    with pytest.raises(InvalidArgumentError, match="or allow soft placement"):
        outcome(fetches, 2)


def test_a_soft_loop_reads_variables_of_two_devices_where_they_are():
    """Reads move out of it before requests give way."""
    a, b, w = variables()
    result = loop(a, b, w)
    config = tf.ConfigProto(device_count={"CPU": 2}, allow_soft_placement=True)
    with tf.Session(config=config) as session:
        state = session.placement([result, a.initializer, b.initializer]).state
    assert [state[v.handle.op.name][-5:] for v in (a, b)] == ["CPU:0", "CPU:1"]

"""What a session may be asked for: tensors by any name, nested in any way; and what may not be."""

from __future__ import annotations

import collections

import numpy as np
import pytest

import graphflow as tf


def test_fetches_nest_in_any_way(session):
    Pair = collections.namedtuple("Pair", "left right")
    one, two = tf.constant(1, name="one"), tf.constant([2.0], name="two")
    nothing = tf.no_op()
    got = session.run(
        {"a": one, "b": [two, (one, nothing)], "c": Pair("two:0", {"d": "one:0"}), "e": []}
    )
    assert got["a"] == 1
    assert isinstance(got["a"], np.int32)
    assert got["b"][1] == (1, None)
    assert isinstance(got["c"], Pair)
    np.testing.assert_array_equal(got["c"].left, np.float32([2.0]))
    assert got["c"].right == {"d": 1}
    assert got["e"] == []
    ordered = session.run(collections.OrderedDict([("z", one), ("y", two)]))
    assert list(ordered) == ["z", "y"]


def test_fetches_of_the_users_own_classes(session):
    class Names(list):
        pass

    attr = pytest.importorskip("attr")

    @attr.s(eq=False)
    class Pair:
        first = attr.ib()
        second = attr.ib()

    a, b = tf.constant(1.0), tf.constant(2.0)
    got = session.run(collections.defaultdict(list, x=a))
    assert got == {"x": 1.0}
    assert got["missing"] == []
    assert session.run(collections.Counter({"x": a})) == {"x": 1.0}
    assert session.run(Names([a, [b]])) == [1.0, [2.0]]
    pair = session.run(Pair(a, {"b": b}))
    assert isinstance(pair, Pair)
    assert (pair.first, pair.second) == (1.0, {"b": 2.0})


@pytest.mark.parametrize("what", [{1.0}, np.zeros(2), bytearray(b"x")])
def test_unhashable_fetches_are_named(session, what):
    with pytest.raises(TypeError, match=f"of type {type(what).__name__} is no tensor"):
        session.run(what)


def test_an_operation_is_fetched_as_none(session):
    assert session.run(tf.no_op(name="n")) is None
    assert session.run("n") is None


def test_a_variable_is_fetched_by_itself_and_by_name(session):
    v = tf.Variable([1.0, 2.0], name="v")
    session.run(v.initializer)
    for fetch in (v, "v:0", v.value(), "v/read:0"):
        np.testing.assert_array_equal(session.run(fetch), [1, 2])


def test_a_variables_name_finds_its_read_behind_bodies_and_in_a_finished_graph(session):
    """Ids count the operations of bodies, too; they are no places in the list of the root."""
    tf.cond(tf.constant(True), lambda: tf.constant(1.0) + 1.0, lambda: tf.constant(2.0))
    v = tf.Variable(3.0, name="v")
    session.run(v.initializer)
    session.graph.finalize()
    assert session.run("v:0") == 3
    assert session.run(v, {"v:0": 4.0}) == 4


def test_scalars_come_back_as_numpy_scalars(session):
    value = session.run(tf.constant(1.5))
    assert isinstance(value, np.float32)
    assert value == 1.5


@pytest.mark.parametrize("what", [None, 3, object(), [object()]])
def test_what_is_no_graph_element_cannot_be_fetched(session, what):
    with pytest.raises(TypeError, match="no tensor, operation, variable or name"):
        session.run(what)


def test_unknown_names_are_value_errors_that_suggest(session):
    tf.constant(1, name="weight")
    with pytest.raises(ValueError, match="did you mean 'weight'"):
        session.run("weigth:0")
    with pytest.raises(ValueError, match="not in the graph"):
        session.run(tf.constant(0), {"gone:0": 1})


def test_a_value_that_took_the_name_of_its_tensor_is_told(session):
    loss = tf.constant(2.0)
    loss = session.run(loss)
    with pytest.raises(TypeError, match="did what `run` returned take a tensor's name"):
        session.run(loss)


def test_a_gradient_that_is_none_says_why():
    x, y = tf.constant(1.0), tf.constant(2.0)
    with tf.Session() as session, pytest.raises(TypeError, match="the result does not depend on"):
        session.run(tf.gradients(x * 3.0, [x, y]))


def test_elements_of_another_graph_are_refused(session):
    with tf.Graph().as_default():
        stranger = tf.placeholder(tf.float32, [])
    built = r"not an element of this graph, but of another one \(built at .*test_fetches.py:\d+"
    with pytest.raises(ValueError, match=built):
        session.run(stranger)
    with pytest.raises(ValueError, match=built):
        session.run(stranger.op)
    with pytest.raises(ValueError, match="not an element of this graph"):
        session.run(tf.constant(0), {stranger: 1.0})


def test_slices_are_fetched_and_fed(session):
    table = tf.Variable([[1.0, 2.0], [3.0, 4.0]])
    session.run(table.initializer)
    (slices,) = tf.gradients(tf.reduce_sum(tf.gather(table, [1, 1])), table)
    got = session.run({"g": [slices]})["g"][0]
    assert isinstance(got, tf.IndexedSlicesValue)
    assert got.values.tolist() == [[1, 1], [1, 1]]
    assert got.indices.tolist() == [1, 1]
    assert got.dense_shape.tolist() == [2, 2]
    dense = tf.convert_to_tensor(slices)
    assert session.run(dense).tolist() == [[0, 0], [2, 2]]
    assert session.run(dense, {slices: got}).tolist() == [[0, 0], [2, 2]]
    other = ([[5.0, 6.0], [0.0, 1.0]], [0, 0], [2, 2])
    assert session.run(dense, {slices: other}).tolist() == [[5, 7], [0, 0]]
    assert session.run(dense, {slices: other[:2]}).tolist() == [[5, 7], [0, 0]]
    with pytest.raises(ValueError, match="values, indices, dense_shape"):
        session.run(dense, {slices: np.ones(3)})
    loose = tf.IndexedSlices([1.0], [0])
    assert session.run(loose) == ([1.0], [0], None)


# ---- memory


def test_a_fetched_array_is_the_users_own(session):
    v = tf.Variable([1.0, 2.0])
    session.run(v.initializer)
    first = session.run(v)
    first[:] = 99
    assert session.run(v).tolist() == [1, 2]
    constant = tf.constant([1.0, 2.0])
    session.run(constant)[:] = 99
    assert session.run(constant).tolist() == [1, 2]
    updated = session.run(v.assign_add([1.0, 1.0]))
    updated[:] = 99
    assert session.run(v).tolist() == [2, 3]


def test_two_fetches_never_share_memory(session):
    x = tf.placeholder(tf.float32, [4])
    y = tf.exp(x)
    flat, square = session.run([y, tf.reshape(y, [2, 2])], {x: [0, 0, 0, 0]})
    flat[:] = 99
    assert square.tolist() == [[1, 1], [1, 1]]
    merged = session.run([tf.exp(x), tf.exp(x)], {x: [0, 0, 0, 0]})  # one op after rewriting
    merged[0][:] = 99
    assert merged[1].tolist() == [1, 1, 1, 1]


def test_what_went_through_a_list_is_shared_with_nobody(session):
    x = tf.placeholder(tf.float32, [2])
    y = tf.exp(x)
    items = tf.TensorArray(tf.float32, 2).write(0, y).write(1, x)
    mine = np.zeros(2, np.float32)
    computed, read, fed = session.run([y, items.read(0), items.read(1)], {x: mine})
    computed[:] = fed[:] = 99
    assert read.tolist() == [1, 1]
    assert mine.tolist() == [0, 0]


def test_what_is_inside_control_flow_is_neither_fetched_nor_fed(session):
    loop = tf.while_loop(lambda i: i < 3, lambda i: i + 1, [0])
    body = next(v for v in loop.op.attrs.values() if isinstance(v, tf.Graph))
    inner = body.operations[-1].outputs[0]
    with pytest.raises(ValueError, match="inside control flow"):
        session.run(inner)
    with pytest.raises(ValueError, match="not in the graph"):
        session.run(loop, {inner: True})
    with pytest.raises(TypeError, match="no tensor, variable or name"):
        session.run(loop, {tf.no_op(): 1})

"""Variables in parts: who gets what, the whole as a tensor, updates, and checkpoints."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import graphflow as tf
from graphflow.base.errors import DTypeError, GraphError

HALVES = tf.fixed_size_partitioner(2)


@pytest.fixture(autouse=True)
def graph() -> Any:
    with tf.Graph().as_default() as g:
        yield g


def sizes(variable: Any) -> list[list[int]]:
    return [part.shape.as_list() for part in variable]


def test_the_first_parts_get_what_is_over() -> None:
    v = tf.get_variable("v", [7, 2], partitioner=tf.fixed_size_partitioner(3))
    assert [part.name for part in v] == ["v/part_0:0", "v/part_1:0", "v/part_2:0"]
    assert sizes(v) == [[3, 2], [2, 2], [2, 2]]
    assert v.shape.as_list() == [7, 2]
    assert tf.trainable_variables() == list(v)


@pytest.mark.parametrize(
    ("partitioner", "shape", "dtype", "counts"),
    [
        (tf.fixed_size_partitioner(5), [3, 4], tf.float32, [3, 1]),
        (tf.fixed_size_partitioner(2, axis=1), [3, 4], tf.float32, [1, 2]),
        (tf.variable_axis_size_partitioner(64), [4, 8], tf.float32, [2, 1]),
        (tf.variable_axis_size_partitioner(63), [4, 8], tf.float32, [4, 1]),
        (tf.variable_axis_size_partitioner(1, max_shards=3), [4, 8], tf.float32, [3, 1]),
        (tf.variable_axis_size_partitioner(32, axis=1), [2, 4], tf.string, [1, 4]),
        (tf.min_max_variable_partitioner(16), [1024, 1024], tf.float32, [16, 1]),
        (tf.min_max_variable_partitioner(4), [1024, 1024], tf.float32, [4, 1]),
        (tf.min_max_variable_partitioner(16), [2, 2], tf.float32, [1, 1]),
        (tf.min_max_variable_partitioner(9, min_slice_size=8), [5, 1], tf.float64, [5, 1]),
    ],
)
def test_partitioners_count_as_tensorflows_do(
    partitioner: Any, shape: Any, dtype: Any, counts: Any
) -> None:
    assert partitioner(shape=tf.TensorShape(shape), dtype=dtype) == counts


@pytest.mark.parametrize(
    "initializer",
    [
        np.arange(15.0, dtype=np.float32).reshape(5, 3),
        lambda shape, dtype, partition_info: tf.fill(
            shape, tf.cast(partition_info.var_offset[0], dtype)
        ),
        tf.initializers.identity(),
        tf.constant_initializer(4.0),
    ],
)
def test_the_whole_is_the_parts_one_after_the_other(initializer: Any) -> None:
    shape = None if isinstance(initializer, np.ndarray) else [5, 3]
    v = tf.get_variable("v", shape, initializer=initializer, partitioner=HALVES)
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        parts, whole = session.run([list(v), v.as_tensor()])
        np.testing.assert_array_equal(np.concatenate(parts), whole)
        product = session.run(tf.matmul(v, tf.eye(3)) + v * 0.0)
        np.testing.assert_array_equal(product, whole)
    if isinstance(initializer, np.ndarray):
        np.testing.assert_array_equal(whole, initializer)
    if isinstance(initializer, tf.initializers.identity):
        np.testing.assert_array_equal(whole, np.eye(5, 3))


def test_the_scale_is_that_of_the_whole() -> None:
    init = tf.variance_scaling_initializer(distribution="uniform", mode="fan_in")
    v = tf.get_variable("v", [100, 50], initializer=init, partitioner=tf.fixed_size_partitioner(10))
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        most = np.abs(session.run(v.as_tensor())).max()
    assert 0.9 * np.sqrt(3 / 100) < most <= np.sqrt(3 / 100)


def test_is_found_again_with_and_without_its_partitioner() -> None:
    with tf.variable_scope("s", partitioner=HALVES):
        v = tf.get_variable("v", [4])
        assert tf.get_variable("scalar", []).shape.as_list() == []
    with tf.variable_scope("s", reuse=True):
        assert tf.get_variable("v", [4]) is v
        with pytest.raises(GraphError, match="has shape"):
            tf.get_variable("v", [5])
    with tf.variable_scope("s"), pytest.raises(GraphError, match="exists already"):
        tf.get_variable("v", [4], partitioner=HALVES)


def test_whole_and_parts_are_not_mistaken_for_each_other() -> None:
    tf.get_variable("whole", [4])
    tf.get_variable("parts", [4], partitioner=HALVES)
    with tf.variable_scope("", reuse=tf.AUTO_REUSE):
        with pytest.raises(GraphError, match="not in the parts"):
            tf.get_variable("whole", [4], partitioner=HALVES)
        assert len(tf.get_variable("parts", [4])) == 2


@pytest.mark.parametrize(
    ("partitioner", "shape", "error"),
    [
        (3, [4], DTypeError),
        (lambda **_: [1], [4, 2], ValueError),
        (lambda **_: [2, 2], [4, 2], ValueError),
        (lambda **_: [0, 1], [4, 2], ValueError),
        (lambda **_: None, [4, 2], ValueError),
        (HALVES, [None, 2], ValueError),
        (tf.fixed_size_partitioner(2, axis=3), [4, 2], ValueError),
    ],
)
def test_refuses_what_is_no_partition(partitioner: Any, shape: Any, error: Any) -> None:
    with pytest.raises(error):
        tf.get_variable("v", shape, partitioner=partitioner)


def test_assignments_reach_each_part() -> None:
    v = tf.get_variable("v", [2, 5], partitioner=tf.fixed_size_partitioner(2, axis=1))
    with tf.Session() as session:
        session.run(v.assign(np.arange(10.0).reshape(2, 5)))
        session.run(v.assign_add(tf.ones([2, 5])))
        session.run(v.assign_sub([tf.ones([2, 3]), tf.zeros([2, 2])], read_value=False))
        expected = np.arange(10.0).reshape(2, 5) + np.array([0, 0, 0, 1, 1])
        np.testing.assert_array_equal(session.run(v.as_tensor()), expected)


@pytest.mark.parametrize("rows", [2, 5, 8])
def test_embeddings_of_a_partitioned_table(rows: int) -> None:
    table = np.random.default_rng(0).normal(size=(rows, 3)).astype(np.float32)
    v = tf.get_variable("v", initializer=table, partitioner=tf.fixed_size_partitioner(3))
    ids = np.array([[0, rows - 1], [rows // 2, 0]])
    y = tf.nn.embedding_lookup(v, ids, partition_strategy="div")
    loss = tf.reduce_sum(y * y)
    train = tf.train.GradientDescentOptimizer(0.25).minimize(loss)
    slices = tf.gradients(loss, list(v))
    assert all(isinstance(g, tf.IndexedSlices) for g in slices)
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        np.testing.assert_array_equal(session.run(y), table[ids])
        session.run(train)
        counts = np.bincount(ids.ravel(), minlength=rows)[:, None]
        np.testing.assert_allclose(session.run(v.as_tensor()), table * (1 - counts / 2), 1e-5, 1e-6)


def test_layers_and_optimizers_train_the_parts() -> None:
    x = tf.ones([4, 6])
    with tf.variable_scope("net", partitioner=tf.fixed_size_partitioner(4)):
        y = tf.layers.dense(x, 3, name="dense", kernel_regularizer=tf.nn.l2_loss)
    assert len(tf.losses.get_regularization_losses()) == 4
    names = [v.op.name for v in tf.trainable_variables()]
    assert names[:4] == [f"net/dense/kernel/part_{i}" for i in range(4)]
    train = tf.train.AdamOptimizer(0.1).minimize(tf.reduce_sum(y))
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        before = session.run(tf.trainable_variables())
        session.run(train)
        after = session.run(tf.trainable_variables())
    assert all((a < b).all() for a, b in zip(after, before, strict=True))


def test_averages_of_batch_normalisation_are_whole() -> None:
    with tf.variable_scope("net", partitioner=HALVES):
        y = tf.layers.batch_normalization(tf.ones([3, 4]), training=True, name="bn")
        tf.nn.dynamic_rnn(tf.nn.rnn_cell.LSTMCell(4), tf.ones([2, 3, 5]), dtype=tf.float32)
    names = {v.op.name.removeprefix("net/") for v in tf.global_variables()}
    assert {"bn/gamma/part_1", "bn/moving_mean", "rnn/lstm_cell/kernel/part_0"} <= names
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        np.testing.assert_allclose(session.run(y), np.zeros((3, 4)), atol=1e-6)


@pytest.mark.parametrize("others", [None, tf.fixed_size_partitioner(3), HALVES])
def test_a_checkpoint_holds_the_whole(tmp_path: Any, others: Any) -> None:
    table = np.arange(10.0, dtype=np.float32).reshape(5, 2)
    v = tf.get_variable("v", initializer=table, partitioner=HALVES)
    tf.train.AdamOptimizer(0.1).minimize(tf.reduce_sum(v * v))
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        path = tf.train.Saver().save(session, str(tmp_path / "m"))
    shapes = dict(tf.train.list_variables(path))
    assert shapes["v"] == shapes["v/Adam"] == shapes["v/Adam_1"] == [5, 2]
    assert not any("part" in name for name in shapes)
    with tf.Graph().as_default(), tf.Session() as session:
        w = tf.get_variable("v", [5, 2], partitioner=others)
        tf.train.Saver([w]).restore(session, path)
        np.testing.assert_array_equal(session.run(tf.convert_to_tensor(w)), table)


def test_a_saver_takes_parts_by_name_and_refuses_others(tmp_path: Any) -> None:
    v = tf.get_variable("v", [4], initializer=tf.ones_initializer(), partitioner=HALVES)
    w = tf.get_variable("w", [4])
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        path = tf.train.Saver({"x": v, "y": w}).save(session, str(tmp_path / "m"))
        assert tf.train.list_variables(path) == [("x", [4]), ("y", [4])]
        tf.train.Saver({"x": list(v)}).restore(session, path)
    with pytest.raises(GraphError, match="not the parts of one"):
        tf.train.Saver({"x": [w, v]})

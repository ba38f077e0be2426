"""Sums over replicas, whose order of summation is part of the op."""

from __future__ import annotations

import numpy as np
import pytest

import graphflow as tf
from graphflow.base.errors import GraphError, ShapeError
from graphflow.ops.collectives import all_reduce, chunk, ordered_sum


@pytest.mark.parametrize("world", [1, 2, 3, 8])
@pytest.mark.parametrize("size", [0, 1, 5, 8, 17])
def test_chunks_are_the_array(size, world):
    pieces = [np.arange(size)[chunk(size, world, i)] for i in range(world)]
    np.testing.assert_array_equal(np.concatenate(pieces), np.arange(size))
    assert max(map(len, pieces)) - 1 <= size / world


def test_each_chunk_is_summed_from_its_own_replica_on():
    """1e8 swallows what is added to it one by one, so that each order has its own sum."""
    a, b, c = (np.full(3, x, np.float32) for x in (1e8, 4.0, 4.0))
    first, second, third = ordered_sum(np, [a, b, c])
    assert first == np.float32(1e8)  # (1e8 + 4) + 4
    assert second == np.float32(4.0) + np.float32(4.0) + np.float32(1e8)
    assert second > first
    assert third == first  # (4 + 1e8) + 4


def test_replicas_get_the_sums_of_their_bucket():
    with tf.Graph().as_default(), tf.Session() as session:
        buckets = [[tf.fill([2], float(r)), tf.fill([3, 1], 10.0 * r)] for r in range(3)]
        for pair in session.run(all_reduce(buckets)):
            np.testing.assert_array_equal(pair[0], [3.0, 3.0])
            np.testing.assert_array_equal(pair[1], [[30.0], [30.0], [30.0]])


def test_fetched_sums_are_nobody_elses_memory():
    with tf.Graph().as_default(), tf.Session() as session:
        v = tf.Variable(np.zeros(2, np.float32))
        x = tf.placeholder(tf.float32, [2])
        mine, other = all_reduce([x, x + 1.0])
        session.run(v.initializer)
        kept, fetched = session.run([v.assign(mine), other], {x: [1.0, 2.0]})
        fetched[:] = -1
        kept[:] = -1
        np.testing.assert_array_equal(session.run(v), [3.0, 5.0])


def test_one_replica_sums_nothing():
    with tf.Graph().as_default():
        x = tf.constant([1.0])
        assert all_reduce([x]) == [x]


def test_what_does_not_fit_is_refused():
    with tf.Graph().as_default():
        with pytest.raises(ShapeError, match="what replicas sum"):
            all_reduce([tf.zeros([2]), tf.zeros([3])])
        with pytest.raises(GraphError, match="1, 2 tensors"):
            all_reduce([[tf.zeros([2])], [tf.zeros([2]), tf.zeros([2])]])
        with pytest.raises(GraphError, match="at least one replica"):
            all_reduce([])

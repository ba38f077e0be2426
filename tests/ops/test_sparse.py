"""Sparse tensors as feeds and fetches; their values: tests/golden/arrays.py."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import graphflow as tf

VALUE = tf.SparseTensorValue([[0, 1], [2, 0]], [3.0, 4.0], [3, 2])


@pytest.fixture
def session() -> Any:
    with tf.Graph().as_default(), tf.Session() as session:
        yield session


@pytest.mark.parametrize("shape", [None, [None, 2], [3, 2]])
def test_a_placeholder_is_fed_and_fetched_as_a_whole(session: Any, shape: Any) -> None:
    x = tf.sparse_placeholder(tf.float32, shape)
    dense = tf.sparse_tensor_to_dense(x)
    for given in (VALUE, tuple(VALUE)):
        back, whole = session.run([x, dense], {x: given})
        assert isinstance(back, tf.SparseTensorValue)
        assert back.indices.tolist() == VALUE.indices
        assert whole.tolist() == [[0, 3], [0, 0], [4, 0]]
    assert x.dims == (None if shape is None else (3, 2) if shape[0] else (None, None))


def test_no_elements_at_all(session: Any) -> None:
    x = tf.sparse_placeholder(tf.float32)
    product = tf.sparse_tensor_dense_matmul(x, np.ones((2, 1), np.float32))
    empty = tf.SparseTensorValue([], np.zeros(0), [3, 2])
    assert session.run(product, {x: empty}).tolist() == [[0], [0], [0]]


def test_text_and_eval(session: Any) -> None:
    x = tf.SparseTensor([[1]], ["b"], [3])
    assert session.run(tf.sparse_tensor_to_dense(x, "-")).tolist() == [b"-", b"b", b"-"]
    assert x.eval(session=session).values.tolist() == [b"b"]


def test_parts_that_do_not_fit_are_refused() -> None:
    with tf.Graph().as_default(), pytest.raises(ValueError, match=r"indices \[n, rank\]"):
        tf.SparseTensor([0, 1], [1.0, 2.0], [3])


def test_unknown_combiners_are_refused() -> None:
    with tf.Graph().as_default(), pytest.raises(ValueError, match="combiner must be"):
        tf.nn.embedding_lookup_sparse(
            np.ones((3, 2)), tf.SparseTensor([[0, 0]], [1], [1, 1]), None, combiner="max"
        )

"""Writes to parts of variables: what they leave alone, and what they refuse."""

from __future__ import annotations

from typing import Any

import pytest

import graphflow as tf
from graphflow.base import errors


@pytest.fixture
def session() -> Any:
    with tf.Graph().as_default(), tf.Session() as session:
        yield session


def test_slices_stay_tensors(session: Any) -> None:
    v = tf.Variable([1.0, 2.0, 3.0])
    part = v[1:]
    doubled, (gradient,) = part * 2, tf.gradients(part * part, v)
    session.run(v.initializer)
    assert session.run(part).tolist() == [2, 3]
    assert session.run(doubled, {part: [7.0, 8.0]}).tolist() == [14, 16]
    assert session.run(gradient).tolist() == [0, 4, 6]
    assert session.run(part.assign([5.0, 6.0])).tolist() == [1, 5, 6]
    assert session.run(v).tolist() == [1, 5, 6]


def test_a_failed_run_leaves_the_variable_alone(session: Any) -> None:
    v, n = tf.Variable([1.0, 2.0]), tf.placeholder(tf.int32, [])
    both = [v[:1].assign([9.0]), tf.scatter_nd_update(tf.Variable([0.0]), [[n]], [1.0])]
    session.run(tf.global_variables_initializer())
    with pytest.raises(errors.InvalidArgumentError, match=r"index 3 is not in \[0, 1\)"):
        session.run(both, {n: 3})
    assert session.run(v).tolist() == [1, 2]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda v: v[:2].assign([1.0]), r"shape \(2,\) is assigned a value of shape \(1,\)"),
        (lambda v: v[0].assign(1j), "expected float32"),
        (lambda v: tf.scatter_nd_add(v, [[0, 1]], [1.0]), "length 2 for a variable of rank 1"),
        (lambda v: tf.scatter_nd_add(v, [[0]], [1.0, 2.0]), "updates must have shape"),
        (lambda v: tf.scatter_nd_add(v.value(), [[0]], [1.0]), "is no variable"),
    ],
)
def test_misfits_are_refused(session: Any, make: Any, message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=message):
        make(tf.Variable([1.0, 2.0, 3.0]))

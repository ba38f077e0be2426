"""Python functions as operations."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import graphflow as tf
from graphflow.base import errors


@pytest.fixture
def session() -> Any:
    with tf.Graph().as_default(), tf.Session() as session:
        yield session


def test_results_have_the_declared_dtypes(session: Any) -> None:
    x = tf.constant([1.0, 2.0])
    total, text = tf.py_func(lambda a: (a.sum(), "yes"), [x], [tf.float32, tf.string])
    single = tf.py_func(lambda: 3, [], tf.int64)
    assert session.run([total, text, single]) == [3.0, b"yes", 3]
    assert session.run(single).dtype == np.int64
    assert total.dtype is tf.float32
    assert total.dims is None
    assert isinstance(tf.py_func(lambda: [3], [], [tf.int64]), list)


def test_without_results_it_is_an_operation(session: Any) -> None:
    seen: list[Any] = []
    operation = tf.py_func(seen.append, [tf.constant("text")], [])
    assert isinstance(operation, tf.Operation)
    session.run(operation)
    assert seen == [b"text"]


def test_a_stateful_function_runs_in_each_run(session: Any) -> None:
    calls: list[int] = []
    y = tf.py_func(lambda: len(calls) or calls.append(1) or 0, [], tf.int32)
    assert [session.run(y) for _ in range(2)] == [0, 1]


def test_arguments_are_the_functions_own(session: Any) -> None:
    def spoil(a: Any) -> Any:
        a += 1
        return a

    x = tf.constant([1.0])
    assert [v.tolist() for v in session.run([tf.py_func(spoil, [x], tf.float32), x])] == [[2], [1]]


@pytest.mark.parametrize(
    ("raised", "kind"),
    [
        (ValueError, errors.InvalidArgumentError),
        (StopIteration, errors.OutOfRangeError),
        (NotImplementedError, errors.UnimplementedError),
        (ZeroDivisionError, errors.UnknownError),
    ],
)
def test_errors_come_with_their_traceback(session: Any, raised: Any, kind: Any) -> None:
    def inner() -> None:
        raise raised("from within")

    y = tf.py_func(inner, [], tf.float32)
    with pytest.raises(kind, match="from within") as caught:
        session.run(y)
    assert "in inner" in str(caught.value)
    assert "test_py_func.py" in str(caught.value)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda: np.float64(1), "float32: an array of float64"),
        (lambda: "text", "float32"),
        (lambda: (1.0, 2.0), "returned 2 values, 1 were declared"),
    ],
)
def test_wrong_results_are_refused(session: Any, function: Any, message: str) -> None:
    with pytest.raises(errors.InvalidArgumentError, match=message):
        session.run(tf.py_func(function, [], [tf.float32]))

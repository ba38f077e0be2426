"""Assertions and numeric checks: at once where values are known, else when run."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import graphflow.ops as ops
from graphflow.base.errors import DTypeError, InvalidArgumentError, ShapeError
from graphflow.build import Graph, Operation
from graphflow.ops.evaluate import run
from graphflow.ops.sources import constant, placeholder


@pytest.fixture(autouse=True)
def _graph() -> Any:
    with Graph().as_default():
        yield


COMPARISONS = [
    (ops.assert_equal, (2, 2), (1, 2)),
    (ops.assert_none_equal, (1, 2), (2, 2)),
    (ops.assert_less, (1, 2), (2, 2)),
    (ops.assert_less_equal, (2, 2), (3, 2)),
    (ops.assert_greater, (3, 2), (2, 2)),
    (ops.assert_greater_equal, (2, 2), (1, 2)),
    (ops.assert_near, (1.0, 1.0), (1.0, 1.1)),
]
SIGNS = [
    (ops.assert_positive, 1, 0),
    (ops.assert_negative, -1, 0),
    (ops.assert_non_negative, 0, -1),
    (ops.assert_non_positive, 0, 1),
]


def execute(check: Operation, *values: Any) -> None:
    """Run an Assert whose condition and data are given."""
    run(check, dict(zip(check.inputs, values, strict=True)), Recorder())


@pytest.mark.parametrize(("check", "good", "bad"), COMPARISONS)
def test_compares_constants_at_once(check: Any, good: Any, bad: Any) -> None:
    assert check(*good).type == "NoOp"
    with pytest.raises(InvalidArgumentError, match=r"hello.*x:0 = |hello.*Const"):
        check(*bad, message="hello")


@pytest.mark.parametrize(("check", "good", "bad"), SIGNS)
def test_compares_with_zero_at_once(check: Any, good: Any, bad: Any) -> None:
    assert check(constant([good, good])).type == "NoOp"
    with pytest.raises(InvalidArgumentError, match="did not hold"):
        check(constant([good, bad]))


def test_asserts_when_run_where_values_are_not_known() -> None:
    x = placeholder("int32", [2], name="x")
    check = ops.assert_positive(x, message="counts")
    assert check.type == "Assert"
    data = [np.array(b"counts"), np.array(b"x:0 = "), np.array([3, -1])]
    execute(check, np.array(True), *data)
    with pytest.raises(InvalidArgumentError, match=r"assertion failed: \[counts\].*\[3 -1\]"):
        execute(check, np.array(False), *data)


def test_shows_at_most_so_many_elements() -> None:
    check = ops.Assert(placeholder("bool", []), [constant(np.arange(9))], summarize=2)
    with pytest.raises(InvalidArgumentError, match=r"\[0 1\.\.\.\]"):
        execute(check, np.array(False), np.arange(9))


def test_checks_ranks_and_dtypes() -> None:
    x, unknown = constant(np.zeros((2, 3))), placeholder("float64", None)
    assert ops.assert_rank(x, 2).type == "NoOp"
    assert ops.assert_rank_at_least(x, 1).type == "NoOp"
    assert ops.assert_rank_in(x, [1, 2]).type == "NoOp"
    assert ops.assert_rank(unknown, 2).type == "Assert"
    with pytest.raises(ShapeError, match=r"rank == 1, not shape \(2, 3\)"):
        ops.assert_rank(x, 1)
    with pytest.raises(ShapeError, match="rank >= 3"):
        ops.assert_rank_at_least(x, 3)
    with pytest.raises(DTypeError, match="dtype float32"):
        ops.assert_type(x, "float32")
    with pytest.raises(DTypeError, match="integer"):
        ops.assert_integer(x)
    with pytest.raises(ShapeError, match="scalar"):
        ops.assert_scalar(x)
    with pytest.raises(TypeError, match="list or the like"):
        ops.assert_proper_iterable(x)


@pytest.mark.parametrize(("value", "what"), [(np.nan, "NaN"), (np.inf, "Inf")])
def test_check_numerics_names_what_it_found(value: float, what: str) -> None:
    x = placeholder("float64", [2])
    y = ops.check_numerics(x, "the loss")
    with pytest.raises(InvalidArgumentError, match=f"the loss : Tensor had {what} values"):
        run(y.op, {x: np.array([1.0, value])}, _numpy())


def test_ensure_shape_states_and_checks() -> None:
    x = placeholder("float64", [None, None])
    y = ops.ensure_shape(x, [None, 3])
    assert y.dims == (None, 3)
    with pytest.raises(InvalidArgumentError, match=r"shape \(2, 2\) is not \(\?, 3\)"):
        run(y.op, {x: np.zeros((2, 2))}, _numpy())
    with pytest.raises(ShapeError):
        ops.ensure_shape(constant(np.zeros((2, 2))), [None, 3])


class Recorder:
    """A context that keeps what is printed."""

    def __init__(self) -> None:
        self.lines: list[Any] = []
        self.count = 0
        self.xp = np

    def output(self, function: Any) -> None:
        self.lines.append(function)

    def counter(self, stream: int, amount: int) -> int:
        self.count += amount
        return self.count - amount


def test_print_passes_its_input_on_and_stops_after_first_n(capsys: Any) -> None:
    x = placeholder("float64", [2])
    y = ops.Print(x, [x, constant("text")], message="x is ", first_n=2)
    context = Recorder()
    values = {y.op.inputs[0]: np.array([1.0, 2.5]), y.op.inputs[2]: np.array(b"text", object)}
    for _ in range(3):
        (got,) = run(y.op, values, context)
        np.testing.assert_array_equal(got, [1.0, 2.5])
    assert len(context.lines) == 2, "nothing is printed before the run commits"
    context.lines[0]()
    assert capsys.readouterr().err == "x is [1.0 2.5][text]\n"


def test_print_v2_joins_text_and_tensors(capsys: Any) -> None:
    x = placeholder("int32", [2])
    operation = ops.print("x:", x, "end", sep="|", end="!\n")
    context = Recorder()
    run(operation, {x: np.array([1, 2], np.int32)}, context)
    context.lines[0]()
    assert capsys.readouterr().err == "x:|[1 2]|end!\n"


def _numpy() -> Any:
    return Recorder()

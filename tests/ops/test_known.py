"""What is known of values while the graph is built."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from graphflow.base.errors import GraphError
from graphflow.build import Graph
from graphflow.build.body import build_body
from graphflow.ops import (
    concat,
    constant_value,
    expand_dims,
    fill,
    gather,
    pad,
    range,
    rank,
    reduce_prod,
    reshape,
    shape,
    size,
    slice,
    stack,
    tile,
    transpose,
    zeros,
)
from graphflow.ops.known import known_dims, shape_from, static_ints
from graphflow.ops.sources import constant, placeholder, placeholder_with_default


@pytest.fixture(autouse=True)
def _graph() -> Any:
    with Graph().as_default():
        yield


def image(*dims: int | None) -> Any:
    return placeholder("float32", dims)


def test_reshape_by_a_computed_batch_size_keeps_the_rest() -> None:
    x = image(None, 28, 28)
    n = shape(x)[0]
    assert reshape(x, [n, 784]).dims == (None, 784)
    assert reshape(x, [n, -1]).dims == (None, None)
    assert reshape(x, stack([n, 28 * 28])).dims == (None, 784)
    assert reshape(x, concat([shape(x)[:1], [784]], 0)).dims == (None, 784)
    assert reshape(x, [-1, shape(x)[1] * shape(x)[2]]).dims == (None, 784)
    assert reshape(x, [-1, reduce_prod(shape(x)[1:])]).dims == (None, 784)


@pytest.mark.parametrize(
    ("make", "wanted"),
    [
        (lambda s: s, (None, 4, 6)),
        (lambda s: s[::-1], (6, 4, None)),
        (lambda s: s[-1], (6,)),
        (lambda s: slice(s, [1], [-1]), (4, 6)),
        (lambda s: gather(s, [2, 0]), (6, None)),
        (lambda s: s + 1, (None, 5, 7)),
        (lambda s: s * [2, 2, 3], (None, 8, 18)),
        (lambda s: s // 2, (None, 2, 3)),
        (lambda s: [1, 2, 3] - s, (None, -2, -3)),
        (lambda s: expand_dims(s[1], 0), (4,)),
        (lambda s: concat([s[1:], [7]], 0), (4, 6, 7)),
        (lambda s: stack([s[0], 3]), (None, 3)),
        (lambda s: tile(s[1:], [2]), (4, 6, 4, 6)),
    ],
)
def test_follows_shapes_in_part(make: Any, wanted: Any) -> None:
    assert known_dims(make(shape(image(None, 4, 6)))) == wanted


def test_entries_are_counted_where_values_are_unknown() -> None:
    assert known_dims(placeholder("int32", [3])) == (None, None, None)
    assert known_dims(placeholder("int32", [None])) is None
    assert known_dims(placeholder("float32", [3])) is None
    assert shape_from(constant([2, -1])) == (2, None)


def test_constant_values_are_computed() -> None:
    assert constant_value(constant(2) * 3 + 1) == 7
    assert constant_value(rank(image(None, 3)) + 1) == 3
    assert constant_value(size(image(2, 3))) == 6
    assert constant_value(transpose(constant([[1, 2]]))).tolist() == [[1], [2]]
    assert constant_value(shape(image(2, None))[1]) is None


def test_what_may_be_fed_is_not_known() -> None:
    assert constant_value(placeholder("int32", [])) is None
    assert constant_value(placeholder_with_default(3, [])) is None
    assert constant_value(placeholder_with_default(3, []) + 1) is None


def test_large_values_are_not_computed() -> None:
    assert constant_value(zeros([64, 64]) + 1.0) is not None
    assert constant_value(fill([64, 65], 1.0)) is None


def test_a_failing_op_has_no_value() -> None:
    index = constant(7) + 0
    assert constant_value(gather(constant([1, 2]), index)) is None


def test_sees_through_the_captures_of_a_body() -> None:
    n = constant(5)

    def build(x: Any) -> Any:
        return reshape(x, [n, -1]).dims, constant_value(n + 1)

    _, (dims, value) = build_body(build, [((None,), n.dtype)])
    assert dims == (5, None)
    assert value == 6


def test_a_chain_is_followed_only_so_far() -> None:
    x = constant(0)
    for _ in np.arange(300):
        x = x + 1
    assert constant_value(x) is None


def test_a_graph_of_many_paths_is_followed_once() -> None:
    x = shape(image(None))[0]
    for _ in np.arange(60):  # 2**60 paths
        x = x + x
    assert known_dims(x) == (None,)
    assert constant_value(x) is None


def test_dynamic_sizes_are_inferred_in_ranges_fills_and_pads() -> None:
    x = image(None, 4)
    assert range(shape(x)[1]).dims == (4,)
    assert range(shape(x)[0]).dims == (None,)
    assert fill([shape(x)[0], 2], 1.0).dims == (None, 2)
    assert pad(x, [[0, 0], [1, 2]]).dims == (None, 7)
    assert tile(x, [shape(x)[1], 2]).dims == (None, 8)


def test_static_ints_wants_values_that_are_known() -> None:
    assert static_ints(constant([1, 0]), "perm") == (1, 0)
    assert static_ints(np.int64(3), "axis") == 3
    with pytest.raises(GraphError, match="must be known while the graph is built"):
        static_ints(placeholder("int32", []), "axis")
    with pytest.raises(TypeError, match="must be an integer"):
        static_ints(1.5, "axis")

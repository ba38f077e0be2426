"""Values, names and errors of the array functions, as TensorFlow 1's CPU kernels give them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import graphflow.ops as ops
from graphflow.base.errors import DTypeError, GraphError, InvalidArgumentError, ShapeError
from graphflow.base.shapes import CLASH, merged
from graphflow.build import Graph
from graphflow.ops.evaluate import evaluate
from graphflow.ops.sources import constant, placeholder

X = np.arange(24.0).reshape(2, 3, 4)
F4 = np.float32
SIX = np.array([0, 1, 2, 3, 4, 5]) * F4(1 / 6)

VALUES: dict[str, tuple[Any, Any]] = {
    "range float": (lambda: ops.range(0.0, 1.0, 0.25), F4([0, 0.25, 0.5, 0.75])),
    "range down": (lambda: ops.range(3, 0, -2), np.int32([3, 1])),
    "range widens": (lambda: ops.range(1, 4.5), F4([1, 2, 3, 4])),
    "linspace": (lambda: ops.linspace(0.0, 1.0, 7), np.append(SIX, 1).astype(F4)),
    "linspace of one": (lambda: ops.linspace(2.0, 5.0, 1), F4([2])),
    "one_hot": (lambda: ops.one_hot([0, -1, 5], 2), F4([[1, 0], [0, 0], [0, 0]])),
    "one_hot axis": (lambda: ops.one_hot([1, 0], 2, 5, 1, axis=0), np.int32([[1, 5], [5, 1]])),
    "one_hot bool": (lambda: ops.one_hot([1], 2, True, False), np.array([[False, True]])),
    "eye": (lambda: ops.eye(1, 2, batch_shape=[2]), F4([[[1, 0]], [[1, 0]]])),
    "sequence_mask": (
        lambda: ops.sequence_mask([1, 3, 0], dtype="int32"),
        np.int32([[1, 0, 0], [1, 1, 1], [0, 0, 0]]),
    ),
    "cast truncates": (lambda: ops.cast([1.9, -1.9, 0.3], "int32"), np.int32([1, -1, 0])),
    "cast to bool": (lambda: ops.cast([0.5, 0.0, -2.0], "bool"), np.array([True, False, True])),
    "cast complex": (lambda: ops.cast(np.array([1 + 2j]), "float32"), F4([1])),
    "saturate": (lambda: ops.saturate_cast([300.0, -5.0, 3.7], "uint8"), np.uint8([255, 0, 3])),
    "saturate int": (lambda: ops.saturate_cast([300, -5], "int8"), np.int8([127, -5])),
    "saturate near 2**31": (
        lambda: ops.saturate_cast([3e9, -3e9], "int32"),
        np.int32([2147483520, -2147483648]),
    ),
    "bitcast": (lambda: ops.bitcast(constant([1.0]), "int32"), np.int32([1065353216])),
    "split rest": (lambda: ops.split(X, [1, -1], 2)[1], X[..., 1:]),
    "unstack": (lambda: ops.unstack(X, axis=1)[2], X[:, 2]),
    "where": (lambda: ops.where([[True, False], [True, True]]), np.int64([[0, 0], [1, 0], [1, 1]])),
    "pad": (lambda: ops.pad([3, 1], [[1, 2]], constant_values=9), np.int32([9, 3, 1, 9, 9])),
    "pad symmetric": (
        lambda: ops.pad([3, 1, 2], [[3, 2]], "SYMMETRIC"),
        np.int32([2, 1, 3, 3, 1, 2, 2, 1]),
    ),
    "roll": (lambda: ops.roll([3, 1, 2], 1, 0), np.int32([2, 3, 1])),
    "reverse": (lambda: ops.reverse(X, [1, -1]), X[:, ::-1, ::-1]),
    "reverse_sequence": (
        lambda: ops.reverse_sequence([[1, 2, 3], [4, 5, 6]], [2, 3], seq_axis=1),
        np.int32([[2, 1, 3], [6, 5, 4]]),
    ),
    "top_k ties": (lambda: ops.top_k([1.0, 3.0, 3.0, 2.0], 2).indices, np.int32([1, 2])),
    "sort": (lambda: ops.sort(X[::-1], axis=0), X),
    "argsort ties": (lambda: ops.argsort([3.0, 1.0, 1.0]), np.int32([1, 2, 0])),
    "argsort ties down": (
        lambda: ops.argsort([1.0, 3.0, 1.0], direction="DESCENDING"),
        np.int32([1, 0, 2]),
    ),
    "unique": (lambda: ops.unique([3, 1, 3, 2]).y, np.int32([3, 1, 2])),
    "unique idx": (lambda: ops.unique(["b", "a", "b"]).idx, np.int32([0, 1, 0])),
    "unique counts": (lambda: ops.unique_with_counts([3, 1, 3]).count, np.int32([2, 1])),
    "setdiff1d": (lambda: ops.setdiff1d([1, 2, 3, 2], [2]).idx, np.int32([0, 2])),
    "searchsorted": (lambda: ops.searchsorted([1.0, 2.0], [2.0, 0.5]), np.int32([1, 0])),
    "invert_permutation": (lambda: ops.invert_permutation([2, 0, 1]), np.int32([1, 2, 0])),
    "meshgrid": (lambda: ops.meshgrid([1, 2], [3, 4, 5])[0], np.int32([[1, 2]] * 3)),
    "meshgrid ij": (
        lambda: ops.meshgrid([1, 2], [3, 4], indexing="ij")[0],
        np.int32([[1, 1], [2, 2]]),
    ),
    "repeat each": (lambda: ops.repeat([1, 2, 3], [2, 0, 1]), np.int32([1, 1, 3])),
    "repeat": (lambda: ops.repeat([[1, 2]], 2, axis=1), np.int32([[1, 1, 2, 2]])),
    "space_to_depth": (
        lambda: ops.space_to_depth(np.int32([[[[1], [2]], [[3], [4]]]]), 2),
        np.int32([[[[1, 2, 3, 4]]]]),
    ),
    "space_to_batch": (lambda: ops.space_to_batch_nd([[1, 2, 3]], [3], [[0, 0]]), [[1], [2], [3]]),
    "dynamic_partition": (
        lambda: ops.dynamic_partition([1, 2, 3], [1, 0, 1], 2)[1],
        np.int32([1, 3]),
    ),
    "dynamic_stitch": (lambda: ops.dynamic_stitch([[2, 0], [1]], [[1, 2], [3]]), [2, 3, 1]),
    "dynamic_stitch gap": (lambda: ops.dynamic_stitch([[1]], [[7]]), np.int32([0, 7])),
    "broadcast shape": (lambda: ops.broadcast_dynamic_shape([3, 1], [2, 1, 4]), [2, 3, 4]),
    "zeros of strings": (lambda: ops.zeros([1], "string"), np.array([b""], object)),
    "zeros_like strings": (lambda: ops.zeros_like(["a"]), np.array([b""], object)),
    "tensor_scatter_add": (
        lambda: ops.tensor_scatter_add([1, 1], [[0], [0]], [2, 3]),
        np.int32([6, 1]),
    ),
    "tensor_scatter_sub": (lambda: ops.tensor_scatter_sub([9, 1], [[0]], [2]), np.int32([7, 1])),
    "batch_gather": (lambda: ops.batch_gather([[1, 2], [3, 4]], [[1], [0]]), [[2], [3]]),
    "parallel_stack": (lambda: ops.parallel_stack([1, 2]), np.int32([1, 2])),
    "identity_n": (lambda: ops.identity_n([1, 2])[1], np.int32(2)),
    "preferred dtype": (lambda: ops.convert_to_tensor([1], preferred_dtype="float32"), F4([1])),
}


@pytest.fixture(autouse=True)
def _graph() -> Any:
    with Graph().as_default():
        yield


@pytest.mark.parametrize("name", VALUES)
def test_values(name: str) -> None:
    make, wanted = VALUES[name]
    tensor = make()
    (got,) = evaluate([tensor])
    np.testing.assert_array_equal(got, wanted)
    if isinstance(wanted, (np.ndarray, np.generic)):
        assert np.asarray(got).dtype == wanted.dtype
    assert merged(tensor.dims, np.shape(wanted)) is not CLASH


NAMES = {
    "Reshape": lambda x: ops.reshape(x, [-1]),
    "transpose": lambda x: ops.transpose(x),
    "ExpandDims": lambda x: ops.expand_dims(x, 0),
    "Squeeze": lambda x: ops.squeeze(x),
    "Cast": lambda x: ops.cast(x, "int32"),
    "concat": lambda x: ops.concat([x, x], 0),
    "stack": lambda x: ops.stack([x, x]),
    "unstack": lambda x: ops.unstack(x)[0],
    "split": lambda x: ops.split(x, 2)[0],
    "Slice": lambda x: ops.slice(x, [0, 0, 0], [1, 1, 1]),
    "StridedSlice": lambda x: ops.strided_slice(x, [0], [1]),
    "Tile": lambda x: ops.tile(x, [1, 1, 1]),
    "Pad": lambda x: ops.pad(x, [[0, 0]] * 3),
    "GatherV2": lambda x: ops.gather(x, [0]),
    "GatherNd": lambda x: ops.gather_nd(x, [[0]]),
    "Select": lambda x: ops.where(True, x, x),
    "one_hot": lambda x: ops.one_hot([0], 2),
    "zeros": lambda x: ops.zeros([2]),
    "ones": lambda x: ops.ones([2]),
    "zeros_like": lambda x: ops.zeros_like(x),
    "range": lambda x: ops.range(3),
    "Shape": lambda x: ops.shape(x),
    "ReverseV2": lambda x: ops.reverse(x, [0]),
    "TopKV2": lambda x: ops.top_k(x)[0],
}


@pytest.mark.parametrize("name", NAMES)
def test_names_are_tensorflows(name: str) -> None:
    assert NAMES[name](constant(X, name="x")).op.name == name
    assert NAMES[name](constant(X, name="x")).op.name == f"{name}_1"


BUILD_ERRORS: list[tuple[Any, Any, str]] = [
    (lambda: ops.reshape(X, [5, -1]), ShapeError, "24 elements"),
    (lambda: ops.reshape(X, [-1, -1]), ShapeError, "one -1"),
    (lambda: ops.reshape(X, [2, -2]), ShapeError, "negative"),
    (lambda: ops.transpose(X, [0, 0, 1]), GraphError, "permutation"),
    (lambda: ops.transpose(X, [1, 0]), ShapeError, "does not fit the rank"),
    (lambda: ops.squeeze(X, [0]), ShapeError, "has not size 1"),
    (lambda: ops.expand_dims(X, 5), GraphError, "out of range"),
    (lambda: ops.expand_dims(X, 0, dim=0), ValueError, "not both"),
    (lambda: ops.concat([X, X[0]], 0), ShapeError, "ranks differ"),
    (lambda: ops.concat([X, X], 5), GraphError, "out of range"),
    (lambda: ops.concat([constant(1), constant(2)], 0), ShapeError, "tf.stack"),
    (lambda: ops.concat([constant(1.0), constant([2])], 0), DTypeError, "never converted"),
    (lambda: ops.stack([constant(X), constant(X[0])]), ShapeError, "must be equal"),
    (lambda: ops.split(X, 5), ShapeError, "5 equal parts"),
    (lambda: ops.split(X, [1, 2], 2), ShapeError, "do not split an axis of 4"),
    (lambda: ops.unstack(placeholder("int32", [None])), GraphError, "give num"),
    (lambda: ops.tile(X, [1, 2]), ShapeError, "2 multiples"),
    (lambda: ops.pad([1, 2], [[2, 0]], "REFLECT"), ShapeError, "mode REFLECT"),
    (lambda: ops.pad([1, 2], [[0, 0]], "WRAP"), GraphError, "unknown padding mode"),
    (lambda: ops.zeros([-1]), ShapeError, "negative"),
    (lambda: ops.range(1, 0), ShapeError, "no range goes from 1 to 0"),
    (lambda: ops.range(0, 3, 0), ShapeError, "steps of 0"),
    (lambda: ops.broadcast_to([1, 2, 3], [2, 2]), ShapeError, "does not broadcast"),
    (lambda: ops.cast(["a"], "int32"), DTypeError, "cannot cast string"),
    (lambda: ops.one_hot([0], 2, 1, 2.0), TypeError, "float"),
    (lambda: ops.reverse(X, [0, 0]), GraphError, "twice"),
    (lambda: ops.gather_nd(X, [[0, 0, 0, 0]]), ShapeError, "length 4"),
    (lambda: ops.scatter_nd([[0]], [1.0, 2.0], [3]), ShapeError, "must be equal"),
    (lambda: ops.top_k([1.0], 2), ShapeError, "no 2 largest"),
    (lambda: ops.space_to_depth(np.zeros((1, 3, 3, 1)), 2), ShapeError, "blocks of 2"),
    (lambda: ops.dynamic_stitch([[0]], []), ValueError, "1 indices for 0 data"),
    (lambda: ops.meshgrid([1], indexing="yx"), GraphError, "indexing"),
    (lambda: ops.eye(2, batch_shape=placeholder("int32", [None])), GraphError, "batch_shape"),
]


@pytest.mark.parametrize("i", range(len(BUILD_ERRORS)))
def test_refuses_when_built(i: int) -> None:
    make, error, message = BUILD_ERRORS[i]
    with pytest.raises(error, match=message):
        make()


RUN_ERRORS: list[tuple[Any, Any, str]] = [
    (lambda t: ops.reshape(t, [5, -1]), X, "24 elements"),
    (lambda t: ops.squeeze(t, [0]), X, "cannot be squeezed"),
    (lambda t: ops.concat([t, X[0]], 0), X, "cannot concatenate"),
    (lambda t: ops.stack([t, X[0]]), X, "must be equal"),
    (lambda t: ops.split(t, 5)[0], X, "5 equal parts"),
    (lambda t: ops.split(t, [1, 2])[0], X, "do not split an axis of 2"),
    (lambda t: ops.unstack(t, num=3)[0], X, "has not the 3 entries"),
    (lambda t: ops.tile(t, [1]), X, "do not fit"),
    (lambda t: ops.pad(t, [[1, 1]]), X, "do not fit"),
    (lambda t: ops.pad(t, [[3, 1]], "SYMMETRIC"), X[0, 0, :2], "cannot be padded"),
    (lambda t: ops.transpose(t, [1, 0]), X, "does not fit the rank"),
    (lambda t: ops.broadcast_to(t, [2, 2]), X, "does not broadcast"),
    (lambda t: ops.top_k(t, 9)[0], X, "no 9 largest"),
    (lambda t: ops.reverse_sequence(t, [9, 1], 1), X, "exceed the 3 entries"),
    (lambda t: ops.dynamic_partition(t, [5, 0], 2)[0], X, r"5 is not in \[0, 2\)"),
    (lambda t: ops.space_to_batch_nd(t, [2], [[0, 0]]), X, "not divided"),
    (lambda t: ops.invert_permutation(ops.cast(t, "int32")), X[0, 0] + 1, "no permutation"),
    (lambda t: ops.fill(ops.cast(t, "int32"), 1.0), -X[0, 0], "negative"),
]


@pytest.mark.parametrize("i", range(len(RUN_ERRORS)))
def test_refuses_when_run(i: int) -> None:
    make, value, message = RUN_ERRORS[i]
    t = placeholder("float64", None)
    with pytest.raises(InvalidArgumentError, match=message):
        evaluate([make(t)], {t: np.ascontiguousarray(value)})


JOINS = {
    "concat": lambda t, u: ops.concat([t, u], -1),
    "stack": lambda t, u: ops.stack([t, u], 1),
    "where": lambda t, u: ops.where(True, t, u),
    "split": lambda t, u: ops.split(t, [2, -1], -1)[1],
    "reshape": lambda t, u: ops.reshape(t, [ops.shape(u)[0], -1]),
    "slice": lambda t, u: ops.slice(t, [0, 1], [-1, 2]),
    "tile": lambda t, u: ops.tile(t, [2, 3]),
    "transpose": lambda t, u: ops.transpose(t),
    "pad": lambda t, u: ops.pad(t, [[1, 0], [0, 2]]),
    "gather": lambda t, u: ops.gather(t, [[0, 1]], axis=1),
    "zeros_like": lambda t, u: ops.zeros_like(t, "int32"),
    "one_hot": lambda t, u: ops.one_hot(ops.cast(t, "int32"), ops.shape(u)[1], axis=0),
    "boolean_mask": lambda t, u: ops.boolean_mask(t, [True, False], axis=0),
}


@settings(max_examples=25, deadline=None)
@pytest.mark.parametrize("name", JOINS)
@given(
    hidden=st.lists(
        st.sampled_from([None, (None, None), (None, 4), (2, None), (2, 4)]), min_size=2, max_size=2
    )
)
def test_infers_what_it_computes_whatever_is_hidden(name: str, hidden: Any) -> None:
    with Graph().as_default():
        t, u = [placeholder("float64", dims) for dims in hidden]
        y = JOINS[name](t, u)
        (got,) = evaluate([y], {t: X[:, 0], u: X[:, 1]})
        assert merged(y.dims, got.shape) is not CLASH
        assert got.dtype == y.dtype.np
        if name != "boolean_mask" and hidden == [(2, 4), (2, 4)]:
            assert y.dims == got.shape


def test_is_built_in_the_graph_of_its_input() -> None:
    with Graph().as_default() as graph:
        x = placeholder("float32", [2, 6])
    for y in (x[0], x[:, 1:], ops.reshape(x, [3, 4]), ops.expand_dims(x, 0)):
        assert y.graph is graph


def test_zeros_leave_one_node() -> None:
    graph = ops.zeros([2, 3]).graph
    ops.ones(3)
    assert [o.name for o in graph.operations] == ["zeros", "ones"]


@pytest.mark.parametrize(
    ("updates", "wanted"),
    [
        (np.array([b"a", b"b", b"c"], object), [b"ac", b"", b"b"]),
        (np.array([True, True, True]), [True, False, True]),
        (np.int8([100, 1, 100]), [-56, 0, 1]),
    ],
)
def test_scatter_nd_adds_as_the_dtype_does(updates: Any, wanted: Any) -> None:
    with Graph().as_default():
        found = evaluate([ops.scatter_nd([[0], [2], [0]], constant(updates), [3])])[0]
    assert found.dtype == updates.dtype
    assert found.tolist() == wanted


@pytest.mark.parametrize("dtype", ["int8", "int32", "float32", "bool", "object"])
def test_scatter_nd_at_vectors_of_no_length_adds_to_the_whole(dtype: str) -> None:
    rows = np.array([[b"a", b"b"], [b"c", b"d"]] if dtype == "object" else [[1, 0], [1, 1]], dtype)
    with Graph().as_default():
        found = evaluate([ops.scatter_nd(np.zeros((2, 0), np.int32), constant(rows), [2])])[0]
    assert found.dtype == rows.dtype
    assert found.tolist() == (rows[0] + rows[1]).tolist()


def test_nan_sorts_after_all_numbers() -> None:
    x = F4([[3, np.nan, 1, np.nan, np.inf, -np.inf]])
    with Graph().as_default():
        up, down = ops.argsort(x), ops.argsort(x, direction="DESCENDING")
        found = evaluate([up, down, ops.top_k(x, 3).indices, ops.sort(x)])
    assert found[0].tolist() == [[5, 2, 0, 4, 1, 3]]
    assert found[1].tolist() == [[1, 3, 4, 0, 2, 5]]
    assert found[2].tolist() == [[1, 3, 4]]
    np.testing.assert_array_equal(found[3], F4([[-np.inf, 1, 3, np.inf, np.nan, np.nan]]))


def test_only_the_last_of_many_numbers_is_the_end() -> None:
    many = (1 << 24) + 4  # float32 has no odd numbers there
    with Graph().as_default():
        found = evaluate([ops.linspace(0.0, float(1 << 25), many)])[0]
    assert found[-1] == 1 << 25
    assert found[-2] < 1 << 25

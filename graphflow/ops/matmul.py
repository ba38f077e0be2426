"""Matrix products."""

from __future__ import annotations

import math
from typing import Any

from graphflow.base.errors import InvalidArgumentError, ShapeError
from graphflow.base.shapes import Dims, format_dims
from graphflow.build import as_tensor, op
from graphflow.build.convert import is_symbolic
from graphflow.build.opdef import Array, Num, Specs
from graphflow.build.tensor import Tensor
from graphflow.ops.cases import Case, Sampler
from graphflow.ops.complexes import conjugate
from graphflow.ops.public import composite, graph_of
from graphflow.ops.rules import broadcast_dims, rank_is
from graphflow.ops.sums import sum_batch_to


def _product_dims(a: Any, b: Any, transpose_a: bool, transpose_b: bool) -> Any:
    rows, inner = a[::-1] if transpose_a else a
    other, columns = b[::-1] if transpose_b else b
    if inner is not None and other is not None and inner != other:
        raise ShapeError(
            f"inner sizes differ: {inner} and {other}, of {format_dims(tuple(a))} and "
            f"{format_dims(tuple(b))} with transpose_a={transpose_a}, transpose_b={transpose_b}"
        )
    return rows, columns


def _matmul_spec(a: Tensor, b: Tensor, *, transpose_a: bool, transpose_b: bool) -> Specs:
    left, right = rank_is(a, 2, "a matrix"), rank_is(b, 2, "a matrix")
    return [(_product_dims(left, right, transpose_a, transpose_b), a.dtype)]


def _matmul_cost(a: Any, b: Any, *, transpose_a: bool = False, transpose_b: bool = False) -> float:
    """2 m n k, over all matrices of a batch; unknown sizes count as 1."""
    if a.dims is None or b.dims is None:
        return 0.0
    columns = b.dims[-2 if transpose_b else -1] or 1
    batch = max(_batch_size(a.dims), _batch_size(b.dims))
    return 2.0 * batch * (a.dims[-1] or 1) * (a.dims[-2] or 1) * columns


def _batch_size(dims: Any) -> int:
    return math.prod([n or 1 for n in dims[:-2]])


def _oriented(product: Any, g: Any, a: Any, b: Any, transpose_a: bool, transpose_b: bool) -> Any:
    a, b = conjugate(a), conjugate(b)
    if not transpose_a:
        by_a = product(g, b, transpose_b=not transpose_b)
    else:
        by_a = product(b, g, transpose_a=transpose_b, transpose_b=True)
    if not transpose_b:
        by_b = product(a, g, transpose_a=not transpose_a)
    else:
        by_b = product(g, a, transpose_a=True, transpose_b=transpose_a)
    return by_a, by_b


def _matmul_grad(g: Any, y: Any, a: Any, b: Any, *, transpose_a: bool, transpose_b: bool) -> Any:
    return _oriented(_matmul, g, a, b, transpose_a, transpose_b)


def _matmul_cases(s: Sampler) -> list[Case]:
    flags = [(ta, tb) for ta in (False, True) for tb in (False, True)]
    cases = [
        Case(
            (s.normal(*((3, 2) if ta else (2, 3))), s.normal(*((4, 3) if tb else (3, 4)))),
            {"transpose_a": ta, "transpose_b": tb},
        )
        for ta, tb in flags
    ]
    cases += [Case((s.normal(*a), s.normal(*b))) for a, b in
              (((0, 3), (3, 2)), ((2, 0), (0, 3)), ((1, 1), (1, 1)))]  # fmt: skip
    x = s.normal(2, 2)
    return [*cases, Case((x, x))]


@op("MatMul", infer=_matmul_spec, grad=_matmul_grad, cost=_matmul_cost, cases=_matmul_cases)
def _matmul(
    xp: Any, a: Num, b: Num, *, transpose_a: bool = False, transpose_b: bool = False
) -> Array:
    """The product of two matrices, each transposed first where asked for."""
    if a.ndim != 2 or b.ndim != 2:
        raise InvalidArgumentError(
            None, None, f"a product takes two matrices, not shapes {a.shape} and {b.shape}"
        )
    a = a.T if transpose_a else a
    b = b.T if transpose_b else b
    _check_inner(a, b)
    return xp.matmul(a, b).astype(a.dtype, copy=False)  # of bfloat16, NumPy's is float32


def _check_inner(a: Any, b: Any) -> None:
    if a.shape[-1] != b.shape[-2]:
        raise InvalidArgumentError(
            None, None, f"inner sizes differ: {a.shape[-1]} and {b.shape[-2]}"
        )


def _split(dims: Dims, what: str) -> tuple[Dims, Any]:
    if dims is None:
        return None, (None, None)
    if len(dims) < 2:
        raise ShapeError(f"{what} must have rank at least 2, not shape {format_dims(dims)}")
    return dims[:-2], dims[-2:]


def _batch_spec(a: Tensor, b: Tensor, *, transpose_a: bool, transpose_b: bool) -> Specs:
    batch_a, left = _split(a.dims, "matrices")
    batch_b, right = _split(b.dims, "matrices")
    matrix = _product_dims(left, right, transpose_a, transpose_b)
    batch = broadcast_dims(batch_a, batch_b)
    return [(None if batch is None else (*batch, *matrix), a.dtype)]


def _batch_grad(g: Any, y: Any, a: Any, b: Any, *, transpose_a: bool, transpose_b: bool) -> Any:
    by_a, by_b = _oriented(_batch_matmul, g, a, b, transpose_a, transpose_b)
    return sum_batch_to(by_a, a, b), sum_batch_to(by_b, b, a)


def _batch_cases(s: Sampler) -> list[Case]:
    shapes = (
        ((2, 3, 2), (2, 2, 3)),
        ((4, 1, 2, 3), (2, 3, 1)),
        ((2, 3), (2, 3, 2)),
        ((1, 2, 3), (4, 3, 2)),
        ((0, 2, 3), (0, 3, 2)),
    )
    cases = [Case((s.normal(*a), s.normal(*b))) for a, b in shapes]
    for ta, tb in ((True, False), (False, True), (True, True)):
        a = s.normal(2, *((3, 2) if ta else (2, 3)))
        b = s.normal(1, *((4, 3) if tb else (3, 4)))
        cases.append(Case((a, b), {"transpose_a": ta, "transpose_b": tb}))
    return cases


@op("BatchMatMul", infer=_batch_spec, grad=_batch_grad, cost=_matmul_cost, cases=_batch_cases)
def _batch_matmul(
    xp: Any, a: Num, b: Num, *, transpose_a: bool = False, transpose_b: bool = False
) -> Array:
    """Products of the matrices in the last two axes; the axes before them broadcast."""
    a = xp.swapaxes(a, -1, -2) if transpose_a else a
    b = xp.swapaxes(b, -1, -2) if transpose_b else b
    _check_inner(a, b)
    return xp.matmul(a, b).astype(a.dtype, copy=False)  # of bfloat16, NumPy's is float32


def matmul(
    a: Any,
    b: Any,
    transpose_a: bool = False,
    transpose_b: bool = False,
    adjoint_a: bool = False,
    adjoint_b: bool = False,
    a_is_sparse: bool = False,
    b_is_sparse: bool = False,
    name: str | None = None,
) -> Tensor:
    """The product of matrices; of stacks of matrices where the rank is above 2.

    Args:
      a, b: numbers of one dtype, of rank at least 2; axes before the last two broadcast.
      transpose_a, transpose_b: transpose the last two axes first.
      adjoint_a, adjoint_b: transpose and conjugate.
      a_is_sparse, b_is_sparse: accepted; they change nothing.

    Raises:
      ShapeError: the inner sizes differ.
      ValueError: both transposed and adjoint are asked for.
    """
    if (transpose_a and adjoint_a) or (transpose_b and adjoint_b):
        raise ValueError("ask for transpose or adjoint of a matrix, not for both")
    with graph_of(a, b).as_default():
        if is_symbolic(b) and not is_symbolic(a):
            b = as_tensor(b)
            a = as_tensor(a, b.dtype)
        else:
            a = as_tensor(a)
            b = as_tensor(b) if is_symbolic(b) else as_tensor(b, a.dtype)
    flat = a.dims is not None and b.dims is not None and len(a.dims) == 2 == len(b.dims)
    entry = _matmul if flat else _batch_matmul
    options = {"transpose_a": transpose_a or adjoint_a, "transpose_b": transpose_b or adjoint_b}
    if a.dtype.is_complex and (adjoint_a or adjoint_b):
        with composite(name, "MatMul", a, b) as scope:
            a, b = conjugate(a) if adjoint_a else a, conjugate(b) if adjoint_b else b
            return entry(a, b, name=scope, **options)
    return entry(a, b, name=name, **options)

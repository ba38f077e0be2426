"""Running sums and products along an axis."""

from __future__ import annotations

from typing import Any

from graphflow.base.shapes import size_of
from graphflow.build import op
from graphflow.build.opdef import Array, Num, Specs
from graphflow.build.tensor import Tensor
from graphflow.ops.cases import Case, Sampler
from graphflow.ops.complexes import conjugate
from graphflow.ops.known import static_ints
from graphflow.ops.rules import axis_in, merge_dims


def _spec(x: Tensor, *, axis: int, **_: Any) -> Specs:
    axis_in(axis, None if x.dims is None else len(x.dims))
    return [(x.dims, x.dtype)]


def _size(x: Tensor, *_: Any, **__: Any) -> float:
    return float(size_of(x.dims) or 0)


def _cases(s: Sampler) -> list[Case]:
    cases = [
        Case((s.normal(2, 3, 2),), {"axis": a, "exclusive": e, "reverse": r})
        for a in (0, 1, -1)
        for e in (False, True)
        for r in (False, True)
    ]
    return [*cases, Case((s.normal(0, 3),), {"axis": 0}), Case((s.normal(1),), {"axis": 0})]


def _cases_with_zeros(s: Sampler) -> list[Case]:
    x = s.normal(5)
    x[1] = x[3] = 0.0
    flags = [(e, r) for e in (False, True) for r in (False, True)]
    return _cases(s) + [Case((x,), {"axis": 0, "exclusive": e, "reverse": r}) for e, r in flags]


def _at(axis: int, part: slice, ndim: int) -> tuple[slice, ...]:
    index = [slice(None)] * ndim
    index[axis] = part
    return tuple(index)


def _shifted(xp: Any, x: Any, axis: int, amount: int, fill: int) -> Any:
    size = x.shape[axis]
    if not size:
        return x
    edge = xp.full_like(x[_at(axis, slice(0, 1), x.ndim)], fill)
    if amount > 0:
        return xp.concatenate([edge, x[_at(axis, slice(0, size - 1), x.ndim)]], axis=axis)
    return xp.concatenate([x[_at(axis, slice(1, size), x.ndim)], edge], axis=axis)


def _shift_grad(g: Any, y: Any, x: Any, *, axis: int, amount: int) -> Any:
    return _shift(g, axis=axis, amount=-amount)


@op(
    "Shift",
    infer=_spec,
    grad=_shift_grad,
    cases=lambda s: [
        Case((s.normal(*shape),), {"axis": axis, "amount": amount})
        for shape, axis in (((4,), 0), ((2, 3), -1), ((0, 2), 0))
        for amount in (1, -1)
    ],
)
def _shift(xp: Any, x: Num, *, axis: int, amount: int) -> Array:
    """Elements moved by one along an axis, forward (amount 1) or back (-1); 0 comes in."""
    return _shifted(xp, x, axis, amount, 0)


def _recurrence_spec(a: Tensor, b: Tensor, *, axis: int, reverse: bool) -> Specs:
    return [(merge_dims(a.dims, b.dims, "factors and terms"), a.dtype)]


def _recurrence_grad(g: Any, r: Any, a: Any, b: Any, *, axis: int, reverse: bool) -> Any:
    ahead = 1 if reverse else -1
    following = _shift(conjugate(a), axis=axis, amount=ahead)
    by_b = _recurrence(following, g, axis=axis, reverse=not reverse)
    return by_b * conjugate(_shift(r, axis=axis, amount=-ahead)), by_b


@op(
    "LinearRecurrence",
    infer=_recurrence_spec,
    grad=_recurrence_grad,
    cost=lambda a, b, **_: 2 * _size(a),
    cases=lambda s: [
        Case((s.normal(*shape), s.normal(*shape)), {"axis": axis, "reverse": reverse})
        for shape, axis in (((4,), 0), ((2, 3), -1), ((0,), 0))
        for reverse in (False, True)
    ],
)
def _recurrence(xp: Any, a: Num, b: Num, *, axis: int, reverse: bool = False) -> Array:
    """r[k] = a[k] r[k-1] + b[k] along an axis, from r[-1] = 0; in reverse from the other end."""
    size = a.shape[axis]
    if not size:
        return b
    rows: list[Any] = [None] * size
    a, b = xp.moveaxis(a, axis, 0), xp.moveaxis(b, axis, 0)
    last = xp.zeros_like(b[0])
    for k in reversed(range(size)) if reverse else range(size):
        last = rows[k] = a[k] * last + b[k]
    return xp.stack(rows, axis=axis)


def _scan(xp: Any, scan: Any, x: Any, axis: int, exclusive: bool, reverse: bool, start: int) -> Any:
    y = xp.flip(x, axis) if reverse else x
    if exclusive:
        y = _shifted(xp, y, axis, 1, start)
    y = scan(y, axis=axis, dtype=x.dtype)
    return xp.flip(y, axis) if reverse else y


def _cumsum_grad(g: Any, y: Any, x: Any, *, axis: int, exclusive: bool, reverse: bool) -> Any:
    return _cumsum(g, axis=axis, exclusive=exclusive, reverse=not reverse)


@op("Cumsum", infer=_spec, grad=_cumsum_grad, cost=_size, cases=_cases)
def _cumsum(xp: Any, x: Num, *, axis: int, exclusive: bool = False, reverse: bool = False) -> Array:
    """Running sums along an axis."""
    return _scan(xp, xp.cumsum, x, axis, exclusive, reverse, 0)


def _cumprod_grad(g: Any, y: Any, x: Any, *, axis: int, exclusive: bool, reverse: bool) -> Any:
    """The product of the factors before, times a recurrence over those after: no division."""
    ahead = 1 if reverse else -1
    x = conjugate(x)
    before = _cumprod(x, axis=axis, exclusive=True, reverse=reverse)
    terms = _shift(g, axis=axis, amount=ahead) if exclusive else g
    after = _shift(x, axis=axis, amount=ahead)
    return before * _recurrence(after, terms, axis=axis, reverse=not reverse)


@op("Cumprod", infer=_spec, grad=_cumprod_grad, cost=_size, cases=_cases_with_zeros)
def _cumprod(
    xp: Any, x: Num, *, axis: int, exclusive: bool = False, reverse: bool = False
) -> Array:
    """Running products along an axis."""
    return _scan(xp, xp.cumprod, x, axis, exclusive, reverse, 1)


# ---- TensorFlow's functions


def cumsum(
    x: Any, axis: Any = 0, exclusive: bool = False, reverse: bool = False, name: str | None = None
) -> Tensor:
    """Running sums along an axis.

    Args:
      x: numbers of rank at least 1.
      axis: the axis.
      exclusive: leave out the element itself: [a, b, c] gives [0, a, a + b].
      reverse: from the end: [a, b, c] gives [a + b + c, b + c, c].
    """
    axis = static_ints(axis, "axis")
    return _cumsum(x, axis=axis, exclusive=exclusive, reverse=reverse, name=name)


def cumprod(
    x: Any, axis: Any = 0, exclusive: bool = False, reverse: bool = False, name: str | None = None
) -> Tensor:
    """Running products along an axis; the gradient is right at zeros.  See `cumsum`."""
    axis = static_ints(axis, "axis")
    return _cumprod(x, axis=axis, exclusive=exclusive, reverse=reverse, name=name)

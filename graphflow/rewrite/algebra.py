"""The rule tables.  What is exact keeps every bit (the payload of NaN aside), for -0.0, NaN,
infinities and overflow, too; the rest is fast math and off by default."""

from __future__ import annotations

from typing import Any

import numpy as np

from graphflow.base.shapes import is_known, size_of
from graphflow.build.tensor import Operation
from graphflow.rewrite.patterns import Rules, Term, call, wildcard

x, y = wildcard("x"), wildcard("y")
p = wildcard("p")


def _real(x: Term) -> Term | None:
    """(1 + 0i) times an infinity has NaN parts: what is exact for reals is not for complexes."""
    return None if x.dtype.is_complex else x


def _exact_inverse(x: Term, p: Term) -> Term | None:
    """x / p as a product, where p is a power of two: both round the same real number."""
    operation = p.tensor.op
    if operation.type != "Const" or not p.dtype.is_floating or p.dtype.np.kind != "f":
        return None
    value = operation.attrs["value"]
    limits = np.finfo(value.dtype)
    mantissa, _ = np.frexp(value)
    with np.errstate(all="ignore"):
        inverse = (1 / value).astype(value.dtype)
    normal = (abs(value) >= limits.tiny) & (abs(inverse) >= limits.tiny) & np.isfinite(inverse)
    return x * inverse if np.all(normal & (abs(mantissa) == 0.5)) else None


def _permutation(operation: Operation) -> tuple[int, ...] | None:
    perm, dims = operation.attrs["perm"], operation.outputs[0].dims
    if perm is not None:
        return tuple(perm)
    return None if dims is None else tuple(range(len(dims)))[::-1]


def _transposed(op: Operation, x: Term) -> Term | None:
    perm = _permutation(op)
    return x if perm is not None and perm == tuple(range(len(perm))) else None


def _transposed_twice(op: Operation, x: Term) -> Term | None:
    outer, inner = _permutation(op), _permutation(op.inputs[0].op)
    if outer is None or inner is None:
        return None
    return call("Transpose", x, perm=tuple([inner[i] for i in outer]))


def _same_shape(op: Operation, x: Term, p: Term | None = None, y: Term | None = None) -> Any:
    """x, where its shape is known to be that of the output.  The op keeps the elements of x and
    their order, or broadcasts them."""
    return x if is_known(x.dims) and x.dims == op.outputs[0].dims else None


def _given_shape(op: Operation, x: Term, p: Term) -> Term | None:
    """x, where it has the shape asked for.  A shape that only the run tells may not fit, even
    where the output's is known: that must fail."""
    return _same_shape(op, x) if _constant(p) else None


def _reshaped_twice(op: Operation, x: Term, p: Term, y: Term | None = None) -> Term | None:
    """The first of two reshapes goes where it cannot fail in the run."""
    inner = op.inputs[0].op
    if inner.type == "Reshape" and inner.inputs[1].op.type != "Const":
        return None
    middle = op.inputs[0].dims
    sizes = size_of(middle), size_of(x.dims)
    return call("Reshape", x, p) if None not in sizes and sizes[0] == sizes[1] else None


def _cast(op: Operation, x: Term) -> Term | None:
    return x if x.dtype is op.outputs[0].dtype else None


def _cast_back(op: Operation, x: Term) -> Term | None:
    """To a dtype that holds every value, and back."""
    wide, dtype = op.inputs[0].dtype.np, x.dtype.np
    if x.dtype is not op.outputs[0].dtype or "V" in (wide.kind, dtype.kind):
        return None
    lossy = dtype.kind in "iu" and dtype.itemsize == 8 and wide.kind in "fc"
    return x if not lossy and np.can_cast(dtype, wide) else None


def _shape(op: Operation, x: Term) -> Term:
    return call("Shape", x, **op.attrs)


# A shape that is taken of an input lets go of the output early: gradients ask for many.
_KEEP_SHAPE = ("Neg", "Abs", "Square", "Sqrt", "Exp", "Log", "Tanh", "Sigmoid", "Relu", "Cast")

EXACT = Rules(
    # names and markers
    (call("Identity", x), lambda x: x),
    (call("StopGradient", x), lambda x: x),
    (call("PreventGradient", x), lambda x: x),
    (call("PlaceholderWithDefault", x), lambda x: x),
    # signs
    (-(-x), lambda x: x),  # noqa: B002 - a pattern, no decrement
    (x - (-y), lambda x, y: x + y),
    (x + (-y), lambda x, y: x - y),
    ((-x) * (-y), lambda x, y: x * y if _real(x) else None),
    ((-x) / (-y), lambda x, y: x / y if _real(x) else None),
    (call("Abs", -x), lambda x: call("Abs", x)),
    (call("Abs", call("Abs", x)), lambda x: call("Abs", x)),
    (call("Square", -x), lambda x: call("Square", x) if _real(x) else None),
    (call("Square", call("Abs", x)), lambda x: call("Square", x) if _real(x) else None),
    # neutral elements; x + 0 is not among them: it turns -0.0 into 0.0
    (x * 1, lambda x: x),
    (x / 1, lambda x: x),
    (x - 0.0, lambda x: x),
    (x + -0.0, lambda x: None if x.dtype.is_integer else x),
    (x + 0, lambda x: x if x.dtype.is_integer else None),
    (x**1, lambda x: x),
    (x * -1, lambda x: -x),
    (x / p, _exact_inverse),
    (call("AddN", x), lambda x: x),
    (call("Maximum", x, x), lambda x: x),
    (call("Minimum", x, x), lambda x: x),
    # logic
    (call("LogicalNot", call("LogicalNot", x)), lambda x: x),
    (call("LogicalNot", call("Equal", x, y)), lambda x, y: call("NotEqual", x, y)),
    (call("LogicalNot", call("NotEqual", x, y)), lambda x, y: call("Equal", x, y)),
    (call("LogicalAnd", x, x), lambda x: x),
    (call("LogicalOr", x, x), lambda x: x),
    (call("LogicalAnd", x, True), lambda x: x),
    (call("LogicalOr", x, False), lambda x: x),
    (call("Select", p, x, x), lambda p, x: x),
    (call("Select", True, x, y), lambda x, y: x),
    (call("Select", False, x, y), lambda x, y: y),
    (call("SelectV2", p, x, x), _same_shape),  # it broadcasts
    (call("SelectV2", True, x, y), _same_shape),
    (call("SelectV2", False, y, x), _same_shape),
    # dtypes
    (call("Cast", x), _cast),
    (call("Cast", call("Cast", x)), _cast_back),
    # shapes
    (call("Transpose", x), _transposed),
    (call("Transpose", call("Transpose", x)), _transposed_twice),
    (call("Reshape", x, p), _given_shape),
    (call("Reshape", call("Reshape", x, y), p), _reshaped_twice),
    (call("Reshape", call("ExpandDims", x), p), _reshaped_twice),
    (call("Reshape", call("Squeeze", x), p), _reshaped_twice),
    (call("Squeeze", call("ExpandDims", x)), _same_shape),
    (call("ExpandDims", call("Squeeze", x)), _same_shape),
    (call("ExpandDims", call("Reshape", x, p)), _same_shape),
    (call("Squeeze", call("Reshape", x, p)), _same_shape),
    (call("BroadcastTo", x, p), _given_shape),
    *[(call("Shape", call(name, x)), _shape) for name in _KEEP_SHAPE],
    (call("ConcatV2", x), lambda x: x),
    (call("Tile", x, 1), lambda x: x),
    (call("Pad", x, 0), lambda x: x),
    (call("Slice", x, 0, -1), lambda x: x),
)


def _constant(p: Term) -> bool:
    return p.tensor.op.type == "Const"


def _both_constant(p: Term, y: Term) -> bool:
    return _constant(p) and _constant(y) and not p.dtype.is_integer


def _inverse(x: Term, p: Term) -> Term | None:
    return x * (1 / p) if _constant(p) and p.dtype.is_floating else None


FAST = Rules(
    (x + 0.0, lambda x: x),
    (x + -0.0, lambda x: x),
    (-(x - y), lambda x, y: y - x),
    ((x + p) + y, lambda x, p, y: x + (p + y) if _both_constant(p, y) else None),
    ((x * p) * y, lambda x, p, y: x * (p * y) if _both_constant(p, y) else None),
    (x / p, _inverse),
    (x**2, lambda x: call("Square", x)),
    (x**0.5, lambda x: call("Sqrt", x)),
    (1 / call("Sqrt", x), lambda x: call("Rsqrt", x)),
    (x / call("Sqrt", y), lambda x, y: x * call("Rsqrt", y)),
    (call("Reciprocal", call("Sqrt", x)), lambda x: call("Rsqrt", x)),
    (call("Log", call("Exp", x)), lambda x: _real(x)),
    (call("Exp", call("Log", x)), lambda x: _real(x)),
    (call("Sqrt", call("Square", x)), lambda x: call("Abs", x) if _real(x) else None),
    (call("Square", call("Sqrt", x)), lambda x: _real(x)),
)

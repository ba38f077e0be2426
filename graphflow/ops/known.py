"""What is known of a tensor's value while the graph is built.

`constant_value` gives whole values, `known_dims` the known part of shapes that programs compute,
so that `tf.reshape(x, [tf.shape(x)[0], 784])` has the static shape (?, 784).
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np

from graphflow.base.errors import DTypeError, GraphError, OpError
from graphflow.base.shapes import Dims, is_known, size_of
from graphflow.build.body import Body
from graphflow.build.tensor import Operation, Tensor
from graphflow.ops.evaluate import evaluate

MAX_ELEMENTS = 4096  # of each value on the way
MAX_OPERATIONS = 200
MAX_STEPS = 100  # of partial knowledge; it recurses

Known = tuple[int | None, ...]
Memo = dict[Tensor, "Known | None"]

# A value that depends on no value: it is replaced, so that placeholders are not asked.
_OF_SHAPE = frozenset({"Shape", "Size", "Rank", "ZerosLike", "OnesLike"})
# Pure, yet what it gives is not known: it may be fed.
_OPEN = frozenset({"PlaceholderWithDefault"})


def constant_value(tensor: Any) -> np.ndarray[Any, Any] | None:
    """The value of a tensor that depends on constants and static shapes alone, else None.

    Values of more than 4096 elements are followed no further than a `Const`.
    """
    if not isinstance(tensor, Tensor):
        return None
    return _constant(tensor, {})


def _constant(tensor: Tensor, memo: Memo) -> np.ndarray[Any, Any] | None:
    found = _given(_outside(tensor))
    if found is not None:
        return found
    given = _leaves(tensor, memo)
    if given is None:
        return None
    try:
        return np.asarray(evaluate([tensor], given)[0])
    except (OpError, GraphError, ArithmeticError):
        return None  # the run will say what is wrong


def _leaves(tensor: Tensor, memo: Memo) -> dict[Tensor, Any] | None:
    """Values of what `tensor` is computed from; None where one is not known."""
    given: dict[Tensor, Any] = {}
    seen: set[Operation] = set()
    stack = [tensor]
    while stack:
        at = stack.pop()
        outer = _outside(at)
        value = _given(outer)
        if value is None:
            value = _whole(outer, memo) if outer is at else _constant(outer, memo)
        if value is not None:
            given[at] = value
            continue
        if at.op in seen:
            continue
        seen.add(at.op)
        if len(seen) > MAX_OPERATIONS or not _follows(at.op):
            return None
        stack += at.op.inputs
    return given


def _follows(operation: Operation) -> bool:
    opdef = operation.opdef
    if opdef.kernel is None or not opdef.pure or opdef.takes_ctx or operation.type in _OPEN:
        return False
    sizes = [size_of(t.dims) for t in operation.outputs]
    return all(n is None or n <= MAX_ELEMENTS for n in sizes) and (
        opdef.dynamic or None not in sizes
    )


def _given(tensor: Tensor) -> Any:
    """Value of a constant, or of a function of a static shape."""
    operation = tensor.op
    if operation.type == "Const":
        return operation.attrs["value"]
    if operation.type not in _OF_SHAPE:
        return None
    dims = operation.inputs[0].dims
    if operation.type == "Rank":
        return None if dims is None else np.array(len(dims), tensor.dtype.np)
    if dims is None or not is_known(dims):
        return None
    if operation.type == "Shape":
        return np.array(dims, tensor.dtype.np)
    total = size_of(dims) or 0
    if operation.type == "Size":
        return np.array(total, tensor.dtype.np)
    if total > MAX_ELEMENTS or tensor.dtype.np.kind == "O":
        return None
    return np.full(dims, operation.type == "OnesLike", tensor.dtype.np)


def _outside(tensor: Tensor) -> Tensor:
    """What a capture stands for."""
    while tensor.op.type == "Argument" and isinstance(tensor.graph, Body):
        for outer, inner in tensor.graph.captures.items():
            if inner is tensor:
                tensor = outer
                break
        else:
            return tensor
    return tensor


# ---- partial knowledge


def known_dims(tensor: Tensor, memo: Memo | None = None) -> Known | None:
    """The entries of an integer vector (a scalar counts as one), each None where unknown.

    None: not even their number is known, or it is no vector of integers.
    """
    memo = {} if memo is None else memo
    if tensor not in memo:
        memo[tensor] = None  # for the count, until it is known
        memo[tensor] = _entries(_outside(tensor), memo)
    return memo[tensor]


def _entries(tensor: Tensor, memo: Memo) -> Known | None:
    dims = tensor.dims
    if not tensor.dtype.is_integer or (dims is not None and len(dims) > 1):
        return None
    value = _given(tensor)
    rule = _PARTIAL.get(tensor.op.type)
    if value is None and rule is None:
        value = _constant(tensor, memo)
    if value is not None:
        return tuple(value.ravel().tolist())
    found = rule(tensor, memo) if rule and len(memo) < MAX_STEPS else None
    if found is None and dims is not None and is_known(dims):
        return (None,) * (size_of(dims) or 0)
    return found


def _whole(tensor: Tensor, memo: Memo) -> Any:
    """The value of a vector of which every entry is known."""
    if tensor.op.type not in _PARTIAL or tensor.dims is None or not tensor.dtype.is_integer:
        return None
    found = known_dims(tensor, memo)
    if found is None or None in found:
        return None
    return np.array(found, tensor.dtype.np).reshape(() if tensor.dims == () else -1)


def shape_from(tensor: Tensor) -> Dims:
    """The static shape that a shape vector describes; -1 is unknown."""
    found = known_dims(tensor)
    return None if found is None else tuple([None if n is None or n < 0 else n for n in found])


def _shape(tensor: Tensor, memo: Memo) -> Known | None:
    return tensor.op.inputs[0].dims


def _same(tensor: Tensor, memo: Memo) -> Known | None:
    """Of an op that keeps the values."""
    source = tensor.op.inputs[0]
    return known_dims(source, memo) if source.dtype.is_integer else None


def _joined(tensor: Tensor, memo: Memo) -> Known | None:
    parts = [known_dims(t, memo) for t in tensor.op.inputs]
    joined: list[int | None] = []
    for part in parts:
        if part is None:
            return None
        joined += part
    return tuple(joined)


def _indexed(tensor: Tensor, memo: Memo) -> Known | None:
    """Of a slice of a vector, with known bounds."""
    from graphflow.ops.slicing import numpy_index

    source, *bounds = tensor.op.inputs
    values = known_dims(source, memo)
    spans = [s for b in bounds if (s := known_dims(b, memo)) is not None and None not in s]
    if values is None or len(spans) < 3 or source.dims is None:
        return None
    box: Any = np.empty(len(values), object)
    box[:] = values
    box = box.reshape(() if source.dims == () else -1)
    begin, end, strides = spans
    index = numpy_index(begin, end, strides, **tensor.op.attrs)
    box = box.reshape(()) if source.dims == () else box
    return tuple(box[index].ravel().tolist())  # an array: the index has an ellipsis


def _sliced(tensor: Tensor, memo: Memo) -> Known | None:
    values, begin, size = [known_dims(t, memo) for t in tensor.op.inputs]
    if values is None or not begin or not size or begin[0] is None or size[0] is None:
        return None
    return values[begin[0] :] if size[0] < 0 else values[begin[0] : begin[0] + size[0]]


def _gathered(tensor: Tensor, memo: Memo) -> Known | None:
    values, indices = [known_dims(t, memo) for t in tensor.op.inputs[:2]]
    if values is None or indices is None:
        return None
    inside = [None if i is None or not 0 <= i < len(values) else values[i] for i in indices]
    return tuple(inside)


def _product(tensor: Tensor, memo: Memo) -> Known | None:
    values = known_dims(tensor.op.inputs[0], memo)
    return None if values is None or None in values else (size_of(values),)


def _elementwise(function: Callable[[Any, Any], Any]) -> Callable[[Tensor, Memo], Known | None]:
    def rule(tensor: Tensor, memo: Memo) -> Known | None:
        a, b = [known_dims(t, memo) for t in tensor.op.inputs]
        if a is None or b is None:
            return None
        if len(a) != len(b):
            if len(a) != 1 and len(b) != 1:
                return None
            n = max(len(a), len(b))
            a, b = a * (n // len(a)), b * (n // len(b))
        pairs = zip(a, b, strict=True)
        return tuple([None if m is None or n is None else function(m, n) for m, n in pairs])

    return rule


def _quotient(a: int, b: int) -> int | None:
    return a // b if b else None


_PARTIAL: dict[str, Callable[[Tensor, Memo], Known | None]] = {
    "Shape": _shape,
    "Identity": _same,
    "StopGradient": _same,
    "Cast": _same,
    "Reshape": _same,
    "ExpandDims": _same,
    "Squeeze": _same,
    "Pack": _joined,
    "ConcatV2": _joined,
    "StridedSlice": _indexed,
    "Slice": _sliced,
    "GatherV2": _gathered,
    "Prod": _product,
    "Add": _elementwise(operator.add),
    "Sub": _elementwise(operator.sub),
    "Mul": _elementwise(operator.mul),
    "FloorDiv": _elementwise(_quotient),
    "Maximum": _elementwise(max),
    "Minimum": _elementwise(min),
}


# ---- attributes that programs may give as tensors


def static_ints(value: Any, what: str) -> Any:
    """An int, a tuple of ints or None, from what a program gave as an axis or a permutation.

    Raises:
      GraphError: it is a tensor whose value is not known while the graph is built.
    """
    if value is None or type(value) is int:
        return value
    if isinstance(value, (tuple, list)):
        return tuple([static_ints(v, what) for v in value])
    if hasattr(value, "as_graph_tensor"):
        value = value.as_graph_tensor(None)
    if isinstance(value, Tensor):
        found = constant_value(value)
        if found is None:
            raise GraphError(
                f"{what} must be known while the graph is built, but {value!r} is computed by "
                f"the run; built at {value.op.site}"
            )
        value = found
    if isinstance(value, np.ndarray):
        if value.dtype.kind not in "iu" and value.size:
            raise DTypeError(f"{what} must be integers, not {value.dtype} ({value.tolist()})")
        value = value.tolist()
        return tuple(value) if isinstance(value, list) else int(value)
    if isinstance(value, range):
        return tuple(value)
    try:
        return int(value.__index__())
    except AttributeError:
        raise TypeError(f"{what} must be an integer, not {value!r}") from None

"""How the ops that are no scalar expressions lower to tasks.

A rule gets (specialiser, step, views of the inputs, (shape, dtype) per output) and gives a view
per output, or None: then the reference kernel computes the step.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal

import numpy as np

from graphflow.compile.loops.values import (
    Join,
    Multiply,
    Pick,
    Reduce,
    Value,
    View,
    broadcast,
    reshaped,
    row_major,
    squeezed,
    whole,
)
from graphflow.ops.expression import Node, apply

RULES: dict[str, Callable[..., Any]] = {}


def _rule(*names: str) -> Callable[[Any], Any]:
    def register(function: Any) -> Any:
        RULES.update(dict.fromkeys(names, function))
        return function

    return register


def _arg(view: View, index: int) -> Node:
    return Node("arg", (), view.dtype, index)


def _copied(s: Any, view: View, name: str) -> View:
    return whole(s.copied(view, name))


# ---- views


@_rule("Identity", "StopGradient", "PreventGradient", "PlaceholderWithDefault", "EnsureShape")
def _identity(s: Any, step: Any, inputs: Any, specs: Any) -> Any:
    return [inputs[0]] if specs[0][0] == inputs[0].shape else None


@_rule("Reshape", "ExpandDims", "Squeeze")
def _reshape(s: Any, step: Any, inputs: Any, specs: Any) -> Any:
    if any(s.static(v) is None for v in inputs[1:]):
        return None
    view = reshaped(inputs[0], specs[0][0])
    if view is None:
        view = reshaped(_copied(s, inputs[0], step.name), specs[0][0])
    return [view]


@_rule("BroadcastTo")
def _broadcast_to(s: Any, step: Any, inputs: Any, specs: Any) -> Any:
    if s.static(inputs[1]) is None:
        return None
    return [broadcast(inputs[0], specs[0][0])]


@_rule("ZerosLike", "OnesLike")
def _like(s: Any, step: Any, inputs: Any, specs: Any) -> Any:
    shape, dtype = specs[0]
    one = s.constant(np.full((), step.opdef.name == "OnesLike", dtype))
    return [broadcast(one, shape)]


@_rule("Transpose")
def _transpose(s: Any, step: Any, inputs: Any, specs: Any) -> Any:
    (x,) = inputs
    perm = step.attrs["perm"]
    perm = range(len(x.shape))[::-1] if perm is None else perm
    shape = tuple([x.shape[p] for p in perm])
    return [View(x.value, shape, tuple([x.strides[p] for p in perm]), x.offset)]


@_rule("MatrixTranspose")
def _matrix_transpose(s: Any, step: Any, inputs: Any, specs: Any) -> Any:
    return [_swapped(inputs[0])]


def _swapped(x: View) -> View:
    shape = (*x.shape[:-2], x.shape[-1], x.shape[-2])
    return View(x.value, shape, (*x.strides[:-2], x.strides[-1], x.strides[-2]), x.offset)


@_rule("Split", "Unpack")
def _pieces(s: Any, step: Any, inputs: Any, specs: Any) -> Any:
    (x,) = inputs
    axis = step.attrs["axis"] % len(x.shape)
    views = []
    at = x.offset
    for shape, _ in specs:
        strides = x.strides
        width = shape[axis] if step.opdef.name == "Split" else 1
        if step.opdef.name == "Unpack":
            strides = (*strides[:axis], *strides[axis + 1 :])
        views.append(View(x.value, shape, strides, at))
        at += width * x.strides[axis]
    return views


@_rule("ConcatV2", "Pack")
def _joined(s: Any, step: Any, inputs: Any, specs: Any) -> Any:
    """Each input is copied into its place; the copy fuses with what computes the input."""
    shape, dtype = specs[0]
    if 0 in shape:
        return None
    out = Value(shape, dtype)
    strides = row_major(shape)
    axis = step.attrs["axis"] % len(shape)
    pack = step.opdef.name == "Pack"
    moves = (*strides[:axis], *strides[axis + 1 :]) if pack else strides
    at = 0
    pieces = []
    for view in inputs:
        if view.size:
            home = View(out, view.shape, moves, at * strides[axis])
            pieces.append(s.copied(view, step.name, home))
        at += 1 if pack else view.shape[axis]
    return [s.add(Join(out, tuple(pieces), step.name))]


# ---- reductions


@_rule("Sum", "Mean", "Max", "Min")
def _reduction(s: Any, step: Any, inputs: Any, specs: Any) -> Any:
    (x,) = inputs
    axes = step.attrs["axis"]
    rank = len(x.shape)
    axes = range(rank) if axes is None else [axes] if isinstance(axes, int) else axes
    return _reduced(s, step, x, {a % rank for a in axes}, specs[0])


@_rule("SumTo")
def _sum_to(s: Any, step: Any, inputs: Any, specs: Any) -> Any:
    x = inputs[0]
    target = specs[0][0]
    if s.static(inputs[1]) is None:
        return None
    lead = len(x.shape) - len(target)
    axes = {*range(lead)} | {
        lead + i for i, n in enumerate(target) if n == 1 and x.shape[lead + i] != 1
    }
    return _reduced(s, step, x, axes, specs[0])


@_rule("BiasAddGrad")
def _bias_add_grad(s: Any, step: Any, inputs: Any, specs: Any) -> Any:
    (x,) = inputs
    axis = len(x.shape) - 1 if step.attrs["data_format"] in (None, "NHWC") else 1
    return _reduced(s, step, x, {*range(len(x.shape))} - {axis}, specs[0])


_OPS = {"Max": "maximum", "Min": "minimum"}


def _reduced(s: Any, step: Any, x: View, axes: set[int], spec: Any) -> Any:
    """A reduction over axes that lead or end the shape, those of size 1 left out of it; the others
    stay reference."""
    shape, dtype = spec
    if dtype.kind != "f" or not x.size:
        return None
    gone = [a in axes for a, n in enumerate(x.shape) if n != 1]
    if not any(gone):
        return [reshaped(x, shape)]
    x = View(x.value, *squeezed(x.shape, x.strides), x.offset)
    view: View | None
    over: Literal["rows", "columns", "all"]
    if all(gone):
        over, view = "all", x
    elif gone == sorted(gone):
        over, view = "rows", _merged(x, gone.index(True))
    elif gone == sorted(gone, reverse=True):
        over, view = "columns", _merged(x, gone.index(False))
    else:
        return None
    if view is None:
        return None
    out = Value(_out_shape(view, over), dtype)
    result = s.add(Reduce(out, view, _OPS.get(step.opdef.name, "add"), over, step.name))
    if step.opdef.name == "Mean":
        count = Node("const", (), dtype, float(x.size // out.size))
        result = s.map(out.shape, [result], apply("divide", _arg(result, 0), count), step.name)
    return [reshaped(result, shape)]


def _merged(x: View, at: int) -> View | None:
    """The axes from `at` on as one."""
    return reshaped(x, (*x.shape[:at], math.prod(x.shape[at:])))


def _out_shape(view: View, over: str) -> tuple[int, ...]:
    if over == "all":
        return ()
    return view.shape[:-1] if over == "rows" else view.shape[-1:]


# ---- bias, softmax and cross-entropy, in scalar expressions and reductions


@_rule("BiasAdd")
def _bias_add(s: Any, step: Any, inputs: Any, specs: Any) -> Any:
    x, bias = inputs
    if step.attrs["data_format"] == "NCHW":
        trailing = (1,) * (len(x.shape) - 2)
        bias = reshaped(bias, (*bias.shape, *trailing))
    return [s.map(x.shape, [x, bias], apply("add", _arg(x, 0), _arg(bias, 1)), step.name)]


def _row_shape(x: View) -> tuple[int, ...]:
    return (*x.shape[:-1], 1)


def _over_rows(s: Any, x: View, op: str, name: str) -> View:
    out = Value(x.shape[:-1], x.dtype)
    view = s.add(Reduce(out, x, op, "rows", name))
    result = reshaped(view, _row_shape(x))
    assert result is not None
    return result


def _binary(s: Any, op: str, a: View, b: View, name: str) -> View:
    return s.map(a.shape, [a, b], apply(op, _arg(a, 0), _arg(b, 1)), name)


def _unary(s: Any, op: str, a: View, name: str) -> View:
    return s.map(a.shape, [a], apply(op, _arg(a, 0)), name)


def _softmax_parts(s: Any, x: View, name: str) -> tuple[View, View, View]:
    """Shifted logits, exponentials, and their sums."""
    top = _over_rows(s, x, "maximum", name)
    shifted = _binary(s, "subtract", x, top, name)
    exponentials = _unary(s, "exp", shifted, name)
    return shifted, exponentials, _over_rows(s, exponentials, "add", name)


def _suits_rows(x: View) -> bool:
    return x.dtype == np.float32 and len(x.shape) > 1 and x.shape[-1] > 1 and x.size > 0


@_rule("Softmax", "LogSoftmax")
def _softmax(s: Any, step: Any, inputs: Any, specs: Any) -> Any:
    (x,) = inputs
    if not _suits_rows(x) or step.attrs["axis"] % len(x.shape) != len(x.shape) - 1:
        return None
    shifted, exponentials, sums = _softmax_parts(s, x, step.name)
    if step.opdef.name == "Softmax":
        return [_binary(s, "divide", exponentials, sums, step.name)]
    return [_binary(s, "subtract", shifted, _unary(s, "log", sums, step.name), step.name)]


@_rule("SparseSoftmaxCrossEntropyWithLogits")
def _sparse_loss(s: Any, step: Any, inputs: Any, specs: Any) -> Any:
    x, labels = inputs
    if not _suits_rows(x) or labels.shape != x.shape[:1]:
        return None
    shifted, exponentials, sums = _softmax_parts(s, x, step.name)
    log_sum = reshaped(_unary(s, "log", sums, step.name), x.shape[:1])
    assert log_sum is not None
    picked = s.add(Pick(Value(x.shape[:1], x.dtype), shifted, labels, step.name))
    loss = _binary(s, "subtract", log_sum, picked, step.name)
    columns = s.constant(np.arange(x.shape[1], dtype=labels.dtype))
    column = reshaped(labels, _row_shape(x))
    assert column is not None
    index = broadcast(column, x.shape)
    args = [Node("arg", (), v.dtype, i) for i, v in enumerate((exponentials, sums, columns, index))]
    hit = apply("equal", args[2], args[3]).astype(x.dtype)
    body = apply("subtract", apply("divide", args[0], args[1]), hit)
    backprop = s.map(x.shape, [exponentials, sums, columns, index], body, step.name)
    return [loss, backprop]


@_rule("SoftmaxCrossEntropyWithLogits")
def _dense_loss(s: Any, step: Any, inputs: Any, specs: Any) -> Any:
    x, labels = inputs
    if not _suits_rows(x) or labels.shape != x.shape:
        return None
    shifted, exponentials, sums = _softmax_parts(s, x, step.name)
    log_sum = _unary(s, "log", sums, step.name)
    views = (labels, log_sum, shifted)
    y, log, z = [_arg(v, i) for i, v in enumerate(views)]
    # a label of 0 counts as 0 also where the logit is -inf
    body = apply("where", apply("equal", y, 0), y, y * (log - z))
    terms = s.map(x.shape, views, body, step.name)
    loss = reshaped(_over_rows(s, terms, "add", step.name), x.shape[:1])
    views = (exponentials, sums, labels)
    e, total, y = [_arg(v, i) for i, v in enumerate(views)]
    return [loss, s.map(x.shape, views, e / total - y, step.name)]


# ---- products


@_rule("MatMul", "BatchMatMul")
def _matmul(s: Any, step: Any, inputs: Any, specs: Any) -> Any:
    a, b = inputs
    shape, dtype = specs[0]
    if (
        not s.products
        or dtype != np.float32
        or 0 in (*a.shape, *b.shape)
        or a.shape[:-2] != b.shape[:-2]
    ):
        return None
    a = _swapped(a) if step.attrs["transpose_a"] else a
    b = _swapped(b) if step.attrs["transpose_b"] else b
    a, b = [v if _leading(v) else _copied(s, v, step.name) for v in (a, b)]
    return [s.multiply(Multiply(Value(shape, dtype), ((a, b),), step.name))]


def _leading(view: View) -> bool:
    """Can GEMM read it: one of the two axes has stride 1, the other a leading dimension?"""
    (m, n), (row, column) = view.shape[-2:], view.strides[-2:]
    return (column == 1 and (row >= n or m == 1)) or (row == 1 and (column >= m or n == 1))


@_rule("AddN")
def _add_n(s: Any, step: Any, inputs: Any, specs: Any) -> Any:
    """A sum of products is one: each is added to what is there."""
    terms: list[Any] = []
    for view in inputs:
        task = s.products_of.get(id(view.value))
        if task is None or not view.is_whole or view.shape != task.out.shape:
            return None
        terms += task.terms
    out = Value(*specs[0])
    return [s.multiply(Multiply(out, tuple(terms), step.name))]


@_rule("Cast")
def _cast(s: Any, step: Any, inputs: Any, specs: Any) -> Any:
    (x,) = inputs
    shape, dtype = specs[0]
    if x.dtype.kind == "f" and dtype.kind in "iu":
        return None  # what is out of range is undefined here, and defined there
    return [s.map(shape, [x], _arg(x, 0).astype(dtype), step.name)]

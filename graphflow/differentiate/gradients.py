"""Reverse mode: `gradients` adds the gradient ops of a graph to it.

The operations between xs and ys are visited newest first.  When one is visited, all gradients
of its outputs have arrived; they are summed, handed to the `grad` of its entry, and what that
returns is noted at its inputs.  No step is recursive: a chain of 100,000 operations is fine.

What an entry's `grad` may count on:

- `g` is the gradient of the output, a tensor of its shape and dtype; with several outputs a
  tuple, where an output that nothing used has zeros, or None if its dtype is no floating or
  complex one, or if the entry takes `operation` (below).  Only the ops in `KEEPS_SLICES` see
  IndexedSlices; others get them as tensors.
- It returns a gradient per input, or None for an input that has none; a single input's may come
  without a tuple.  Its shape and dtype must be the input's, save for handles and variants.
- A parameter `differentiate` receives the function `gradients`, one called `operation` the
  operation itself: entries that own bodies need them.
- The gradient of a complex value is conjugated as in TensorFlow: that of f is conj(df/dx).
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache
from typing import Any

import numpy as np

from graphflow.base import dtypes
from graphflow.base.errors import DTypeError, GraphError, ShapeError
from graphflow.base.shapes import CLASH, format_dims, is_known, merged
from graphflow.build import OPS, Graph, Tensor, as_tensor
from graphflow.build.convert import is_symbolic
from graphflow.build.defaults import get_default_graph
from graphflow.build.tensor import Operation
from graphflow.differentiate.accumulate import METHODS, AggregationMethod, is_sparse, total
from graphflow.differentiate.region import Region, between, carries
from graphflow.differentiate.registered import override, replaced

KEEPS_SLICES = frozenset({"Identity", "ReadVariable"})  # they hand their gradient on as it is


class UnconnectedGradients:
    """What `gradients` gives for an x that no y depends on, under TensorFlow's names."""

    NONE = "none"
    ZERO = "zero"


def gradients(
    ys: Any,
    xs: Any,
    grad_ys: Any = None,
    name: str = "gradients",
    colocate_gradients_with_ops: bool = False,
    gate_gradients: bool = False,
    aggregation_method: int | None = None,
    stop_gradients: Any = None,
    unconnected_gradients: str = UnconnectedGradients.NONE,
) -> list[Any]:
    """Gradient of the sum of ys with respect to each of xs.

    Args:
      ys: a tensor or a list of tensors.
      xs: a tensor, variable, or a list of them.  An x may be any tensor, also one between; what
        is behind it counts only for other xs.
      grad_ys: what the gradients of ys begin with, one per y; by default, and where None, ones.
      name: name scope of the ops that are added.
      colocate_gradients_with_ops: put each op's gradient on the device of the op.
      gate_gradients: let no gradient of an op be used before all of them are there.
      aggregation_method: one of `AggregationMethod`.
      stop_gradients: tensors to take as constants.
      unconnected_gradients: "none" or "zero": what an x gets that no y depends on.

    Returns:
      One gradient per x: a tensor of its shape and dtype (a variable's: of its value), an
      `IndexedSlices` where all that reads a variable gathers from it, or None.

    Raises:
      LookupError: the way leads through `PreventGradient`.
      ValueError: `grad_ys` and ys differ in number or shape, or an argument means nothing.
      TypeError: a complex y has no `grad_ys`, or dtypes of `grad_ys` and ys differ.
    """
    unconnected = getattr(unconnected_gradients, "value", unconnected_gradients)
    if unconnected not in ("none", "zero"):
        raise GraphError(f"unconnected_gradients={unconnected!r}: it must be 'none' or 'zero'")
    method = AggregationMethod.DEFAULT if aggregation_method is None else aggregation_method
    if method not in METHODS:
        raise GraphError(f"aggregation_method={method!r}: it must be one of {METHODS}")
    graph = _graph_of(_listed(ys))
    with graph.as_default(), graph.name_scope(name):
        targets = [as_tensor(y) for y in _listed(ys)]
        sources = [_source(x) for x in _listed(xs)]
        stops = [_source(x) for x in _listed(stop_gradients)]
        region = between(targets, sources, stops)
        sweep = _Sweep(graph, region, frozenset(stops), method)
        sweep.colocate = colocate_gradients_with_ops
        sweep.gate = gate_gradients
        sweep.seed(targets, _listed(grad_ys) if grad_ys is not None else [None] * len(targets))
        sweep.run()
        found = [sweep.gradient(x) for x in sources]
        if unconnected == "zero":
            given = zip(found, _listed(xs), strict=True)
            found = [_zeros(x) if g is None else g for g, x in given]
    return found


class _Sweep:
    """One backward walk over a region."""

    colocate = False
    gate = False

    def __init__(self, graph: Graph, region: Region, stops: frozenset[Tensor], method: int):
        self.graph = graph
        self.region = region
        self.stops = stops
        self.method = method
        self.terms: dict[Tensor, list[Any]] = {}

    def seed(self, ys: Sequence[Tensor], grad_ys: Sequence[Any]) -> None:
        """Note what the gradients of ys begin with."""
        if len(ys) != len(grad_ys):
            raise GraphError(f"{len(grad_ys)} grad_ys were given for {len(ys)} ys")
        for i, (y, g) in enumerate(zip(ys, grad_ys, strict=True)):
            _check_first(y, g)
            if self.region.origin(y) in self.region.reached:
                with self._near(y.op):
                    self._add(y, _first_gradient(y, g, f"grad_ys_{i}"))

    def run(self) -> None:
        """Visit the operations."""
        for operation in self.region.operations:
            arrived = [self._arrived(t) for t in operation.outputs]
            if all(g is None for g in arrived):
                continue
            with self._near(operation), self.graph.name_scope(f"{operation.name}_grad"):
                result = _gradients_of_inputs(operation, arrived)
                if self.gate:
                    result = _gated(result)
            for tensor, g in zip(operation.inputs, result, strict=True):
                if g is not None:
                    self._add(tensor, g)

    def gradient(self, x: Tensor) -> Any:
        """The sum of what has arrived at an x, or None."""
        return self._sum(self.region.origin(x))

    def _add(self, tensor: Tensor, gradient: Any) -> None:
        tensor = self.region.origin(tensor)
        if tensor in self.region.reached:
            self.terms.setdefault(tensor, []).append(gradient)

    def _arrived(self, tensor: Tensor) -> Any:
        return None if tensor in self.stops else self._sum(tensor)

    def _sum(self, tensor: Tensor) -> Any:
        terms = self.terms.get(tensor)
        if not terms:
            return None
        if len(terms) > 1:
            with self._near(tensor.op):
                terms[:] = [total(terms, self.graph, tensor.op, self.method)]
        return terms[0]

    def _near(self, operation: Operation) -> AbstractContextManager[None]:
        return self.graph.colocate_with(operation) if self.colocate else nullcontext()


def _gradients_of_inputs(operation: Operation, arrived: list[Any]) -> list[Any]:
    opdef = operation.opdef
    name = override(operation)
    if name in OPS:
        opdef = OPS[name]
    elif name is not None:
        return _replaced(operation, arrived)
    if opdef.grad is None:
        message = operation.attrs.get("message", "")
        raise LookupError(
            f"no gradient passes {operation.name!r} (built at {operation.site}): "
            f"{message or 'it was made to prevent that'}"
        )
    if operation.type not in KEEPS_SLICES:
        arrived = [as_tensor(g) if g is not None else None for g in arrived]
    if len(arrived) == 1:
        g, y = arrived[0], operation.outputs[0]
    else:
        g = tuple(arrived)
        if "operation" not in _asked_for(opdef.grad):
            g = tuple([_or_zeros(g, y) for g, y in zip(g, operation.outputs, strict=True)])
        y = operation.outputs  # type: ignore[assignment]
    try:
        extra = _asked_for(opdef.grad)
        extra = {key: value(operation) for key, value in extra.items()}
        result = opdef.grad(g, y, *operation.inputs, **operation.attrs, **extra)
        result = list(result) if isinstance(result, (tuple, list)) else [result]
        _check(operation, result)
    except Exception as error:
        error.add_note(
            f"in the gradient of {opdef.name} {operation.name!r}\n  built at {operation.site}"
        )
        raise
    return result


def _replaced(operation: Operation, arrived: list[Any]) -> list[Any]:
    """The gradients of the inputs by a function of the user's."""
    try:
        result = replaced(operation, [None if g is None else as_tensor(g) for g in arrived])
        result = [
            as_tensor(g, x.dtype) if g is not None and not hasattr(g, "dtype") else g
            for g, x in zip(result, operation.inputs, strict=True)
        ]
        _check(operation, result)
    except Exception as error:
        error.add_note(
            f"in the registered gradient of {operation.name!r}\n  built at {operation.site}"
        )
        raise
    return result


@lru_cache(maxsize=4096)
def _asked_for(grad: Callable[..., Any]) -> dict[str, Callable[[Operation], Any]]:
    """What a gradient function takes besides tensors and attributes."""
    offered: dict[str, Callable[[Operation], Any]] = {
        "differentiate": lambda operation: gradients,
        "operation": lambda operation: operation,
    }
    try:
        parameters = inspect.signature(grad).parameters
    except (TypeError, ValueError):  # a builtin
        return {}
    return {key: value for key, value in offered.items() if key in parameters}


def _check(operation: Operation, result: list[Any]) -> None:
    """Raises:
    GraphError, ShapeError, DTypeError: the entry's `grad` is wrong.
    """
    if len(result) != len(operation.inputs):
        raise GraphError(
            f"grad returned {len(result)} gradients for {len(operation.inputs)} inputs"
        )
    for i, (x, g) in enumerate(zip(operation.inputs, result, strict=True)):
        if g is None or not carries(x.dtype) or not x.dtype.is_differentiable:
            continue
        if not isinstance(g, Tensor) and not hasattr(g, "dense_shape"):
            raise GraphError(f"grad returned {g!r} for input {i}: neither tensor nor slices")
        if g.dtype is not x.dtype:
            raise DTypeError(
                f"grad returned {g.dtype.name} for input {i}, which has {x.dtype.name}"
            )
        if isinstance(g, Tensor) and g.dims != x.dims:
            dims = merged(g.dims, x.dims)
            if dims is CLASH:
                raise ShapeError(
                    f"grad returned shape {format_dims(g.dims)} for input {i}, which has shape "
                    f"{format_dims(x.dims)}"
                )
            if dims != g.dims:
                g.graph.set_shape(g, x.dims)


def _gated(result: list[Any]) -> list[Any]:
    """Gradients that exist only when all of them do."""
    from graphflow.ops.sources import tuple_

    given = [g for g in result if g is not None]
    if len(given) < 2:
        return result
    inner = iter(tuple_([g.values if is_sparse(g) else g for g in given]))
    gated = []
    for g in result:
        new: Any = None if g is None else next(inner)
        gated.append(
            type(g)(new, g.indices, g.dense_shape) if g is not None and is_sparse(g) else new
        )
    return gated


def _check_first(y: Tensor, g: Any) -> None:
    """Raises:
    ShapeError, DTypeError: what was given as the gradient of y cannot be that.
    """
    if g is None:
        if y.dtype.is_complex:
            raise DTypeError(f"gradients of the complex {y!r} need grad_ys")
        return
    if y.dtype is dtypes.resource:
        return
    if hasattr(g, "dtype") and g.dtype != y.dtype:
        raise DTypeError(f"grad_ys has {g.dtype} for {y!r}")
    dims = g.dims if is_symbolic(g) else np.shape(g)
    if merged(dims, y.dims) is CLASH:
        raise ShapeError(f"grad_ys has shape {format_dims(dims)} for {y!r}")


def _first_gradient(y: Tensor, g: Any, name: str) -> Any:
    """The gradient that y begins with."""
    if g is None:
        return _ones(y, name)
    if _sparse_given(g):
        return g
    return OPS["Identity"](as_tensor(g, None if hasattr(g, "dtype") else y.dtype), name=name)


def _sparse_given(g: Any) -> bool:
    return all(hasattr(g, part) for part in ("values", "indices", "dense_shape"))


def _ones(y: Tensor, name: str) -> Tensor:
    if y.dtype.is_numeric and is_known(y.dims) and not y.dims:
        return OPS["Const"](value=np.ones((), y.dtype.np), name=name)
    return OPS["OnesLike"](y, name=name)


def _or_zeros(g: Any, y: Tensor) -> Any:
    if g is None and y.dtype.is_differentiable:
        return OPS["ZerosLike"](y)
    return g


def _zeros(x: Any) -> Tensor:
    """Zeros of an x; of its value where it is a variable."""
    if hasattr(x, "handle"):
        return OPS["ZerosLike"](OPS["ReadVariable"](x.handle))
    if isinstance(x, Tensor) and x.dtype is dtypes.resource:
        return OPS["ZerosLike"](OPS["ReadVariable"](x))
    return OPS["ZerosLike"](_source(x))


def _listed(value: Any) -> list[Any]:
    if value is None:
        return []
    return list(value) if isinstance(value, (list, tuple)) else [value]


def _source(x: Any) -> Tensor:
    """The tensor to differentiate with respect to: a variable's is its handle."""
    if hasattr(x, "handle"):
        return x.handle
    if _sparse_given(x):
        return x.values
    if isinstance(x, Tensor):
        return x
    if hasattr(x, "as_graph_tensor"):
        return as_tensor(x)
    raise TypeError(f"{x!r} is no tensor or variable to differentiate with respect to")


def _graph_of(values: Iterable[Any]) -> Graph:
    """Where the ops are added: the default graph, or that of the ys where it cannot use them."""
    default = get_default_graph()
    for value in values:
        if isinstance(value, Tensor) and not default.visible(value.graph):
            return value.graph
    return default

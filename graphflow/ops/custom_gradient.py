"""`custom_gradient`: functions that come with a gradient of their own."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any

from graphflow.base import nest
from graphflow.base.errors import GraphError
from graphflow.build import Tensor, as_tensor, op
from graphflow.build.defaults import get_default_graph
from graphflow.build.keys import GraphKeys
from graphflow.build.opdef import Array, Each, Specs
from graphflow.ops.shape_ops import no_cost
from graphflow.ops.sources import identity


def _first(*values: Tensor, count: int, **_: Any) -> Specs:
    return [(t.dims, t.dtype) for t in values[:count]]


def _users_grad(g: Any, y: Any, *values: Tensor, count: int, function: Any) -> list[Any]:
    arrived = g if isinstance(g, tuple) else (g,)
    return [*[None] * count, *function(arrived, values[count:])]


@op("CustomGradient", infer=_first, grad=_users_grad, cost=no_cost)
def _results(xp: Any, *values: Each, count: Any, function: Any) -> Array:
    """The first `count` values; `function` gives the gradients of the others."""
    return values[0] if count == 1 else tuple(values[:count])


def custom_gradient(f: Callable[..., Any]) -> Callable[..., Any]:
    """Decorator of a function that returns its result and the gradient of it.

        @tf.custom_gradient
        def clipped(x):
            return tf.identity(x), lambda dy: tf.clip_by_value(dy, -1.0, 1.0)

    Args:
      f: takes tensors; returns (result, grad_fn), the result a tensor or a nested list of them.
        grad_fn takes a gradient per result and returns one per argument of f, in order, None
        allowed.  Where f uses variables beside its arguments, grad_fn also takes `variables`, a
        list, and returns (gradients of the arguments, gradients of the variables).

    Raises:
      TypeError: when called, f uses variables and its grad_fn does not take `variables`.
      ValueError: when differentiated, grad_fn returns the wrong number of gradients.
    """

    @functools.wraps(f)
    def decorated(*args: Any, **kwargs: Any) -> Any:
        graph = get_default_graph()
        with graph.name_scope("CustomGradient"):
            taken = [identity(as_tensor(a)) for a in args]
            start = graph.root.next_id
            result, grad_fn = f(*taken, **kwargs)
            results = [as_tensor(r) for r in nest.flatten(result)]
            variables = _used(results, start)
            _check_signature(grad_fn, variables)
            back = functools.partial(_call, grad_fn, variables)
            handles = [v.handle for v in variables]
            given = _results(*results, *taken, *handles, count=len(results), function=back)
        return nest.pack_sequence_as(result, given if isinstance(given, tuple) else [given])

    return decorated


def _used(results: Sequence[Tensor], start: int) -> list[Any]:
    """The variables that operations built since `start` read, in the order of their creation."""
    handles: set[Tensor] = set()
    seen = set()
    stack = [t.op for t in results]
    while stack:
        operation = stack.pop()
        if operation in seen:
            continue
        seen.add(operation)
        if operation.type == "ReadVariable":
            handles.add(operation.inputs[0])
        elif operation.id >= start:
            stack += [t.op for t in operation.inputs]
    graph = get_default_graph()
    known = [
        *graph.get_collection(GraphKeys.GLOBAL_VARIABLES),
        *graph.get_collection(GraphKeys.LOCAL_VARIABLES),
        *graph.get_collection(GraphKeys.TRAINABLE_VARIABLES),
    ]
    found = {v.handle: v for v in known if v.handle in handles}
    return sorted(found.values(), key=lambda v: v.handle.op.id)


def _check_signature(grad_fn: Any, variables: Sequence[Any]) -> None:
    kinds = inspect.signature(grad_fn).parameters.values()
    takes = any(p.name == "variables" or p.kind is p.VAR_KEYWORD for p in kinds)
    if variables and not takes:
        names = ", ".join(v.op.name for v in variables)
        raise TypeError(
            f"the function uses the variables {names}: its grad_fn must take the keyword argument "
            "'variables' and return their gradients, too"
        )


def _call(
    grad_fn: Any, variables: Sequence[Any], arrived: Sequence[Any], inputs: Sequence[Tensor]
) -> list[Any]:
    """The gradients of arguments and variables."""
    count = len(inputs) - len(variables)
    if not variables:
        found = _listed(grad_fn(*arrived))
        of_variables: list[Any] = []
    else:
        first, second = grad_fn(*arrived, variables=list(variables))
        found, of_variables = _listed(first), _listed(second)
    if len(found) != count or len(of_variables) != len(variables):
        raise GraphError(
            f"grad_fn returned {len(found)} gradients for {count} arguments and "
            f"{len(of_variables)} for {len(variables)} variables"
        )
    everything = zip([*found, *of_variables], inputs, strict=True)
    return [g if g is None or _sparse(g) else _like(g, x) for g, x in everything]


def _sparse(g: Any) -> bool:
    return hasattr(g, "dense_shape")


def _like(g: Any, x: Tensor) -> Tensor:
    return as_tensor(g, x.dtype if x.dtype.is_differentiable else None)


def _listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, (list, tuple)) else [value]

"""Recomputation: keep the inputs of a function for its gradient, and compute the rest again.

The function becomes the body of one operation, `Call`.  Its gradient is another Call that builds
the function anew and differentiates it there, so nothing but the inputs is held in between: in a
loop, nothing but the loop variables of each iteration.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from graphflow.base import nest
from graphflow.base.errors import GraphError
from graphflow.build import Operation, Tensor, as_tensor, op
from graphflow.build.body import Body
from graphflow.build.defaults import get_default_graph
from graphflow.build.opdef import Each, Specs
from graphflow.ops.bodies import acts, as_leaf, carries, owner, packed
from graphflow.ops.variable_scope import get_variable_scope, variable_scope


def _specs(*_: Tensor, body: Body, **_attrs: Any) -> Specs:
    return [(t.dims, t.dtype) for t in body.outputs]


def _grad(
    g: Any, y: Any, *arguments: Tensor, body: Body, rebuild: Any, differentiate: Any
) -> list[Any]:
    arrived = g if isinstance(g, tuple) else (g,)
    present = [i for i, d in enumerate(arrived) if d is not None]
    count = len(body.inputs)
    reached: list[int] = []  # positions of the arguments that have a gradient

    def back(tensors: Sequence[Tensor]) -> list[Tensor]:
        """Gradients from inputs and cotangents; again in a body of its own for each order."""
        graph = get_default_graph()
        xs = [*tensors[:count], *[graph.own(t) for t in arguments[count:]]]
        places = [i for i, x in enumerate(xs) if carries(x.dtype)]
        ys = rebuild(tensors[:count])
        found = differentiate(
            [ys[i] for i in present], [xs[i] for i in places], grad_ys=tensors[count:]
        )
        pairs = [(i, as_tensor(d)) for i, d in zip(places, found, strict=True) if d is not None]
        reached[:] = [i for i, _ in pairs]
        return [d for _, d in pairs]

    operation = _call(back, [*arguments[:count], *[arrived[i] for i in present]], "Call_grad")
    results = dict(zip(reached, operation.outputs, strict=True))
    return [results.get(i) for i in range(len(arguments))]


@op("Call", infer=_specs, grad=_grad)
def call_op(xp: Any, ctx: Any, *arguments: Each, body: Any, rebuild: Any = None) -> Any:
    """Outputs of a body on its inputs and captures.

    Attributes:
      body: what is computed.
      rebuild: from the inputs, as tensors of another body, to the outputs there; for gradients.
    """
    outputs = tuple(ctx.call(body, arguments))
    return outputs[0] if len(outputs) == 1 else outputs


def _call(function: Any, inputs: Sequence[Tensor], name: str) -> Operation:
    """A Call of a function from tensors to tensors."""
    body = Body(get_default_graph())
    with body.as_default():
        outputs = function([body.add_input(t.dims, t.dtype) for t in inputs])
        body.outputs.extend(body.own(t) for t in outputs)
    _refuse_what_changes(body)
    with get_default_graph().control_dependencies(body.outer_control):
        return owner(
            call_op(*inputs, *body.captures, body=body, rebuild=_Rebuild(function), name=name)
        )


class _Rebuild:
    """Calls a function again, with the variables it has made.  It does not travel with plans."""

    def __init__(self, function: Callable[[Sequence[Tensor]], list[Tensor]]):
        self._function = function
        self._scope = get_variable_scope()

    def __call__(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        with variable_scope(self._scope, reuse=True):
            return self._function(tensors)

    def __reduce__(self) -> Any:
        return _left_behind, ()


def _left_behind() -> None:
    return None


def recompute_grad(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, whose gradient computes it again instead of keeping what it computed.

    It costs one more evaluation, and saves the memory of all that lies between the inputs and
    the outputs.  Around the body of a loop, it bounds what the loop keeps to its variables.

    Args:
      function: takes tensors, or nested structures of them, and returns such.  It may use
        tensors and variables of outside; it may not draw random numbers or have effects, which
        would not be the same the second time.

    Raises:
      ValueError: when called, it is random or has effects.
    """

    def wrapped(*arguments: Any) -> Any:
        structure = list(arguments)
        form: list[Any] = []  # what the function returned

        def flat(tensors: Sequence[Tensor]) -> list[Tensor]:
            form[:] = [function(*packed(structure, tensors))]
            return [as_leaf(t) for t in nest.flatten(form[0])]

        operation = _call(flat, [as_leaf(a) for a in nest.flatten(structure)], "Call")
        return packed(form[0], operation.outputs)

    return wrapped


def _refuse_what_changes(body: Body) -> None:
    for operation in body.operations:
        inner = [v for v in operation.attrs.values() if isinstance(v, Body)]
        for each in inner:
            _refuse_what_changes(each)
        if operation.opdef.random or acts(operation):
            raise GraphError(
                f"{operation.type} {operation.name!r} gives another result, or has its effect "
                f"twice, when it is computed again: take it out of the function; built at "
                f"{operation.site}"
            )

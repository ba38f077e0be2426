"""What Cond and While share: building bodies, and getting at their insides from a gradient.

The gradient of a control-flow operation is another one, and its bodies need values that the
bodies of the first have computed.  They get them as further outputs of the first operation,
appended on demand (`Graph.append_output`); `Body.sees` is how a tensor of a differentiated body,
used while the gradient's body is built, turns into such an output.  So gradient functions of
ops need not know whether they are used inside a body.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any

from graphflow.base import dtypes, nest
from graphflow.base.dtypes import DType
from graphflow.base.errors import GraphError
from graphflow.base.shapes import Dims
from graphflow.build import Operation, Tensor, as_tensor
from graphflow.build.body import Body, Selection
from graphflow.build.sites import user_site
from graphflow.ops.state import declared


def carries(dtype: DType) -> bool:
    """May a gradient flow through it?  A handle's is that of its variable, a list's is a list."""
    return dtype.is_differentiable or dtype in (dtypes.resource, dtypes.variant)


def gradient_spec(tensor: Tensor) -> tuple[Dims, DType]:
    """Shape and dtype of the gradient of a tensor."""
    if tensor.dtype is dtypes.resource:
        return declared(tensor)
    return tensor.dims, tensor.dtype


def generalised(a: Dims, b: Dims) -> Dims:
    """The static shape of a value that has the one shape or the other."""
    if a is None or b is None or len(a) != len(b):
        return None
    return tuple([m if m == n else None for m, n in zip(a, b, strict=True)])


def as_leaf(value: Any) -> Tensor:
    """The tensor for a leaf of a structure: TensorArrays travel as their lists.

    Raises:
      GraphError: a function returned None in its place.
    """
    if value is None:
        raise GraphError("a function of control flow returned None where a tensor is needed")
    return value.flow if hasattr(value, "with_flow") else as_tensor(value)


def like_leaf(leaf: Any, tensor: Tensor) -> Any:
    """The tensor in the form that the leaf had."""
    return leaf.with_flow(tensor) if hasattr(leaf, "with_flow") else tensor


def packed(structure: Any, tensors: Sequence[Tensor]) -> Any:
    """Tensors in the form of a structure."""
    leaves = zip(nest.flatten(structure), tensors, strict=True)
    return nest.pack_sequence_as(structure, [like_leaf(leaf, t) for leaf, t in leaves])


def noted(error: Exception) -> Exception:
    """The error, with a note that tells the user's line."""
    error.add_note(f"  built at {user_site()}")
    return error


def owner(result: Any) -> Operation:
    """The operation that a call of an entry added."""
    if isinstance(result, tuple):
        result = result[0]
    return result if isinstance(result, Operation) else result.op


def spread(values: Iterable[Any], wanted: Iterable[bool]) -> tuple[Any, ...]:
    """The values at the wanted positions, None at the others."""
    given = iter(values)
    return tuple([next(given) if w else None for w in wanted])


# ---- for gradients


def look_into(
    body: Body,
    back: Body,
    given: dict[Tensor, Tensor],
    fetch: Callable[[Tensor], Tensor],
) -> None:
    """Let `back` use the tensors of `body`.

    Args:
      given: argument of `body` -> the outer tensor that it stands for.
      fetch: makes a tensor of `back` of any other tensor of `body`.
    """

    def look(tensor: Tensor) -> Tensor:
        if tensor in given:
            return back.own(given[tensor])
        operation = tensor.op
        opdef = operation.opdef
        with back.as_default(), back.control_dependencies(None):
            if not operation.inputs and opdef.pure and opdef.kernel is not None:
                again = back.add(opdef, (), operation.attrs, opdef.name)  # a constant
                return again.outputs[tensor.index]
            return fetch(tensor)

    back.sees[body] = look


def saved(operation: Operation, body: Body, tensor: Tensor, first: int) -> int | None:
    """Position of a tensor among the outputs of a body, from `first` on."""
    for position in range(first, len(body.outputs)):
        if body.outputs[position] is tensor:
            return position
    return None


def sources(tensors: Iterable[Tensor]) -> set[Tensor]:
    """The tensors of one body that a gradient of the given ones reaches."""
    seen: set[Tensor] = set()
    visited: set[Operation] = set()
    stack = list(tensors)
    while stack:
        tensor = stack.pop()
        if tensor in seen or not carries(tensor.dtype):
            continue
        seen.add(tensor)
        operation = tensor.op
        if operation not in visited and operation.opdef.grad is not None:
            visited.add(operation)
            stack.extend(operation.inputs)
    return seen


# ---- for compilers


def restricted(operation: Operation, used: Collection[int]) -> dict[str, Any]:
    """Attributes with which a Cond or While computes no more than what is used of its outputs.

    A run that needs no gradient then saves nothing for one, and the gradient of a loop leaves
    out the sums for captures that nobody asked about.

    Args:
      used: positions of the outputs that something reads.

    Returns:
      The attributes, with selections in the place of bodies; other operations' as they are.
    """
    attrs = dict(operation.attrs)
    if operation.type == "Cond":
        for key in ("then", "orelse"):
            attrs[key] = _selected(
                attrs[key], [i for i in range(len(operation.specs)) if i in used]
            )
    elif operation.type == "While":
        body, n = attrs["body"], attrs["variables"]
        records = [j for j in range(n, len(operation.specs) - 1) if j + 1 in used]
        live = _live(attrs["cond"], body, {k for k in range(n) if k in used}, records)
        attrs["body"] = _selected(body, [*live, *records])
        used = {*live, n, *[j + 1 for j in records]}
    else:
        return attrs
    attrs["wanted"] = tuple([i in used for i in range(len(operation.specs))])
    return attrs


def _selected(body: Body, positions: Iterable[int]) -> Selection:
    return Selection(body, tuple([body.outputs[i] for i in positions]))


def _live(cond: Body, body: Body, used: set[int], records: Iterable[int]) -> list[int]:
    """The loop variables that the used ones, the records, the test or effects depend on."""
    recorded = [body.outputs[j].op for j in records]
    read = _needed([cond.outputs[0].op, *filter(acts, cond.operations)])
    live = used | {k for k, t in enumerate(cond.inputs) if t.op in read}
    acting = list(filter(acts, body.operations))
    while True:
        read = _needed([*[body.outputs[k].op for k in live], *recorded, *acting])
        more = {k for k, t in enumerate(body.inputs) if t.op in read}
        if more <= live:
            return sorted(live)
        live |= more


def acts(operation: Operation) -> bool:
    """Does running it change anything, in its bodies too?  Reading state does not."""
    opdef = operation.opdef
    if opdef.effect in ("input", "output") or (opdef.effect == "state" and opdef.writes):
        return True
    inner = [v for v in operation.attrs.values() if isinstance(v, Body)]
    return any(acts(o) for body in inner for o in body.operations)


def _needed(operations: Iterable[Operation]) -> set[Operation]:
    """The operations and all that they depend on in their body."""
    seen: set[Operation] = set()
    stack = list(operations)
    while stack:
        operation = stack.pop()
        if operation not in seen:
            seen.add(operation)
            stack += [t.op for t in operation.inputs]
            stack += operation.control_inputs
    return seen

"""`while_loop`: what users call; the op is in `while_op`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from graphflow.base import nest
from graphflow.base.errors import DTypeError, GraphError, ShapeError
from graphflow.base.shapes import Dims, as_dims, format_dims
from graphflow.build import Tensor, as_tensor
from graphflow.build.body import Body
from graphflow.build.defaults import get_default_graph
from graphflow.build.opdef import OPS
from graphflow.ops.bodies import as_leaf, noted, packed
from graphflow.ops.while_op import add_while


def while_loop(
    cond: Callable[..., Any],
    body: Callable[..., Any],
    loop_vars: Any,
    shape_invariants: Any = None,
    parallel_iterations: int | None = 10,
    back_prop: bool = True,
    swap_memory: bool = False,
    name: str | None = None,
    maximum_iterations: Any = None,
    return_same_structure: bool = False,
) -> Any:
    """Loop variables after `body` has run for as long as `cond` holds.

    Args:
      cond: function of the loop variables that returns a scalar bool tensor.
      body: function of the loop variables that returns their next values, of the same form.
      loop_vars: list or tuple of the first values: tensors, TensorArrays, nested structures.
      shape_invariants: the form of `loop_vars` with shapes that hold in every iteration; by
        default those of the first values.
      parallel_iterations, swap_memory: accepted for TensorFlow's sake.
      back_prop: False: no gradient flows through the loop.
      maximum_iterations: stop after so many iterations; a number or a scalar int tensor.
      return_same_structure: keep the list where there is one loop variable.

    Raises:
      TypeError: an argument is no function, or a loop variable changes its dtype.
      ValueError: there are no loop variables, or one changes its shape or form.
    """
    for what, function in (("cond", cond), ("body", body)):
        if not callable(function):
            raise TypeError(f"{what} must be callable, not {function!r}")
    if not nest.is_nested(loop_vars):
        loop_vars = [loop_vars]
    if not nest.flatten(loop_vars):
        raise GraphError("while_loop() needs at least one loop variable")
    if parallel_iterations is not None and parallel_iterations < 1:
        raise TypeError("parallel_iterations must be a positive integer")
    graph = get_default_graph()
    with graph.name_scope(name or "while"):
        leaves = [x if hasattr(x, "with_flow") else as_leaf(x) for x in nest.flatten(loop_vars)]
        form = nest.pack_sequence_as(loop_vars, leaves)
        first = [as_leaf(leaf) for leaf in leaves]
        if first[0].graph.root is not graph.root:
            graph = first[0].graph
        invariants = _invariants(form, first, shape_invariants)
        limit = _limit(maximum_iterations)
        with graph.as_default():
            loop = _Loop(form, first, invariants)
            test = loop.test(cond, limit)
            step, form = loop.step(body, limit)
            start = loop.start(limit)
            maximum = limit if isinstance(limit, int) else None
            made = add_while(
                test, step, start, "Exit", maximum_iterations=maximum, back_prop=back_prop
            )
        outputs = made.outputs[len(start) - len(first) : len(start)]
    result = packed(form, outputs)
    return result[0] if len(first) == 1 and not return_same_structure else result


def _limit(maximum: Any) -> Any:
    """An int where it is one, else the tensor, or None."""
    if maximum is None or isinstance(maximum, (int, np.integer)):
        return None if maximum is None else int(maximum)
    tensor = as_tensor(maximum)
    if tensor.dims not in ((), None):
        raise ShapeError(f"maximum_iterations must be a scalar, not {format_dims(tensor.dims)}")
    if not tensor.dtype.is_integer:
        raise DTypeError(f"maximum_iterations must be an integer, not {tensor.dtype.name}")
    return tensor


@dataclass(frozen=True)
class _Loop:
    """Loop variables: their form, first values and static shapes in every iteration.

    A limit that is a tensor is a loop variable of its own, before the others: the count.
    """

    form: Any
    first: Sequence[Tensor]
    invariants: Sequence[Dims]

    def start(self, limit: Any) -> list[Tensor]:
        counted = isinstance(limit, Tensor)
        return [*([as_tensor(0, limit.dtype)] if counted else []), *self.first]

    def test(self, cond: Callable[..., Any], limit: Any) -> Body:
        body, count, variables = self._enter(limit)
        with body.as_default():
            result = as_tensor(cond(*variables))
            if count is not None:
                result = OPS["LogicalAnd"](OPS["Less"](count, limit), result)
            body.outputs.append(body.own(result))
        return body

    def step(self, function: Callable[..., Any], limit: Any) -> tuple[Body, Any]:
        """The body, and the form of what the function returned."""
        body, count, variables = self._enter(limit)
        with body.as_default():
            result = function(*variables)
            if not isinstance(result, (tuple, list)) or _is_named(result, self.form):
                result = [result]
            result = self._same_form(result)
            after = self._converted(result, body.inputs[len(body.inputs) - len(self.first) :])
            if count is not None:
                body.outputs.append(OPS["Add"](count, as_tensor(1, count.dtype)))
            body.outputs += [body.own(t) for t in after]
        return body, result

    def _enter(self, limit: Any) -> tuple[Body, Tensor | None, Any]:
        body = Body(get_default_graph())
        count = body.add_input((), limit.dtype, "count") if isinstance(limit, Tensor) else None
        inside = [
            body.add_input(dims, t.dtype)
            for dims, t in zip(self.invariants, self.first, strict=True)
        ]
        return body, count, packed(self.form, inside)

    def _same_form(self, result: Any) -> Any:
        try:
            nest.assert_same_structure(list(self.form), list(result))
        except (ValueError, TypeError) as error:
            message = f"body returns another structure than the loop variables have: {error}"
            raise noted(type(error)(message)) from None
        return result

    def _converted(self, result: Any, inside: Sequence[Tensor]) -> list[Tensor]:
        """The next values; Python numbers take the dtype of their loop variable."""
        after = []
        leaves = zip(nest.flatten(result), inside, self.first, strict=True)
        for leaf, variable, first in leaves:
            symbolic = leaf is None or hasattr(leaf, "dtype")
            tensor = as_leaf(leaf) if symbolic else as_tensor(leaf, variable.dtype)
            if tensor.dtype is not variable.dtype:
                raise noted(
                    DTypeError(
                        f"loop variable {first.name!r} enters the loop with dtype "
                        f"{variable.dtype.name}, but has {tensor.dtype.name} after one iteration"
                    )
                )
            if not _within(tensor.dims, variable.dims):
                raise noted(
                    ShapeError(
                        f"the shape of loop variable {first.name!r} is no invariant of the loop: "
                        f"it enters with {format_dims(variable.dims)}, but has "
                        f"{format_dims(tensor.dims)} after one iteration; give shape_invariants "
                        "to while_loop, or call set_shape() on it"
                    )
                )
            after.append(tensor)
        return after


def _is_named(result: Any, form: Any) -> bool:
    """Is the result one loop variable that is a structure, rather than the list of all?"""
    return len(form) == 1 and hasattr(result, "_fields") and type(result) is type(form[0])


def _invariants(form: Any, first: Sequence[Tensor], given: Any) -> list[Dims]:
    if given is None:
        return [t.dims for t in first]
    try:
        shapes = nest.flatten_up_to(form, given)
    except ValueError as error:
        raise noted(GraphError(f"shape_invariants do not match loop_vars: {error}")) from None
    leaves = nest.flatten(form)
    found = []
    for tensor, leaf, shape in zip(first, leaves, shapes, strict=True):
        dims = tensor.dims if hasattr(leaf, "with_flow") else as_dims(shape)
        if not _within(tensor.dims, dims):
            raise noted(
                ShapeError(
                    f"the shape invariant of {tensor.name!r} is {format_dims(dims)}, but it "
                    f"enters the loop with {format_dims(tensor.dims)}"
                )
            )
        found.append(dims)
    return found


def _within(dims: Dims, invariant: Dims) -> bool:
    """Does every value of the one static shape have the other?"""
    if invariant is None:
        return True
    if dims is None or len(dims) != len(invariant):
        return False
    return all(n is None or m == n for m, n in zip(dims, invariant, strict=True))

"""Loops: the op While and `while_loop`.

A While owns two bodies, the test and the body.  Its inputs are the loop variables' first values
and what the bodies capture.  Its outputs are the last values, the number of iterations, and then
*records*: lists of what some tensor of the body was in each iteration.  There are none until a
gradient asks for them, so that a loop costs no memory that grows with the iterations otherwise.
What has an effect runs in each iteration, in the order of creation, whether a loop variable
depends on it or not.

The gradient is a While that counts backwards.  Its loop variables are the index, the gradients
of the loop variables, and for each differentiable capture the sum of what the iterations gave;
its body is the gradient of the body, which reads the records at the index.  Since lists have
gradients themselves (`ops.lists`), this is a loop like any other, with gradients of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from graphflow.base import dtypes, nest
from graphflow.base.errors import DTypeError, GraphError, InvalidArgumentError, ShapeError
from graphflow.base.shapes import CLASH, Dims, as_dims, format_dims, merged
from graphflow.build import Operation, Tensor, as_tensor, op
from graphflow.build.body import Body
from graphflow.build.defaults import get_default_graph
from graphflow.build.opdef import OPS, Each, Specs
from graphflow.ops.bodies import (
    as_leaf,
    carries,
    gradient_spec,
    look_into,
    noted,
    owner,
    packed,
    saved,
    sources,
    spread,
)
from graphflow.ops.lists import Items, add_gradients, empty_list, list_get, list_get_or, zeros_for


def _specs(*inputs: Tensor, cond: Body, body: Body, variables: int, **_: Any) -> Specs:
    test = cond.outputs[0]
    if not test.dtype.is_bool or test.dims not in ((), None):
        raise ShapeError(
            f"the condition must be a scalar bool, not {test.dtype.name} "
            f"{format_dims(test.dims)} (built at {test.op.site})"
        )
    for first, inside, last in zip(inputs, body.inputs, body.outputs, strict=False):
        for tensor, when in ((first, "enters the loop"), (last, "has after one iteration")):
            if tensor.dtype is not inside.dtype:
                raise DTypeError(f"a loop variable of {inside.dtype.name} {when} {tensor.dtype}")
            if merged(tensor.dims, inside.dims) is CLASH:
                raise ShapeError(
                    f"a loop variable of shape {format_dims(inside.dims)} {when} "
                    f"{format_dims(tensor.dims)}"
                )
    kept: Specs = [(t.dims, t.dtype) for t in body.inputs]
    records: Specs = [((), dtypes.variant) for _ in body.outputs[variables:]]
    return [*kept, ((), dtypes.int32), *records]


def _grad(g: Any, y: Any, *inputs: Any, cond: Body, body: Body, back_prop: Any,
          differentiate: Any, operation: Operation, **_: Any) -> list[Any]:  # fmt: skip
    if not back_prop:
        return [None] * len(inputs)
    sweep = _Backward.of(operation, g, differentiate)
    return sweep.gradients() if sweep.active or sweep.summed else [None] * len(inputs)


@op("While", infer=_specs, grad=_grad)
def while_op(
    xp: Any,
    ctx: Any,
    *inputs: Each,
    cond: Any,
    body: Any,
    variables: Any,
    split: Any,
    maximum_iterations: Any = None,
    back_prop: Any = True,
    wanted: Any = None,
) -> Any:
    """Loop variables after `body` has run for as long as `cond` holds.

    Attributes:
      cond, body: the bodies, both on the loop variables.
      variables: number of loop variables.
      split: number of captures of `cond`; they follow the loop variables, those of `body` after.
      maximum_iterations: stop after so many; None: never.
      back_prop: may it be differentiated?
      wanted: for each output whether the body still gives it (see `bodies.restricted`); a loop
        variable that it does not keeps its first value, a record is None.  None: all of them.
    """
    state = list(inputs[:variables])
    to_test, to_body = inputs[variables : variables + split], inputs[variables + split :]
    live = [k for k in range(variables) if wanted is None or wanted[k]]
    records: list[list[Any]] = []
    count = 0
    while maximum_iterations is None or count < maximum_iterations:
        ctx.check_cancelled()
        if not _holds(ctx.call(cond, (*state, *to_test))[0]):
            break
        results = ctx.call(body, (*state, *to_body))
        for k, value in zip(live, results, strict=False):
            state[k] = value
        saved_now = results[len(live) :]
        records = records or [[] for _ in saved_now]
        for record, value in zip(records, saved_now, strict=True):
            record.append(value)
        count += 1
    if not count:
        wider = len(body.outputs) - len(live) if wanted is None else sum(wanted[variables + 1 :])
        records = [[] for _ in range(wider)]
    lists = [Items.of(record) for record in records]
    outputs = (*state, xp.asarray(count, np.int32))
    return (*outputs, *(lists if wanted is None else spread(lists, wanted[variables + 1 :])))


def _holds(test: Any) -> bool:
    if test.size != 1:
        raise InvalidArgumentError(None, None, f"the condition has shape {test.shape}")
    return bool(test)


def add_while(
    cond: Body, body: Body, first: Sequence[Tensor], name: str, **options: Any
) -> Operation:
    """Add a While whose bodies are complete."""
    with get_default_graph().control_dependencies([*cond.outer_control, *body.outer_control]):
        result = while_op(
            *first,
            *cond.captures,
            *body.captures,
            cond=cond,
            body=body,
            variables=len(first),
            split=len(cond.captures),
            name=name,
            **options,
        )
    return owner(result)


# ---- the gradient


@dataclass(frozen=True)
class _Backward:
    """What the gradient of a loop is made of.

    Attributes:
      operation: the loop.
      arrived: what came back for each of its outputs, or None.
      active: the loop variables whose gradient may differ from zero.
      records: positions in the body's outputs of the records that a gradient came back for.
      summed: arguments of the body that stand for captures with a gradient -> these captures.
    """

    operation: Operation
    arrived: Sequence[Any]
    active: tuple[int, ...]
    records: tuple[int, ...]
    summed: dict[Tensor, Tensor]
    differentiate: Callable[..., list[Any]]

    @staticmethod
    def of(operation: Operation, g: Sequence[Any], differentiate: Any) -> _Backward:
        body, n = operation.attrs["body"], operation.attrs["variables"]
        active = {k for k in range(n) if g[k] is not None and _flows(body.inputs[k])}
        records = tuple(j for j in range(n, len(g) - 1) if g[j + 1] is not None)
        recorded = [body.outputs[j] for j in records]
        while True:  # a loop variable that an active one depends on is active
            reached = sources([*[body.outputs[k] for k in active], *recorded])
            more = {k for k in range(n) if body.inputs[k] in reached and _flows(body.inputs[k])}
            if more <= active:
                break
            active |= more
        summed = {t: outer for t, outer in _given(operation).items() if t in reached}
        return _Backward(operation, g, tuple(sorted(active)), records, summed, differentiate)

    def gradients(self) -> list[Any]:
        """The gradient of each input of the loop."""
        operation = self.operation
        n = operation.attrs["variables"]
        graph = get_default_graph()
        first = [OPS["Sub"](operation.outputs[n], 1)]
        for k in self.active:
            g = self.arrived[k]
            inside = operation.attrs["body"].inputs[k]
            first.append(
                zeros_for(operation.outputs[k], *gradient_spec(inside)) if g is None else g
            )
        for outer in self.summed.values():
            first.append(zeros_for(outer, *gradient_spec(outer)))
        back = self._body(graph)
        test = Body(graph)
        for t in back.inputs:
            test.add_input(t.dims, t.dtype)
        with test.as_default():
            test.outputs.append(OPS["GreaterEqual"](test.inputs[0], 0))
        last = iter(add_while(test, back, first, "while_grad").outputs[1:])
        result: list[Any] = [None] * len(operation.inputs)
        for k in self.active:
            result[k] = next(last)
        offset = len(operation.inputs) - len(operation.attrs["body"].captures)
        captures = list(operation.attrs["body"].captures.values())
        for inside in self.summed:
            result[offset + captures.index(inside)] = next(last)
        return result

    def _body(self, graph: Any) -> Body:
        body = self.operation.attrs["body"]
        back = Body(graph)
        index = back.add_input((), dtypes.int32, "index")
        of_variables = [back.add_input(*gradient_spec(body.inputs[k])) for k in self.active]
        of_captures = [back.add_input(*gradient_spec(t)) for t in self.summed.values()]
        look_into(body, back, _given(self.operation), lambda t: self._recorded(back, index, t))
        with back.as_default():
            ys = [body.outputs[k] for k in self.active]
            grad_ys = list(of_variables)
            for j in self.records:
                ys.append(body.outputs[j])
                grad_ys.append(self._of_record(back, index, j))
            xs = [*[body.inputs[k] for k in self.active], *self.summed]
            found = self.differentiate(ys, xs, grad_ys=grad_ys)
            found = [None if g is None else as_tensor(g) for g in found]
            back.outputs.append(OPS["Sub"](index, 1))
            for k, g in zip(self.active, found, strict=False):
                x = body.inputs[k]
                back.outputs.append(zeros_for(x, *gradient_spec(x)) if g is None else g)
            for total, g in zip(of_captures, found[len(self.active) :], strict=True):
                back.outputs.append(total if g is None else add_gradients(total, g))
            back.outputs[:] = [back.own(t) for t in back.outputs]
        return back

    def _recorded(self, back: Body, index: Tensor, tensor: Tensor) -> Tensor:
        """A tensor of the loop's body, as it was in the iteration that is differentiated."""
        items = back.own(_record(self.operation, tensor))
        return list_get(items, index, dims=tensor.dims, dtype=tensor.dtype)

    def _of_record(self, back: Body, index: Tensor, position: int) -> Tensor:
        """What came back for a record, at that iteration."""
        tensor = self.operation.attrs["body"].outputs[position]
        like = empty_list() if tensor.dtype is dtypes.variant else back.own(tensor)
        return list_get_or(back.own(self.arrived[position + 1]), index, like)


def _flows(tensor: Tensor) -> bool:
    return carries(tensor.dtype) and tensor.dtype is not dtypes.resource


def _given(operation: Operation) -> dict[Tensor, Tensor]:
    """Argument of the body -> the capture that it stands for."""
    captures = operation.attrs["body"].captures
    outside = operation.inputs[len(operation.inputs) - len(captures) :]
    return dict(zip(captures.values(), outside, strict=True))


def _record(operation: Operation, tensor: Tensor) -> Tensor:
    """The output of the loop that lists what a tensor of the body was in each iteration."""
    graph = operation.graph
    body, n = operation.attrs["body"], operation.attrs["variables"]
    with graph.root.lock:
        position = saved(operation, body, tensor, n)
        if position is not None:
            return operation.outputs[position + 1]
        body.outputs.append(tensor)
        return graph.append_output(operation, (), dtypes.variant)


# ---- TensorFlow's function


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

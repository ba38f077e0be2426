"""Loops: the op While and its gradient.  `while_loop` builds on it.

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

from graphflow.base import dtypes
from graphflow.base.dtypes import DType
from graphflow.base.errors import DTypeError, InvalidArgumentError, ShapeError
from graphflow.base.shapes import CLASH, format_dims, is_known, merged
from graphflow.build import Graph, Operation, Tensor, as_tensor, op
from graphflow.build.body import Body
from graphflow.build.defaults import get_default_graph
from graphflow.build.opdef import OPS, Each, Specs
from graphflow.ops.bodies import (
    carries,
    gradient_spec,
    look_into,
    owner,
    saved,
    sources,
    spread,
)
from graphflow.ops.lists import (
    Items,
    add_gradients,
    empty_list,
    list_concat,
    list_get,
    list_get_or,
    list_set,
    zeros_for,
)
from graphflow.ops.slices import IndexedSlices


def _specs(*inputs: Tensor, cond: Body, body: Body, variables: int, **_: Any) -> Specs:
    test = cond.outputs[0]
    if not test.dtype.is_bool or test.dims not in ((), None):
        kind = ShapeError if test.dtype.is_bool else DTypeError
        raise kind(
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
        body, n = operation.attrs["body"], operation.attrs["variables"]
        graph = get_default_graph()
        back, sparse = self._body(graph)
        first = [OPS["Sub"](operation.outputs[n], 1)]
        for k in self.active:
            g = self.arrived[k]
            spec = gradient_spec(body.inputs[k])
            first.append(zeros_for(operation.outputs[k], *spec) if g is None else g)
        for inside, outer in self.summed.items():
            if inside in sparse:
                first += [empty_list(), empty_list()]
            else:
                first.append(zeros_for(outer, *gradient_spec(outer)))
        test = Body(graph)
        for t in back.inputs:
            test.add_input(t.dims, t.dtype)
        with test.as_default():
            test.outputs.append(OPS["GreaterEqual"](test.inputs[0], 0))
        last = iter(add_while(test, back, first, "while_grad").outputs[1:])
        result: list[Any] = [None] * len(operation.inputs)
        for k in self.active:
            result[k] = next(last)
        place = {
            t: i for i, t in enumerate(body.captures.values(), len(result) - len(body.captures))
        }
        for inside, outer in self.summed.items():
            result[place[inside]] = (
                _joined(next(last), next(last), outer, sparse[inside])
                if inside in sparse
                else next(last)
            )
        return result

    def _body(self, graph: Graph) -> tuple[Body, dict[Tensor, DType]]:
        """The body of the gradient's loop.

        Its loop variables are the index, the gradients of loop variables, and then for each
        capture the sum of its gradients; or, where these are slices, the lists of their values
        and indices, so that a lookup in a large table does not cost a large sum per iteration.

        Returns:
          The body, and the dtype of the indices for each capture with slices.
        """
        body = self.operation.attrs["body"]
        back = Body(graph)
        index = back.add_input((), dtypes.int32, "index")
        look_into(body, back, _given(self.operation), lambda t: self._recorded(back, index, t))
        grad_ys = [back.add_input(*gradient_spec(body.inputs[k])) for k in self.active]
        sparse = {}
        with back.as_default():
            ys = [body.outputs[k] for k in self.active] + [body.outputs[j] for j in self.records]
            grad_ys += [self._of_record(back, index, j) for j in self.records]
            xs = [*[body.inputs[k] for k in self.active], *self.summed]
            found = self.differentiate(ys, xs, grad_ys=grad_ys)
            outputs = [OPS["Sub"](index, 1)]
            for k, g in zip(self.active, found, strict=False):
                x = body.inputs[k]
                outputs.append(zeros_for(x, *gradient_spec(x)) if g is None else as_tensor(g))
            for (inside, outer), g in zip(
                self.summed.items(), found[len(self.active) :], strict=True
            ):
                spec = gradient_spec(outer)
                if isinstance(g, IndexedSlices) and is_known(spec[0]):
                    sparse[inside] = g.indices.dtype
                    for part in (g.values, g.indices):
                        rows = back.add_input((), dtypes.variant)
                        outputs.append(list_set(rows, index, part))
                else:
                    total = back.add_input(*spec)
                    outputs.append(total if g is None else add_gradients(total, as_tensor(g)))
            back.outputs += [back.own(t) for t in outputs]
        return back, sparse

    def _recorded(self, back: Body, index: Tensor, tensor: Tensor) -> Tensor:
        """A tensor of the loop's body, as it was in the iteration that is differentiated."""
        items = back.own(_record(self.operation, tensor))
        return list_get(items, index, dims=tensor.dims, dtype=tensor.dtype)

    def _of_record(self, back: Body, index: Tensor, position: int) -> Tensor:
        """What came back for a record, at that iteration."""
        tensor = self.operation.attrs["body"].outputs[position]
        like = empty_list() if tensor.dtype is dtypes.variant else back.own(tensor)
        return list_get_or(back.own(self.arrived[position + 1]), index, like)


def _joined(values: Tensor, indices: Tensor, outer: Tensor, dtype: DType) -> IndexedSlices:
    """The slices of all iterations as one."""
    dims, of_values = gradient_spec(outer)
    assert dims is not None
    return IndexedSlices(
        list_concat(values, dims=(None, *dims[1:]), dtype=of_values),
        list_concat(indices, dims=(None,), dtype=dtype),
        as_tensor(np.asarray(dims, np.int64)),
    )


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

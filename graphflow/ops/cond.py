"""Branches: the op Cond, `cond`, `case` and `switch_case`.

A Cond owns two bodies and runs one of them.  Its inputs are the predicate and what the bodies
capture.  Everything with an effect that was built in a branch runs when the branch runs, in the
order of creation, whether an output depends on it or not.

Its gradient is a Cond whose branches are the gradients of the branches.  What these need of the
forward branches becomes further outputs of the forward Cond; the branch that has no such value
gives zeros for it, which nothing reads.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from graphflow.base import dtypes, nest
from graphflow.base.errors import GraphError, InvalidArgumentError, ShapeError
from graphflow.base.shapes import format_dims
from graphflow.build import Graph, Operation, Tensor, as_tensor, op
from graphflow.build.body import Body
from graphflow.build.defaults import get_default_graph
from graphflow.build.opdef import OPS, Bool, Each, Specs
from graphflow.ops.bodies import (
    as_leaf,
    carries,
    generalised,
    gradient_spec,
    look_into,
    noted,
    owner,
    packed,
    saved,
    spread,
)
from graphflow.ops.lists import zeros, zeros_for
from graphflow.ops.sources import identity


def _specs(pred: Tensor, *_: Tensor, then: Body, orelse: Body, **_attrs: Any) -> Specs:
    if pred.dims is not None and pred.dims != ():
        raise ShapeError(f"the predicate must be a scalar, not of shape {format_dims(pred.dims)}")
    found: Specs = []
    for i, (a, b) in enumerate(zip(then.outputs, orelse.outputs, strict=True)):
        if a.dtype is not b.dtype:
            raise GraphError(
                f"output {i} is {a.dtype.name} in one branch (built at {a.op.site}) and "
                f"{b.dtype.name} in the other (built at {b.op.site}): use tf.cast"
            )
        found.append((generalised(a.dims, b.dims), a.dtype))
    return found


def _grad(g: Any, y: Any, pred: Any, *captured: Any, then: Body, orelse: Body, split: int,
          wanted: Any, differentiate: Any, operation: Operation) -> list[Any]:  # fmt: skip
    arrived = g if isinstance(g, tuple) else (g,)
    graph = get_default_graph()
    branches = [
        _backward(graph, operation, then, captured[:split], arrived, differentiate),
        _backward(graph, operation, orelse, captured[split:], arrived, differentiate),
    ]
    wrt = list(dict.fromkeys(t for _, found in branches for t in found))
    if not wrt:
        return [None] * (1 + len(captured))
    for back, found in branches:
        with back.as_default():
            for x in wrt:
                term = found[x] if x in found else zeros_for(x, *gradient_spec(x))
                back.outputs.append(back.own(term))
    result = add_cond(pred, branches[0][0], branches[1][0], "cond_grad")
    found = dict(zip(wrt, result.outputs, strict=True))
    return [None, *[found.pop(x, None) for x in captured]]  # once, where both captured it


def _backward(
    graph: Graph,
    operation: Operation,
    body: Body,
    captured: Sequence[Tensor],
    arrived: Sequence[Any],
    differentiate: Any,
) -> tuple[Body, dict[Tensor, Tensor]]:
    """A branch's gradient: its body, and in it the gradients of what the branch captured."""
    back = Body(graph)
    given = dict(zip(body.captures.values(), captured, strict=True))
    look_into(body, back, given, lambda t: back.own(_output(operation, body, t)))
    with back.as_default():
        pairs = [(t, g) for t, g in zip(body.outputs, arrived, strict=False) if g is not None]
        xs = [t for t in given if carries(t.dtype)]
        if not xs or not pairs:
            return back, {}
        ys = [t for t, _ in pairs]
        found = differentiate(ys, xs, grad_ys=[g for _, g in pairs])
        return back, {
            given[x]: as_tensor(g) for x, g in zip(xs, found, strict=True) if g is not None
        }


def _output(operation: Operation, body: Body, tensor: Tensor) -> Tensor:
    """The output of the Cond that gives a tensor of one of its branches."""
    graph = operation.graph
    with graph.root.lock:
        position = saved(operation, body, tensor, 0)
        if position is not None:
            return operation.outputs[position]
        then, orelse = operation.attrs["then"], operation.attrs["orelse"]
        other = orelse if body is then else then
        with other.as_default(), other.control_dependencies(None):
            stand_in = zeros(dims=tensor.dims, dtype=tensor.dtype)
        body.outputs.append(tensor)
        other.outputs.append(stand_in)
        return graph.append_output(operation, tensor.dims, tensor.dtype)


@op("Cond", infer=_specs, grad=_grad, host=("pred",))
def cond_op(
    xp: Any,
    ctx: Any,
    pred: Bool,
    *captured: Each,
    then: Any,
    orelse: Any,
    split: Any,
    wanted: Any = None,
) -> Any:
    """Outputs of the branch that the predicate chooses; the other one does not run.

    Attributes:
      then, orelse: the bodies.
      split: number of captures of `then`; those of `orelse` follow.
      wanted: for each output whether the bodies still give it (see `bodies.restricted`); those
        that they do not are None.  None: all of them.
    """
    body, arguments = (then, captured[:split]) if pred else (orelse, captured[split:])
    found = ctx.call(body, arguments)
    outputs = tuple(found) if wanted is None else spread(found, wanted)
    return outputs[0] if len(outputs) == 1 else outputs


def add_cond(pred: Tensor, then: Body, orelse: Body, name: str) -> Operation:
    """Add a Cond whose bodies are complete."""
    graph = get_default_graph()
    with graph.control_dependencies([*then.outer_control, *orelse.outer_control]):
        result = cond_op(
            pred,
            *then.captures,
            *orelse.captures,
            then=then,
            orelse=orelse,
            split=len(then.captures),
            name=name,
        )
    return owner(result)


# ---- TensorFlow's functions


def cond(
    pred: Any,
    true_fn: Callable[[], Any] | None = None,
    false_fn: Callable[[], Any] | None = None,
    strict: bool = False,
    name: str | None = None,
    fn1: Callable[[], Any] | None = None,
    fn2: Callable[[], Any] | None = None,
) -> Any:
    """What `true_fn` gives where `pred` is true when the graph runs, else what `false_fn` gives.

    Only what is built inside the functions is conditional; with effects (an assignment, a print)
    it runs whenever its branch does.

    Args:
      pred: a scalar bool tensor.
      true_fn, false_fn: functions that return tensors, or nested structures of them, of the same
        form and dtypes.  An operation stands for a bool.
      strict: keep a list or tuple of one element; by default it is unpacked.
      fn1, fn2: older names of `true_fn` and `false_fn`.

    Raises:
      TypeError: `pred` is a Python bool, or an argument is no function.
      ValueError: the functions return different structures or dtypes.
    """
    true_fn = _one_of("true_fn", true_fn, "fn1", fn1)
    false_fn = _one_of("false_fn", false_fn, "fn2", fn2)
    if isinstance(pred, bool):
        raise TypeError("pred is a Python bool: use `if`, or tf.constant(pred)")
    graph = get_default_graph()
    with graph.name_scope(name or "cond"):
        pred = as_tensor(pred, name="pred")
        graph = get_default_graph() if pred.graph.root is graph.root else pred.graph
        with graph.as_default():
            then, first = _branch(graph, true_fn, "true_fn", True, strict)
            orelse, second = _branch(graph, false_fn, "false_fn", False, strict)
            _assert_alike(first, second)
            outputs = add_cond(pred, then, orelse, "Merge").outputs
    return packed(first, outputs)


def _one_of(name: str, function: Any, older: str, alias: Any) -> Callable[[], Any]:
    if alias is not None:
        if function is not None:
            raise TypeError(f"cond() takes {name} or {older}, not both")
        function = alias
    if not callable(function):
        raise TypeError(f"{name} must be callable, not {function!r}")
    return function


def _branch(
    graph: Graph, function: Callable[[], Any], what: str, taken: bool, strict: bool
) -> tuple[Body, Any]:
    """The body of a branch, and what the function returned, with tensors of the body inside."""
    body = Body(graph)
    with body.as_default():
        result = function()
        if result is None:
            raise noted(GraphError(f"{what} must return a value"))
        if not strict and type(result) in (list, tuple) and len(result) == 1:
            result = result[0]
        leaves = [_value(leaf, taken) for leaf in nest.flatten(result)]
        if not leaves:
            raise noted(GraphError(f"{what} must return at least one value"))
        result = nest.pack_sequence_as(result, leaves)
        body.outputs += [body.own(as_leaf(leaf)) for leaf in leaves]
    return body, result


def _value(leaf: Any, taken: bool) -> Any:
    """Operations are stood for by the value of the predicate, available after they ran."""
    if isinstance(leaf, Operation):
        with get_default_graph().control_dependencies([leaf]):
            return identity(as_tensor(taken))
    return leaf if hasattr(leaf, "with_flow") else as_leaf(leaf)


def _assert_alike(first: Any, second: Any) -> None:
    try:
        nest.assert_same_structure(first, second)
    except (ValueError, TypeError) as error:
        message = f"true_fn and false_fn return different structures: {error}"
        raise noted(type(error)(message)) from None


@op("CheckCount", infer=lambda *preds, **_: [((), dtypes.int32)], grad=None)
def check_count(xp: Any, *preds: Bool, least: Any, most: Any) -> Any:
    """How many predicates are true.

    Raises InvalidArgumentError where that is less than `least` or more than `most`.
    """
    count = sum(bool(p) for p in preds)
    if not least <= count <= most:
        values = ", ".join(str(bool(p)).lower() for p in preds)
        wanted = "exactly one" if least == most else "at most one" if least == 0 else "one"
        raise InvalidArgumentError(
            None, None, f"{count} predicates of case() are true, not {wanted}: {values}"
        )
    return xp.asarray(count, np.int32)


def case(
    pred_fn_pairs: Any,
    default: Callable[[], Any] | None = None,
    exclusive: bool = False,
    strict: bool = False,
    name: str = "case",
) -> Any:
    """What the function of the first true predicate gives, or else `default`.

    Args:
      pred_fn_pairs: pairs of a scalar bool tensor and a function, or a dict of them.
      default: called where no predicate is true; without it, one must be.
      exclusive: at most one predicate may be true.

    Raises:
      TypeError: the pairs are none.
      InvalidArgumentError (when run): no predicate is true and there is no default, or more than
        one is true though `exclusive`.
    """
    pairs = list(pred_fn_pairs.items() if isinstance(pred_fn_pairs, Mapping) else pred_fn_pairs)
    for pair in pairs:
        if not isinstance(pair, tuple) or len(pair) != 2 or not callable(pair[1]):
            raise TypeError(f"case() takes pairs of a predicate and a function, not {pair!r}")
    if not pairs and default is None:
        raise GraphError("case() needs a pair or a default")
    with get_default_graph().name_scope(name or "case"):
        preds = [as_tensor(pred) for pred, _ in pairs]
        checks = []
        if default is None:
            checks.append(check_count(*preds, least=1, most=len(preds)))
            default = pairs[-1][1]
            chain = list(zip(preds, pairs, strict=True))[:-1]
        else:
            chain = list(zip(preds, pairs, strict=True))
        if exclusive:
            checks.append(check_count(*preds, least=0, most=1))
        with get_default_graph().control_dependencies(checks):
            choose = default
            for pred, (_, function) in reversed(chain):
                choose = _choice(pred, function, choose, strict)
            return choose()


def _choice(pred: Tensor, then: Any, orelse: Any, strict: bool) -> Callable[[], Any]:
    return lambda: cond(pred, then, orelse, strict=strict)


def switch_case(
    branch_index: Any,
    branch_fns: Any,
    default: Callable[[], Any] | None = None,
    name: str = "switch_case",
) -> Any:
    """What the function of an index gives.

    Args:
      branch_index: a scalar int32 tensor.
      branch_fns: functions, or pairs of an int and a function, or a dict of them.
      default: called for other indices; without it, the function of the largest one is.

    Raises:
      TypeError: something is no function.
      ValueError: there are none, or an index is given twice.
    """
    if isinstance(branch_fns, Mapping):
        branches = sorted(branch_fns.items())
    elif all(callable(f) for f in branch_fns):
        branches = list(enumerate(branch_fns))
    else:
        pairs: list[Any] = [p if isinstance(p, (tuple, list)) else () for p in branch_fns]
        if any(len(pair) != 2 or not hasattr(pair[0], "__index__") for pair in pairs):
            raise TypeError(f"switch_case takes functions or pairs (int, function): {branch_fns!r}")
        branches = sorted(pairs, key=lambda pair: pair[0])
    if not branches:
        raise GraphError("switch_case() needs at least one function")
    if len({k for k, _ in branches}) != len(branches):
        raise GraphError("switch_case() was given an index twice")
    if not all(callable(f) for _, f in branches):
        raise TypeError("switch_case() takes functions")
    with get_default_graph().name_scope(name or "switch_case"):
        index = as_tensor(branch_index, name="branch_index")
        if default is None:
            *branches, (_, default) = branches
        choose = default
        for key, function in reversed(branches):
            choose = _indexed(index, key, function, choose)
        return choose()


def _indexed(index: Tensor, key: int, function: Any, orelse: Any) -> Callable[[], Any]:
    return lambda: cond(OPS["Equal"](index, key), function, orelse)

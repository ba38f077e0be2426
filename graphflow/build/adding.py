"""How an operation gets its inputs: values become tensors by the dtype rules of the op's entry."""

from __future__ import annotations

from typing import Any

from graphflow.base.dtypes import DType, resource
from graphflow.base.errors import DTypeError
from graphflow.build import defaults
from graphflow.build.convert import convert, is_symbolic
from graphflow.build.graph import Graph
from graphflow.build.opdef import OPS, RULES, OpDef
from graphflow.build.sites import user_site
from graphflow.build.tensor import Operation, Tensor


def add(
    opdef: OpDef, inputs: tuple[Any, ...], attrs: dict[str, Any], name: str | None
) -> Operation:
    """Convert the inputs by the op's dtype rules and append it to the graph in force.

    That is the default graph, or the graph of the inputs where they belong to another one.
    """
    if len(inputs) < len(opdef.params) and attrs:
        keys = [p for p in opdef.params[len(inputs) :] if p in attrs]
        inputs = (*inputs, *[attrs.pop(p) for p in keys])
    graph = defaults.get_default_graph()
    for value in inputs:
        if type(value) is Tensor:
            if value.op.graph.root is not graph.root:
                with defaults.default_graph(value.op.graph):
                    return _add(value.op.graph, opdef, inputs, attrs, name)
            break
    return _add(graph, opdef, inputs, attrs, name)


def _add(
    graph: Graph, opdef: OpDef, inputs: tuple[Any, ...], attrs: dict[str, Any], name: str | None
) -> Operation:
    if name is not None and not isinstance(name, str):
        raise TypeError(f"the name of a {opdef.name} must be a string, not {name!r}")
    rules = opdef.rules
    if opdef.variadic:
        rules = (*rules[:-1], *[rules[-1]] * (len(inputs) - len(rules) + 1))
    try:
        if len(inputs) != len(rules):
            wanted = ", ".join(opdef.params) or "no inputs"
            raise TypeError(f"{opdef.name} takes {wanted}; {len(inputs)} inputs were given")
        tensors, name = _convert(graph, opdef, rules, inputs, name)
    except (TypeError, ValueError) as error:
        shown = (name or opdef.name).rstrip("/")
        error.add_note(f"in {opdef.name} {shown!r}\n  built at {user_site()}")
        raise
    return graph.add(opdef, tensors, attrs, name)


def _convert(
    graph: Graph, opdef: OpDef, rules: tuple[str, ...], inputs: tuple[Any, ...], name: str | None
) -> tuple[tuple[Tensor, ...], str | None]:
    """The inputs as tensors, and the name: a whole one where constants are called after it."""
    groups: dict[str | None, DType] = {}
    tensors: list[Any] = list(inputs)
    pending = []
    for i, value in enumerate(inputs):
        if type(value) is not Tensor:
            if not is_symbolic(value):
                pending.append(i)
                continue
            tensors[i] = value = convert(value, None, None)
        rule = RULES[rules[i]]
        dtype = value.dtype
        if not rule.allows(dtype):
            if dtype is resource:  # a variable found by its name: its value is meant
                tensors[i] = OPS["ReadVariable"](value)
                return _convert(graph, opdef, rules, tuple(tensors), name)
            raise DTypeError(
                f"{_parameter(opdef, i)} must have {rule.wants}, not {dtype.name} ({value!r})"
            )
        if rule.group is not None and groups.setdefault(rule.group, dtype) is not dtype:
            raise DTypeError(
                f"{_parameter(opdef, i)} is {dtype.name}, but {groups[rule.group].name} is needed "
                "as for the inputs before it: tensors are never converted silently, use tf.cast"
            )
    if pending:  # as in TensorFlow, 2 in `x + 2` is "add/y"
        name = graph.whole_name(name or opdef.name)
    for i in pending:
        rule = RULES[rules[i]]
        wanted = groups.get(rule.group) if rule.group else rule.default
        with graph.root.lock:
            inner = graph.names.unique(f"{name}{_name_of_input(opdef, i)}") + "/"
        tensor = convert(inputs[i], wanted if _plain(inputs[i], rule.group) else None, inner)
        if not rule.allows(tensor.dtype):
            raise DTypeError(
                f"{_parameter(opdef, i)} must have {rule.wants}, not {tensor.dtype.name}"
            )
        if rule.group is not None:
            groups.setdefault(rule.group, tensor.dtype)
        tensors[i] = tensor
    return tuple(tensors), name


def _plain(value: Any, group: str | None) -> bool:
    """Does the wanted dtype apply to it?  Index arrays keep their own integer dtype."""
    return group is not None or not hasattr(value, "dtype")


def _name_of_input(opdef: OpDef, index: int) -> str:
    """The parameter's name; those of a variable number are numbered."""
    last = len(opdef.params) - 1
    if opdef.variadic and index >= last:
        return f"{opdef.params[last]}_{index - last}"
    return opdef.params[index]


def _parameter(opdef: OpDef, index: int) -> str:
    name = opdef.params[min(index, len(opdef.params) - 1)]
    return f"input {name!r} of {opdef.name}"

"""What operations do besides computing their outputs: which state they read and write."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

from graphflow.base import dtypes
from graphflow.build.body import Body, Selection
from graphflow.build.tensor import Operation, Tensor

Kind = Literal["read", "write", "input", "output"]


class Touch(NamedTuple):
    """One effect of an operation.

    Attributes:
      kind: "read" or "write" of state, "input" from or "output" to outside.
      key: what is touched; equal for all handles of one variable or queue.
    """

    kind: Kind
    key: Any


def touches(operation: Operation) -> tuple[Touch, ...]:
    """The effects of an operation, those inside the bodies it owns included."""
    opdef = operation.opdef
    found: dict[Touch, None] = {}
    if opdef.effect != "none":
        found[_touch(operation)] = None
    for body in bodies(operation):
        for touch in _inside(body):
            if isinstance(touch.key, Unresolved):  # a handle that is an argument of the body
                for tensor in operation.inputs:
                    if tensor.dtype is dtypes.resource:
                        found[Touch(touch.kind, resource(tensor))] = None
            else:
                found[touch] = None
    return tuple(found)


def is_pure(operation: Operation) -> bool:
    """Same inputs, same outputs, and nothing else happens, in its bodies neither."""
    if not operation.opdef.pure:
        return False
    return all(is_pure(inner) for body in bodies(operation) for inner in body.operations)


def is_droppable(operation: Operation) -> bool:
    """May a run do without it, where nothing takes its outputs?  Reads and pure operations; a
    random one moves its counter, so that leaving it out would change later runs."""
    if operation.opdef.pure and not operation.opdef.takes_ctx:
        return True
    return (
        not operation.opdef.random
        and all(t.kind == "read" for t in touches(operation))
        and (all(is_droppable(inner) for body in bodies(operation) for inner in body.operations))
    )


def bodies(operation: Operation) -> list[Body]:
    """The bodies that a control-flow operation owns."""
    opdef = operation.opdef
    if not opdef.takes_ctx and opdef.kernel is not None:  # no way to run one
        return []
    found = []
    for value in operation.attrs.values():
        if isinstance(value, Body):
            found.append(value)
        elif isinstance(value, tuple):
            found += [v for v in value if isinstance(v, Body)]
        elif isinstance(value, Selection):
            found.append(value.body)
    return found


class Resource(NamedTuple):
    """A variable or queue by name."""

    handle: str  # the op that makes the handle
    container: str
    name: str


class Unresolved(NamedTuple):
    """A handle that comes into a body as an argument: only the owner knows what it is."""

    argument: Operation


def resource(handle: Tensor) -> Any:
    """What a handle names: traced through identities and captures to where it is made."""
    while True:
        operation = handle.op
        if operation.opdef.alias is not None and operation.inputs:
            handle = operation.inputs[operation.opdef.alias]
        elif operation.type == "Argument" and isinstance(operation.graph, Body):
            outer = [o for o, inner in operation.graph.captures.items() if inner.op is operation]
            if not outer:
                return Unresolved(operation)
            handle = outer[0]
        elif "shared_name" in operation.attrs:  # two handles of one name are one variable
            return Resource(operation.type, operation.attrs.get("container", ""),
                            operation.attrs["shared_name"])  # fmt: skip
        else:
            return operation


def _touch(operation: Operation) -> Touch:
    opdef = operation.opdef
    inputs = operation.inputs
    known = bool(inputs) and inputs[0].dtype is dtypes.resource
    if opdef.effect == "state":
        key = resource(inputs[0]) if known else operation
        return Touch("write" if opdef.writes else "read", key)
    assert opdef.effect != "none"
    return Touch(opdef.effect, resource(inputs[0]) if known else opdef.name)


def _inside(body: Body) -> Iterator[Touch]:
    for operation in body.operations:
        yield from touches(operation)

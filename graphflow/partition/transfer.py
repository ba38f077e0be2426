"""The ops that carry a tensor from one device to another.

The run's context has the channel.  A pair shares its `key`, which is unique in a step.  The
output of a `Recv` is the very tensor that was sent, so that its consumers stay as they are.
"""

from __future__ import annotations

from typing import Any

from graphflow.base.devices import short
from graphflow.build.opdef import Array, Each, OpDef, Specs, op
from graphflow.build.tensor import Operation, Tensor
from graphflow.ops.rules import nothing


def _received(*, specs: Specs, **_: Any) -> Specs:
    return list(specs)


@op("Send", infer=nothing, grad=None, cost=lambda *_, **__: 0.0)
def send(
    xp: Any,
    ctx: Any,
    *values: Each,
    key: Any,
    tensor: Any,
    source: Any,
    destination: Any,
    specs: Any,
) -> tuple[()]:
    """Hand tensors to the channel of their key, as one message; does not wait for the receiver."""
    ctx.send(key, values[0] if len(values) == 1 else values)
    return ()


@op("Recv", infer=_received, grad=None, cost=lambda *_, **__: 0.0)
def recv(
    xp: Any,
    ctx: Any,
    *,
    key: Any,
    tensor: Any,
    source: Any,
    destination: Any,
    specs: Any,
) -> Array:
    """Wait for the message of its key, and give the tensors in it."""
    return ctx.receive(key)


def pair(source: str, destination: str, *tensors: Tensor) -> tuple[Operation, Operation]:
    """The two ends of one transfer; neither is added to a graph."""
    first = tensors[0]
    more = f"+{len(tensors) - 1}" if len(tensors) > 1 else ""
    attrs = {
        "key": f"{first.name}{more};{source};{destination}",
        "tensor": first.name,
        "source": source,
        "destination": destination,
        "specs": tuple([(t.dims, t.dtype) for t in tensors]),
    }
    label = f"{first.op.name}/_{{}}_{first.index}_{short(destination)}"
    sender = _operation(send, first, tensors, attrs, label.format("send"), source)
    receiver = _operation(recv, first, (), attrs, label.format("recv"), destination)
    receiver.outputs = tensors
    return sender, receiver


def _operation(
    opdef: OpDef,
    about: Tensor,
    inputs: tuple[Tensor, ...],
    attrs: dict[str, Any],
    name: str,
    device: str,
) -> Operation:
    origin = about.op
    specs = opdef.infer(*inputs, **attrs)
    return Operation(
        origin.graph, origin.id, name, opdef, inputs, attrs, specs, origin.site, device=device
    )

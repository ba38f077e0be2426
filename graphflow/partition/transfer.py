"""The ops that carry a tensor from one device to another.

The run's context has the channel.  A pair shares its `key`, which is unique in a step.  The
output of a `Recv` is the very tensor that was sent, so that its consumers stay as they are.
"""

from __future__ import annotations

from typing import Any

from graphflow.base.devices import parse
from graphflow.base.dtypes import DType
from graphflow.base.shapes import Dims
from graphflow.build.opdef import Array, Each, OpDef, Specs, op
from graphflow.build.tensor import Operation, Tensor
from graphflow.ops.rules import nothing


def _received(*, dims: Dims, dtype: DType, **_: Any) -> Specs:
    return [(dims, dtype)]


@op("Send", infer=nothing, grad=None, cost=lambda *_, **__: 0.0)
def send(
    xp: Any,
    ctx: Any,
    value: Each,
    *,
    key: Any,
    tensor: Any,
    source: Any,
    destination: Any,
    dtype: Any,
    dims: Any,
) -> tuple[()]:
    """Hand a tensor to the channel of its key; does not wait for the receiver."""
    ctx.send(key, value)
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
    dtype: Any,
    dims: Any,
) -> Array:
    """Wait for the tensor of its key."""
    return ctx.receive(key)


def pair(tensor: Tensor, source: str, destination: str) -> tuple[Operation, Operation]:
    """The two ends of one transfer; neither is added to a graph."""
    attrs = {
        "key": f"{tensor.name};{source};{destination}",
        "tensor": tensor.name,
        "source": source,
        "destination": destination,
        "dtype": tensor.dtype,
        "dims": tensor.dims,
    }
    label = f"{tensor.op.name}/_{{}}_{tensor.index}_{short(destination)}"
    sender = _operation(send, tensor, (tensor,), attrs, label.format("send"), source)
    receiver = _operation(recv, tensor, (), attrs, label.format("recv"), destination)
    receiver.outputs = (tensor,)
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


def short(device: str) -> str:
    """A device as part of a name: "worker_0_1_GPU_0"."""
    parts = [str(p) for p in parse(device) if p is not None]
    return "_".join(parts)

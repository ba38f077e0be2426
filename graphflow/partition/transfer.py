"""The ops that carry a tensor from one device to another.

They have no kernels: executors lower them to their channels.  A pair shares its `key`, which is
unique in a step.  The output of a `Recv` is the very tensor that was sent, so that its consumers
stay as they are.
"""

from __future__ import annotations

from typing import Any

from graphflow.base.devices import parse
from graphflow.base.dtypes import DType
from graphflow.base.shapes import Dims
from graphflow.build.opdef import Each, OpDef, Specs, define
from graphflow.build.tensor import Operation, Tensor
from graphflow.ops.rules import nothing


def _received(*, dims: Dims, dtype: DType, **_: Any) -> Specs:
    return [(dims, dtype)]


def _send(
    value: Each, *, key: Any, tensor: Any, source: Any, destination: Any, dtype: Any, dims: Any
) -> None:
    """Hand a tensor to the channel of its key; does not wait for the receiver."""


def _recv(*, key: Any, tensor: Any, source: Any, destination: Any, dtype: Any, dims: Any) -> None:
    """Wait for the tensor of its key."""


send = define("Send", None, like=_send, infer=nothing, grad=None)
recv = define("Recv", None, like=_recv, infer=_received, grad=None)


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
    label = f"{tensor.op.name}/_{{}}_{tensor.index}_{_short(destination)}"
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


def _short(device: str) -> str:
    parts = [str(p) for p in parse(device) if p is not None]
    return "_".join(parts)

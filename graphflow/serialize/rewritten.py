"""Ops that TensorFlow writes otherwise: several ops for one of ours, or another one.

Each function writes the nodes of an operation, the last one under its name; False: it cannot, and
the operation is written as it is.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from graphflow.base import dtypes
from graphflow.build import Operation
from graphflow.ops.known import constant_value
from graphflow.serialize.values import attr_proto


def _const(writer: Any, operation: Operation) -> bool:
    value = operation.attrs["value"]
    attrs = {"value": attr_proto(value, "tensor"), "dtype": operation.outputs[0].dtype}
    writer.node("Const", [], attrs)
    return True


def _folded(writer: Any, operation: Operation) -> bool:
    """An op without inputs that depend on the run, as a constant."""
    value = constant_value(operation.outputs[0])
    if value is None:
        return False
    attrs = {"value": attr_proto(value, "tensor"), "dtype": operation.outputs[0].dtype}
    writer.node("Const", [], attrs)
    return True


def _variable(writer: Any, operation: Operation) -> bool:
    attrs = operation.attrs
    writer.node(
        "VarHandleOp",
        [],
        {
            "dtype": attrs["dtype"],
            "shape": attr_proto(attrs["dims"], "shape"),
            "shared_name": attr_proto(attrs["shared_name"], "string"),
            "container": attr_proto(attrs["container"], "string"),
        },
    )
    return True


def _read(writer: Any, operation: Operation) -> bool:
    handle = writer.ref(operation.inputs[0])
    writer.node("ReadVariableOp", [handle], {"dtype": operation.outputs[0].dtype})
    return True


def _assign(op: str) -> Any:
    """An assignment; TensorFlow's has no output, so a read after it stands for ours."""

    def write(writer: Any, operation: Operation) -> bool:
        handle, *values = [writer.ref(t) for t in operation.inputs]
        new = operation.outputs[0]
        attrs: dict[str, Any] = {"dtype": new.dtype}
        if len(values) == 2:
            attrs["Tindices"] = operation.inputs[1].dtype
        if "ResourceScatterNd" in op:
            attrs = {"T": new.dtype, "Tindices": operation.inputs[1].dtype}
        writer.node(op, [handle, *values], attrs)
        read = writer.node(
            "ReadVariableOp", [handle, f"^{operation.name}"], {"dtype": new.dtype}, "value"
        )
        writer.refs[new] = read
        return True

    return write


def _softmax(writer: Any, operation: Operation) -> bool:
    logits = operation.inputs[0]
    rank = None if logits.dims is None else len(logits.dims)
    if operation.attrs["axis"] != -1 and (rank is None or operation.attrs["axis"] != rank - 1):
        return False
    writer.node(operation.type, [writer.ref(logits)], {"T": logits.dtype})
    return True


def _xor(writer: Any, operation: Operation) -> bool:
    inputs = [writer.ref(t) for t in operation.inputs]
    either = writer.node("LogicalOr", inputs, {}, "LogicalOr")
    both = writer.node("LogicalAnd", inputs, {}, "LogicalAnd")
    not_both = writer.node("LogicalNot", [both], {}, "LogicalNot")
    writer.node("LogicalAnd", [either, not_both], {})
    return True


def _transposed(writer: Any, operation: Operation) -> bool:
    x = operation.inputs[0]
    if x.dims is None:
        return False
    order = [*range(len(x.dims) - 2), len(x.dims) - 1, len(x.dims) - 2]
    perm = writer.constant(np.array(order, np.int32), "perm")
    writer.node("Transpose", [writer.ref(x), perm], {"T": x.dtype, "Tperm": dtypes.int32})
    return True


def _sum_to(writer: Any, operation: Operation) -> bool:
    """As TensorFlow undoes a broadcast: sum over the axes that its helper names, reshape."""
    x, target = operation.inputs
    kind = target.dtype
    shape = writer.node("Shape", [writer.ref(x)], {"T": x.dtype, "out_type": kind}, "Shape")
    axes = writer.node(
        "BroadcastGradientArgs", [writer.ref(target), shape], {"T": kind}, "BroadcastGradientArgs"
    )
    total = writer.node("Sum", [writer.ref(x), axes], {"T": x.dtype, "Tidx": kind}, "Sum")
    writer.node("Reshape", [total, writer.ref(target)], {"T": x.dtype, "Tshape": kind})
    return True


def _count(writer: Any, operation: Operation) -> bool:
    sizes, kind = operation.inputs[0], operation.inputs[0].dtype
    axis = operation.attrs["axis"]
    chosen = writer.ref(sizes)
    if axis is not None:
        if any(a < 0 for a in axis):
            return False
        places = writer.constant(np.array(axis, np.int32).reshape(-1), "axes")
        zero = writer.constant(np.int32(0), "axis")
        types = {"Tparams": kind, "Tindices": dtypes.int32, "Taxis": dtypes.int32}
        chosen = writer.node("GatherV2", [chosen, places, zero], types, "sizes")
    first = writer.constant(np.array([0], np.int32), "reduction_indices")
    count = writer.node("Prod", [chosen, first], {"T": kind, "Tidx": dtypes.int32}, "Prod")
    types = {"SrcT": kind, "DstT": operation.outputs[0].dtype}
    writer.node("Cast", [count], types)
    return True


def _keep(writer: Any, operation: Operation) -> bool:
    mask, x = operation.inputs
    other = writer.constant(np.asarray(operation.attrs["other"]).astype(x.dtype.np), "other")
    writer.node("SelectV2", [writer.ref(mask), writer.ref(x), other], {"T": x.dtype})
    return True


def _stitch(writer: Any, operation: Operation) -> bool:
    half = len(operation.inputs) // 2
    kind = operation.outputs[0].dtype
    inputs = [writer.ref(t) for t in operation.inputs]
    writer.node("DynamicStitch", inputs, {"N": attr_proto(half, "int"), "T": kind})
    return True


def _real_fourier(writer: Any, operation: Operation) -> bool:
    """The transform of real sequences, whose length is an input there."""
    x = operation.inputs[0]
    if x.dims is None or x.dims[-1] is None:
        return False
    size = writer.constant(np.array([x.dims[-1]], np.int32), "fft_length")
    types = {"Treal": x.dtype, "Tcomplex": operation.outputs[0].dtype}
    writer.node("RFFT", [writer.ref(x), size], types)
    return True


OPS: dict[str, Any] = {
    "AssignAddVariable": _assign("AssignAddVariableOp"),
    "AssignSubVariable": _assign("AssignSubVariableOp"),
    "AssignVariable": _assign("AssignVariableOp"),
    "Const": _const,
    "DynamicStitch": _stitch,
    "Eye": _folded,
    "Keep": _keep,
    "LogSoftmax": _softmax,
    "LogicalXor": _xor,
    "MatrixTranspose": _transposed,
    "RFFT": _real_fourier,
    "ReadVariable": _read,
    "ReducedCount": _count,
    "Softmax": _softmax,
    "SumTo": _sum_to,
    "VarHandle": _variable,
    "Zeros": _folded,
    **{
        f"Scatter{kind}": _assign(f"ResourceScatter{kind}")
        for kind in (
            "Add", "Div", "Max", "Min", "Mul", "Sub", "Update", "NdAdd", "NdSub", "NdUpdate",
        )
    },
}  # fmt: skip

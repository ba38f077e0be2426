"""Record TensorFlow's values of every op, on the cases of the registry.

    python -m tests.ops.golden.record          # in an environment with TensorFlow

An op is called through `tf.raw_ops` under its own name, with inputs in order and attributes by
name; the tables below say where graphflow differs.  Each case is tried in every dtype that the
entry's rules allow; what TensorFlow has no kernel for is left out and counted.
"""

from __future__ import annotations

import inspect
import os
import sys
from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np

from graphflow.base.dtypes import DType, as_dtype
from graphflow.build import OpDef
from graphflow.ops.cases import Case
from tests.ops.golden.store import FILE, Call, write
from tests.ops.registered import as_arrays, cases_of, entries, needs_session, rule_of

# Ops that TensorFlow does not have, and those that mean nothing without a session.
WITHOUT = {
    **dict.fromkeys(
        ("GatherGrad", "LinearRecurrence", "OrthogonalFactor", "ReducedCount", "ReducedShape"),
        "a part of a gradient that TensorFlow writes in several ops",
    ),
    **dict.fromkeys(
        ("ChannelWindowSum", "Dilation2DPick", "Keep", "Shift", "SliceGrad", "Step", "SumTo"),
        "a part of a gradient that TensorFlow writes in several ops",
    ),
    **dict.fromkeys(
        ("Barrier", "Const", "Eye", "NoOp", "Zeros"), "a source: there is nothing to compute"
    ),
    **dict.fromkeys(
        (
            "AsString",
            "CTCBeamSearchDecoder",
            "CTCGreedyDecoder",
            "CTCLoss",
            "CTCLossGrad",
            "EncodeJpeg",
            "EncodePng",
            "IRFFT",
            "RFFT",
            "ResizeArea",
        ),
        "its inputs or attributes differ from those of TensorFlow's op: not recorded",
    ),
    **dict.fromkeys(
        (
            "EditDistance",
            "ResizeAreaGrad",
            "ResizeBicubicGrad",
            "ResizeBilinearGrad",
            "ResizeNearestNeighborGrad",
        ),
        "its inputs or attributes differ from those of TensorFlow's op: not recorded",
    ),
    **dict.fromkeys(("AllReduce", "AllReducePart"), "how devices exchange values"),
    "ShuffledRow": "TensorFlow's RandomIndexShuffle has another cipher, and one pass",
    "PreventGradient": "an identity whose gradient is an error: tests/differentiate",
    "TileGrad": "TensorFlow removed it; the gradient of Tile is checked numerically",
    "PlaceholderWithDefault": "TensorFlow runs it in graphs alone: an identity",
}
FROM_ATTRIBUTE = {  # TensorFlow's input -> our attribute
    "axis": "axis", "dimension": "axis", "perm": "perm", "split_dim": "axis",
}  # fmt: skip
RENAMED = {  # our attribute -> TensorFlow's, the first that its op has
    "keepdims": ("keep_dims",), "transpose_a": ("transpose_a", "adj_x"),
    "transpose_b": ("transpose_b", "adj_y"), "seq_axis": ("seq_dim",),
    "batch_axis": ("batch_dim",), "axis": ("axis", "squeeze_dims", "dim"),
    "num": ("num", "num_split", "num_partitions"), "dims": ("shape",), "dtype": ("DstT", "dtype"),
}  # fmt: skip
NOTHING = {  # what TensorFlow's kernels get wrong where there are no elements
    ("DepthwiseConv2dNativeBackpropFilter", "f"),  # memory that nobody wrote
}
WINDOWS = ("ksize", "strides", "dilations", "rates")
DTYPES = ("float64", "float32", "int32", "int64", "uint8", "complex64", "bool")


def variants(entry: OpDef, case: Case) -> Iterator[Case]:
    """The case in every dtype that the rules allow."""
    floating = [i for i, x in enumerate(case.inputs) if x.dtype == np.float64]
    if not floating:
        yield case
        return
    for name in DTYPES:
        if all(rule_of(entry, i).allows(as_dtype(name)) for i in floating):
            inputs = [converted(x, name) if i in floating else x for i, x in enumerate(case.inputs)]
            yield Case(tuple(inputs), case.attrs)


def converted(x: Any, name: str) -> Any:
    """Floating numbers as those of another dtype, small ones apart from each other."""
    kind = np.dtype(name).kind
    if kind == "f":
        return x.astype(name)
    x = np.nan_to_num(x, nan=0.0, posinf=9.0, neginf=-9.0)
    if kind == "c":
        return (x + 1j * np.cos(3 * x)).astype(name)
    if kind == "b":
        return x > 0
    return np.rint(np.abs(x) * 7 if kind == "u" else x * 7).astype(name)


def call_tensorflow(tf: Any, entry: OpDef, case: Case) -> list[Any] | None:
    """TensorFlow's outputs; None where it has no kernel for these dtypes."""
    attrs = entry.complete(case.attrs)
    if "DepthwiseConv2dNativeBackprop" in entry.name and np.max(attrs["dilations"]) > 1:
        return None  # its kernels take the attribute and ignore it
    if not case.inputs[0].size and (entry.name, case.inputs[0].dtype.kind) in NOTHING:
        return None
    if entry.name in ("ResizeBilinear", "ResizeBicubic") and case.inputs[0].dtype != np.float32:
        return None  # TensorFlow's give float32 whatever they get
    if entry.name in ("Cholesky", "SelfAdjointEigV2") and case.inputs[0].dtype.kind == "c":
        return None  # made of a symmetric matrix, it is not Hermitian
    try:
        if entry.name in SPECIAL:
            result = SPECIAL[entry.name](tf, *case.inputs, **attrs)
        else:
            function = getattr(tf.raw_ops, entry.name)
            result = function(**arguments(tf, entry, function, case, attrs))
    except (tf.errors.OpError, TypeError, ValueError) as error:
        if not missing_kernel(str(error)):
            raise
        return None
    outputs = list(result) if isinstance(result, (tuple, list)) else [result]
    return [np.asarray(y) for y in outputs]


def missing_kernel(message: str) -> bool:
    """Does an error say that TensorFlow's CPU has no such kernel?"""
    signs = (
        "Could not find device", "not in the list of allowed", "only supports",
        "No OpKernel", "NHWC tensor format", "is not supported", "not supported on CPU",
        "not implemented", "not yet supported", "not yet support", "does not support", "NDHWC",
        "Requires delta != 0", "Integers to negative integer powers", "Unhandled input dimensions",
        "Shapes of a and b are inconsistent", "must be", "Invalid type", "requires",
        "Requires start", "Expected dimension 1 at axis", "supported for NHWC",
        "expected to be a float tensor", "does not have enough elements",
    )  # fmt: skip
    return any(sign in message for sign in signs)


def arguments(tf: Any, entry: OpDef, function: Any, case: Case, attrs: Any) -> dict[str, Any]:
    """What TensorFlow's op takes, by name."""
    from tensorflow.python.framework import op_def_registry

    definition = op_def_registry.get(entry.name)
    names = [n for n in inspect.signature(function).parameters if n != "name"]
    inputs = names[: len(definition.input_arg)]
    left = [tf.constant(x) for x in case.inputs]  # an array would take an attribute's default dtype
    given: dict[str, Any] = {}
    rank = case.inputs[0].ndim if left else 0
    wanted = [n for n in inputs if not (n in FROM_ATTRIBUTE and FROM_ATTRIBUTE[n] in attrs)]
    for name in inputs:
        if name not in wanted:
            value = attrs.pop(FROM_ATTRIBUTE[name])
            every = range(rank)[::-1] if name == "perm" else range(rank)
            given[name] = np.asarray(every if value is None else value, np.int32)
        elif entry.variadic and name == wanted[-1]:
            given[name] = left
        else:
            given[name] = left.pop(0)
    for key, value in attrs.items():
        name = next((n for n in RENAMED.get(key, (key,)) if n in names), None)
        if name is None:
            raise KeyError(f"{entry.name}: TensorFlow's op has no attribute for {key!r}")
        given[name] = tensorflow_attribute(tf, key, value, attrs, entry)
        if key == "padding" and not isinstance(value, str):
            given |= {"padding": "EXPLICIT", "explicit_paddings": [n for p in value for n in p]}
    if "Tout" in names:
        double = case.inputs[0].dtype in (np.float64, np.complex128)
        kinds = ("complex64", "complex128") if entry.name == "Complex" else ("float32", "float64")
        given["Tout"] = tf.dtypes.as_dtype(kinds[double])
    return given


def tensorflow_attribute(tf: Any, key: str, value: Any, attrs: Any, entry: OpDef) -> Any:
    if isinstance(value, DType):
        return tf.dtypes.as_dtype(value.name)
    if key not in WINDOWS:
        return list(value) if isinstance(value, tuple) else value
    count = 3 if "3D" in entry.name else 2
    layout = attrs.get("data_format", "NHWC")
    if not isinstance(value, tuple) or len(value) in (1, count):
        spatial = value if isinstance(value, tuple) else (value,)
        spatial = spatial * count if len(spatial) == 1 else spatial
        value = (1, 1, *spatial) if layout.startswith("NC") else (1, *spatial, 1)
    return list(value)


def _stitch(tf: Any, *inputs: Any) -> Any:
    half = len(inputs) // 2
    return tf.raw_ops.DynamicStitch(indices=inputs[:half], data=inputs[half:])


def _sort(tf: Any, x: Any, *, descending: bool) -> Any:
    return tf.sort(x, direction="DESCENDING" if descending else "ASCENDING")


def _search(tf: Any, x: Any, values: Any, *, side: str, out_type: DType) -> Any:
    return tf.searchsorted(x, values, side, tf.dtypes.as_dtype(out_type.name))


def _eigh(tf: Any, x: Any) -> Any:
    return tf.linalg.eigh(x)


def _softmax(log: bool) -> Any:
    def call(tf: Any, x: Any, *, axis: int) -> Any:
        return (tf.nn.log_softmax if log else tf.nn.softmax)(x, axis)

    return call


SPECIAL: dict[str, Any] = {
    "BatchMatMul": lambda tf, a, b, **attrs: tf.linalg.matmul(a, b, **attrs),
    "DynamicStitch": _stitch,
    "Einsum": lambda tf, *inputs, equation: tf.einsum(equation, *inputs),
    "LogSoftmax": _softmax(True),
    "LogicalXor": lambda tf, a, b: tf.math.logical_xor(a, b),
    "MatrixTranspose": lambda tf, x: tf.linalg.matrix_transpose(x),
    "SearchSorted": _search,
    "SelfAdjointEigV2": _eigh,
    "Softmax": _softmax(False),
    "Sort": _sort,
}


def calls_of(tf: Any, entry: OpDef, lacking: Counter[str]) -> Iterator[Call]:
    """The entry's calls with TensorFlow's answers."""
    for case in cases_of(entry):
        for variant in variants(entry, case):
            outputs = call_tensorflow(tf, entry, as_arrays(variant))
            if outputs is None or any(y.dtype.kind in "OSU" for y in outputs):
                lacking[entry.name] += 1
            else:
                yield Call(entry.name, dict(variant.attrs), variant.inputs, tuple(outputs))


def recordable() -> list[OpDef]:
    """The entries that TensorFlow has and the cases can call."""
    return [
        entry
        for name, entry in entries().items()
        if name not in WITHOUT
        and not needs_session(entry)
        and not any(x.dtype.kind == "O" for case in cases_of(entry) for x in case.inputs)
        and cases_of(entry)
    ]


def main() -> int:
    os.environ["TF_ENABLE_ONEDNN_OPTS"] = "0"  # its Conv2D of no images has a wrong shape
    import tensorflow as tf

    calls: list[Call] = []
    lacking: Counter[str] = Counter()
    failed: dict[str, str] = {}
    for entry in recordable():
        try:
            calls += calls_of(tf, entry, lacking)
        except Exception as error:  # one table entry is wrong: tell all of them at once
            failed[entry.name] = f"{type(error).__name__}: {str(error)[:300]}"
    write(calls)
    ops = {call.op for call in calls}
    print(f"{len(calls)} calls of {len(ops)} ops -> {FILE.name}, {FILE.stat().st_size} bytes")
    print("no kernel:", ", ".join(f"{k} {v}" for k, v in lacking.items()))
    print("no counterpart:", ", ".join(WITHOUT))
    for name, why in failed.items():
        print(f"FAILED {name}: {why}")
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())

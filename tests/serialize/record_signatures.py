"""Record the signatures of TensorFlow's ops that graphs are exported to and imported from.

    python -m tests.serialize.record_signatures          # in an environment with TensorFlow

For each op: its inputs (name; fixed dtype, type attribute, number attribute, type list), its
attributes (name, kind, default) and the names of its outputs.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.ops.registered import entries

FILE = Path(__file__).parents[2] / "graphflow" / "serialize" / "signatures.json"
OTHERS = """
AddV2 Assign AssignAdd AssignAddVariableOp AssignSub AssignSubVariableOp AssignVariableOp
BatchMatMulV2 BroadcastGradientArgs Concat FusedBatchNorm FusedBatchNormV2 FusedBatchNormV3
IsVariableInitialized MergeV2Checkpoints ReadVariableOp ReluGrad ResourceScatterAdd
ResourceScatterDiv ResourceScatterMax ResourceScatterMin ResourceScatterMul
ResourceScatterNdAdd ResourceScatterNdSub ResourceScatterNdUpdate ResourceScatterSub
ResourceScatterUpdate RestoreV2 SaveV2 ShardedFilename SigmoidGrad TanhGrad VarHandleOp
VarIsInitializedOp Variable VariableV2
"""


def argument(arg: Any) -> dict[str, Any]:
    row = {"name": arg.name}
    if arg.type:
        row["type"] = arg.type
    for key in ("type_attr", "number_attr", "type_list_attr"):
        if getattr(arg, key):
            row[key] = getattr(arg, key)
    return row


def default_of(value: Any) -> Any:
    kind = value.WhichOneof("value")
    if kind == "list":
        lists = {f.name: list(v) for f, v in value.list.ListFields()}
        return next(iter(lists.values()), []) if "shape" not in lists else None
    if kind == "s":
        return value.s.decode()
    return getattr(value, kind) if kind in ("i", "f", "b", "type") else None


def attribute(definition: Any) -> list[Any]:
    has = definition.HasField("default_value")
    return [definition.type, *([default_of(definition.default_value)] if has else [])]


def signature(definition: Any) -> dict[str, Any]:
    return {
        "inputs": [argument(a) for a in definition.input_arg],
        "outputs": [argument(a) for a in definition.output_arg],
        "attrs": {a.name: attribute(a) for a in definition.attr},
    }


def main() -> None:
    from tensorflow.python.framework import op_def_registry

    names = sorted({*entries(), *OTHERS.split()})
    found = {n: d for n in names if (d := op_def_registry.get(n)) is not None}
    rows = [f"{json.dumps(n)}: {json.dumps(signature(d), separators=(',', ':'))}"
            for n, d in found.items()]  # fmt: skip
    FILE.write_text("{\n" + ",\n".join(rows) + "\n}\n")
    print(f"{len(rows)} ops -> {FILE.name}, {FILE.stat().st_size} bytes")


if __name__ == "__main__":
    main()

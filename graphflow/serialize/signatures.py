"""TensorFlow's signatures of ops, and where ours differ from them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

_FILE: Final = Path(__file__).with_name("signatures.json")

# TensorFlow's input -> our attribute.
FROM_ATTRIBUTE: Final = MappingProxyType(
    {
        "axis": "axis", "dimension": "axis", "dim": "axis", "reduction_indices": "axis",
        "perm": "perm", "split_dim": "axis", "delimiter": "delimiter", "pattern": "pattern",
        "rewrite": "rewrite",
    }
)  # fmt: skip
# Our attribute -> TensorFlow's, the first that its op has.
RENAMED: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "keepdims": ("keep_dims",), "seq_axis": ("seq_dim",), "batch_axis": ("batch_dim",),
        "transpose_a": ("transpose_a", "adj_x"), "transpose_b": ("transpose_b", "adj_y"),
        "axis": ("axis", "squeeze_dims"), "num": ("num", "num_split", "num_partitions"),
        "dims": ("shape",), "dtype": ("DstT", "dtype", "output_dtype"),
        "reserved": ("num_reserved_ids",),
    }
)  # fmt: skip
# Ours -> TensorFlow's, where the inputs are the same.
NAMES: Final = MappingProxyType(
    {
        "AssignAddVariable": "AssignAddVariableOp", "AssignSubVariable": "AssignSubVariableOp",
        "AssignVariable": "AssignVariableOp", "BatchMatMul": "BatchMatMulV2",
        "IsVariableInitialized": "VarIsInitializedOp", "ReadVariable": "ReadVariableOp",
        "VarHandle": "VarHandleOp",
        **{
            f"Scatter{kind}": f"ResourceScatter{kind}"
            for kind in ("Add", "Div", "Max", "Min", "Mul", "Sub", "Update", "NdAdd", "NdSub",
                         "NdUpdate")
        },
    }
)  # fmt: skip


@dataclass(frozen=True)
class Argument:
    """An input or output: of a dtype, or of one that an attribute gives; `number_attr` says how
    many tensors it is, `type_list_attr` of which dtypes."""

    name: str
    type: int = 0
    type_attr: str = ""
    number_attr: str = ""
    type_list_attr: str = ""

    @property
    def several(self) -> bool:
        return bool(self.number_attr or self.type_list_attr)


@dataclass(frozen=True)
class Signature:
    """One of TensorFlow's ops.

    Attributes:
      attrs: name -> its kind, and the default where there is one.
    """

    inputs: tuple[Argument, ...]
    outputs: tuple[Argument, ...]
    attrs: Mapping[str, list[Any]]

    def attribute_of(self, ours: str) -> str | None:
        """TensorFlow's name of an attribute of ours, or None."""
        return next((n for n in RENAMED.get(ours, (ours,)) if n in self.attrs), None)


@cache
def _all() -> dict[str, Any]:
    rows: dict[str, Any] = json.loads(_FILE.read_text())
    return rows


@cache
def signature(name: str) -> Signature | None:
    """The signature of TensorFlow's op of that name; None: it is not known here."""
    row = _all().get(name)
    if row is None:
        return None
    inputs, outputs = [tuple([Argument(**a) for a in row[k]]) for k in ("inputs", "outputs")]
    return Signature(inputs, outputs, row["attrs"])

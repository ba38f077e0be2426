"""The file of recorded values: calls of ops, and what TensorFlow answered.

One compressed array of bytes holds the data of all arrays, an index in JSON says what is where.
Calls carry their inputs, so that a change of an entry's cases does not make them stale.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from graphflow.base.dtypes import DType, as_dtype

FILE = Path(__file__).parent / "tensorflow.npz"
Values = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Call:
    """One call of an op.

    Attributes:
      op: the entry's name.
      attrs: graphflow's attributes.
      inputs: the arrays.
      outputs: TensorFlow's answer.
    """

    op: str
    attrs: dict[str, Any]
    inputs: tuple[Values, ...]
    outputs: tuple[Values, ...]

    def __str__(self) -> str:
        shown = ", ".join(f"{x.dtype}{list(x.shape)}" for x in self.inputs)
        return f"{self.op}({shown}; {self.attrs})"


def write(calls: Iterable[Call], path: Path = FILE) -> None:
    """Keep calls in a file."""
    packer = _Packer()
    rows = [
        [
            call.op,
            {k: _encoded(v) for k, v in call.attrs.items()},
            [packer.add(x) for x in call.inputs],
            [packer.add(y) for y in call.outputs],
        ]
        for call in calls
    ]
    index = np.frombuffer(json.dumps(rows, separators=(",", ":")).encode(), np.uint8)
    np.savez_compressed(path, index=index, data=np.frombuffer(bytes(packer.data), np.uint8))


def read(path: Path = FILE) -> Iterator[Call]:
    """The calls of a file."""
    with np.load(path) as file:
        rows, data = json.loads(file["index"].tobytes()), file["data"].tobytes()
    for op, attrs, inputs, outputs in rows:
        yield Call(
            op,
            {k: _decoded(v) for k, v in attrs.items()},
            tuple(_array(x, data) for x in inputs),
            tuple(_array(y, data) for y in outputs),
        )


class _Packer:
    """Collects the bytes of arrays; equal ones are kept once."""

    def __init__(self) -> None:
        self.data = bytearray()
        self._known: dict[Any, int] = {}

    def add(self, x: Values) -> list[Any]:
        raw = np.ascontiguousarray(x).tobytes()
        key = x.dtype.str, raw
        if key not in self._known:
            self._known[key] = len(self.data)
            self.data += raw
        return [x.dtype.str, list(x.shape), self._known[key]]


def _array(place: list[Any], data: bytes) -> Values:
    kind, shape, start = place
    count = int(np.prod(shape, dtype=int))
    return np.frombuffer(data, kind, count, start).reshape(shape).copy()


def _encoded(value: Any) -> Any:
    if isinstance(value, DType):
        return {"dtype": value.name}
    if isinstance(value, np.generic):
        return value.item()
    return [_encoded(v) for v in value] if isinstance(value, (tuple, list)) else value


def _decoded(value: Any) -> Any:
    if isinstance(value, dict):
        return as_dtype(value["dtype"])
    return tuple(_decoded(v) for v in value) if isinstance(value, list) else value

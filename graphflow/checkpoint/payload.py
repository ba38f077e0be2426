"""Tensors as safetensors bytes; strings, complex numbers and bfloat16, which its NumPy side
lacks, are taken apart."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import numpy as np

from graphflow.base.dtypes import as_dtype
from graphflow.base.errors import DataLossError
from graphflow.checkpoint.manifest import Entry

Array = np.ndarray[Any, Any]
_TEXT, _ENDS = "\0text", "\0ends"  # after the name; no other tensor has such a name


def pack(tensors: Mapping[str, Array]) -> bytes:
    """The bytes of a file of tensors."""
    from safetensors.numpy import save

    parts: dict[str, Array] = {}
    for name, array in tensors.items():
        parts |= _apart(name, array)
    return save(parts)


def unpack(data: bytes, entries: Mapping[str, Entry]) -> dict[str, Array]:
    """The tensors of a file.

    Raises:
      DataLossError: one is missing, or of another shape or dtype than the index says.
    """
    from safetensors.numpy import load

    parts = load(data)
    result = {}
    for name, entry in entries.items():
        try:
            array = _together(name, entry, parts)
        except KeyError:
            raise DataLossError(None, None, f"the checkpoint lacks tensor {name!r}") from None
        if array.shape != entry.shape or as_dtype(array.dtype).name != entry.dtype:
            raise DataLossError(
                None, None, f"tensor {name!r} is {array.dtype}{array.shape}, not as the index says"
            )
        result[name] = array
    return result


def entry_of(array: Array, file: int) -> Entry:
    """What the index says of a tensor."""
    return Entry(as_dtype(array.dtype).name, tuple(array.shape), file)


def _apart(name: str, array: Array) -> dict[str, Array]:
    array = np.ascontiguousarray(array).reshape(array.shape)
    if array.dtype == object:
        items = [bytes(item) for item in array.ravel()]
        ends = np.cumsum([len(item) for item in items], dtype=np.int64)
        text = np.frombuffer(b"".join(items), np.uint8)
        return {name + _TEXT: text, name + _ENDS: ends}
    if array.dtype.kind == "c":
        real = np.float32 if array.dtype == np.complex64 else np.float64
        return {name: np.stack([array.real, array.imag], -1).astype(real)}
    if array.dtype.kind == "V":  # bfloat16: it can be written, but not read
        return {name: array.view(np.uint16)}
    return {name: array}


def _together(name: str, entry: Entry, parts: Mapping[str, Array]) -> Array:
    if entry.dtype == "string":
        text = parts[name + _TEXT].tobytes()
        ends = [0, *parts[name + _ENDS].tolist()]
        array = np.empty(len(ends) - 1, object)
        array[:] = [text[a:b] for a, b in pairwise(ends)]
        return array.reshape(entry.shape)
    array = parts[name]
    if entry.dtype.startswith("complex"):
        return (array[..., 0] + 1j * array[..., 1]).astype(entry.dtype)
    return array.view(as_dtype("bfloat16").np) if entry.dtype == "bfloat16" else array

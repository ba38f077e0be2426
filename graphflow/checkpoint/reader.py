"""Read checkpoints; everything is checked against the index before it is believed."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

from graphflow.base.dtypes import DType, as_dtype
from graphflow.base.errors import DataLossError, NotFoundError
from graphflow.checkpoint.manifest import Manifest, Payload, digest_of, index_of
from graphflow.checkpoint.payload import Array, unpack


def exists(prefix: str) -> bool:
    """Is there a checkpoint of that name?"""
    return os.path.isfile(index_of(prefix))


def read(prefix: str, names: Iterable[str] | None = None) -> dict[str, Array]:
    """Tensors of a checkpoint, all or those named.

    Raises:
      NotFoundError: there is no such checkpoint, or no such tensor in it.
      DataLossError: a file is missing or was changed.
    """
    return Reader(prefix).read(names)


class Reader:
    """One checkpoint.

    Attributes:
      prefix: its name.
      manifest: what its index says.
    """

    def __init__(self, prefix: str):
        """Raises:
        NotFoundError: there is no such checkpoint.
        DataLossError: its index is corrupt.
        """
        self.prefix = prefix
        path = index_of(prefix)
        try:
            with open(path, "rb") as file:
                data = file.read()
        except FileNotFoundError:
            raise NotFoundError(None, None, f"there is no checkpoint {prefix}") from None
        self.manifest = Manifest.from_bytes(data, path)

    def read(self, names: Iterable[str] | None = None) -> dict[str, Array]:
        """Tensors by name; see `read`."""
        tensors = self.manifest.tensors
        chosen = list(tensors) if names is None else list(names)
        for name in chosen:
            if name not in tensors:
                raise NotFoundError(
                    None, None, f"tensor {name!r} is not in the checkpoint {self.prefix}"
                )
        result: dict[str, Array] = {}
        for i, payload in enumerate(self.manifest.files):
            here = {name: tensors[name] for name in chosen if tensors[name].file == i}
            if here:
                result |= unpack(self._bytes(payload), here)
        return {name: result[name] for name in chosen}

    def _bytes(self, payload: Payload) -> bytes:
        path = os.path.join(os.path.dirname(self.prefix), payload.name)
        try:
            with open(path, "rb") as file:
                data = file.read()
        except FileNotFoundError:
            raise DataLossError(None, None, f"the checkpoint lacks its file {path}") from None
        if len(data) != payload.size or digest_of(data) != payload.digest:
            raise DataLossError(None, None, f"{path} was changed since it was written")
        return data

    # ---- TensorFlow's CheckpointReader

    def get_tensor(self, name: str) -> Any:
        """Value of a tensor."""
        return self.read([name])[name]

    def has_tensor(self, name: str) -> bool:
        return name in self.manifest.tensors

    def get_variable_to_shape_map(self) -> dict[str, list[int]]:
        return {name: list(entry.shape) for name, entry in self.manifest.tensors.items()}

    def get_variable_to_dtype_map(self) -> dict[str, DType]:
        return {name: as_dtype(entry.dtype) for name, entry in self.manifest.tensors.items()}

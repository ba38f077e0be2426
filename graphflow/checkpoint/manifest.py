"""The index of a checkpoint: which tensor is where, and what the files must contain.

It is JSON at "<prefix>.index".  A checkpoint exists from the moment its index has that name.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Any

from graphflow.base.errors import DataLossError

FORMAT = 1


@dataclass(frozen=True, slots=True)
class Entry:
    """One tensor.

    Attributes:
      dtype: its dtype's name.
      shape: its shape.
      file: index of the payload that holds it.
    """

    dtype: str
    shape: tuple[int, ...]
    file: int


@dataclass(frozen=True, slots=True)
class Payload:
    """One file of tensors.

    Attributes:
      name: its name, in the folder of the index.
      size: its length in bytes.
      digest: BLAKE2b of its content, 16 bytes in hexadecimal.
    """

    name: str
    size: int
    digest: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """What an index says.

    Attributes:
      tensors: name -> where and what it is.
      files: the payloads.
      metadata: what the writer had to add: plain data.
      format: version of this format.
    """

    tensors: dict[str, Entry]
    files: tuple[Payload, ...]
    metadata: dict[str, Any] = field(default_factory=dict)
    format: int = FORMAT

    def to_bytes(self) -> bytes:
        """JSON, with a digest of itself in the last line."""
        body = json.dumps(asdict(self), indent=1, sort_keys=True).encode()
        return body + b"\n" + digest_of(body).encode() + b"\n"

    @staticmethod
    def from_bytes(data: bytes, path: str) -> Manifest:
        """Raises:
        DataLossError: it is not what was written.
        """
        body, _, digest = data.rstrip(b"\n").rpartition(b"\n")
        if digest_of(body).encode() != digest:
            raise DataLossError(None, None, f"the index {path} is corrupt")
        raw = json.loads(body)
        if raw["format"] != FORMAT:
            raise DataLossError(
                None, None, f"{path} has format {raw['format']}, this version reads {FORMAT}"
            )
        tensors = {
            name: Entry(e["dtype"], tuple(e["shape"]), e["file"])
            for name, e in raw["tensors"].items()
        }
        files = tuple(Payload(**f) for f in raw["files"])
        return Manifest(tensors, files, raw["metadata"])


def digest_of(data: bytes | memoryview) -> str:
    """BLAKE2b, 16 bytes in hexadecimal."""
    import hashlib

    return hashlib.blake2b(data, digest_size=16).hexdigest()


def index_of(prefix: str) -> str:
    """Path of the index."""
    return f"{prefix}.index"

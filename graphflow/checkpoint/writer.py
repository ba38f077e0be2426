"""Write a checkpoint: payloads under new names, then the index, then the old payloads go.

A crash between any two steps leaves what was there before: until the index is renamed, the old
one stands and its payloads are untouched; from then on the new one does.
"""

from __future__ import annotations

import glob
import os
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from graphflow.checkpoint import files
from graphflow.checkpoint.manifest import Entry, Manifest, Payload, digest_of, index_of
from graphflow.checkpoint.payload import Array, entry_of, pack

_SHARD = 1 << 30  # bytes per payload, unless one tensor alone is larger


def write(
    prefix: str,
    tensors: Mapping[str, Array],
    *,
    metadata: Mapping[str, Any] | None = None,
    shard_bytes: int = _SHARD,
) -> Manifest:
    """Write tensors as the checkpoint called `prefix`, in place of one of that name.

    Args:
      prefix: path and beginning of the names of its files; its folder is made where missing.
      tensors: name -> array.
      metadata: plain data to keep with them.
      shard_bytes: size from which on a further payload is begun.

    Raises:
      ResourceExhaustedError, PermissionDeniedError, UnknownError: the disk fails; what was there
        before still is.
    """
    folder = os.path.dirname(prefix)
    with files.typed_errors(prefix):
        os.makedirs(folder or ".", exist_ok=True)
    shards = _shards(tensors, shard_bytes)
    token = uuid.uuid4().hex[:8]
    entries: dict[str, Entry] = {}
    payloads: list[Payload] = []
    index = b""
    try:
        for i, names in enumerate(shards):
            data = pack({name: tensors[name] for name in names})
            path = f"{prefix}.data-{i:05d}-of-{len(shards):05d}.{token}"
            payloads.append(Payload(os.path.basename(path), len(data), digest_of(data)))
            files.write_file(path, [data])
            entries |= {name: entry_of(tensors[name], i) for name in names}
        manifest = Manifest(entries, tuple(payloads), dict(metadata or {}))
        index = manifest.to_bytes()
        files.write_file(index_of(prefix), [index])
    except BaseException:
        if not _has(index_of(prefix), index):  # else it fails after the new one has its name
            for payload in payloads:
                files.remove_file(os.path.join(folder, payload.name))
        raise
    _remove_others(prefix, {payload.name for payload in payloads})
    return manifest


def _has(path: str, content: bytes) -> bool:
    """Has the file that content?"""
    try:
        with open(path, "rb") as file:
            return file.read() == content
    except OSError:
        return False


def delete(prefix: str) -> None:
    """Remove a checkpoint: the index first, so that no index without payloads is left."""
    files.remove_file(index_of(prefix))
    _remove_others(prefix, set())


def _remove_others(prefix: str, kept: set[str]) -> None:
    """Remove payloads that the index does not name: of an earlier save, or of one that died."""
    for path in glob.glob(f"{glob.escape(prefix)}.data-*"):
        if os.path.basename(path) not in kept:
            files.remove_file(path)


def _shards(tensors: Mapping[str, Array], limit: int) -> Sequence[Sequence[str]]:
    """Names of the tensors of each payload, in the order of their names."""
    shards: list[list[str]] = [[]]
    size = 0
    for name in sorted(tensors):
        if shards[-1] and size + tensors[name].nbytes > limit:
            shards.append([])
            size = 0
        shards[-1].append(name)
        size += tensors[name].nbytes
    return shards

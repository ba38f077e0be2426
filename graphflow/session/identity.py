"""What tells whether two processes compute the same: the operations behind a run, as a hash."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from graphflow.build import Graph, Operation, Tensor
from graphflow.build.body import Body
from graphflow.rewrite.prune import prune

_ADDRESS = re.compile(r" at 0x[0-9a-f]+")  # in what a function is printed as


def identity(
    graph: Graph, tensors: Sequence[Tensor], operations: Sequence[Operation], fed: Iterable[Tensor]
) -> str:
    """A hash of what a run executes: the same in each process that builds the same.

    It holds names, types, inputs and attributes of operations, and not their devices, as what is
    computed does not depend on these.  Of a Python function it holds the name alone.

    Args:
      graph: the graph.
      tensors, operations: what is fetched, and what is run.
      fed: tensors whose values are handed in.
    """
    digest = hashlib.blake2b(digest_size=16)
    _add_operations(digest, prune(graph, tensors, operations, fed).order)
    return digest.hexdigest()


def hash_of(arrays: Sequence[Any]) -> str:
    """A hash of fed values: dtypes, shapes and content."""
    digest = hashlib.blake2b(digest_size=16)
    for value in arrays:
        _add_array(digest, np.asarray(value))
    return digest.hexdigest()


def _add_array(digest: Any, array: np.ndarray[Any, Any]) -> None:
    digest.update(f"{array.dtype.str}{array.shape}".encode())
    if array.dtype == object:
        for item in array.ravel():
            data = item if isinstance(item, bytes) else str(item).encode()
            digest.update(len(data).to_bytes(8, "little") + data)
    elif array.size:
        digest.update(np.ascontiguousarray(array).view(np.uint8).data)


def _add_operations(digest: Any, operations: Iterable[Operation]) -> None:
    for operation in operations:
        inputs = [t.name for t in operation.inputs]
        before = [o.name for o in operation.control_inputs]
        digest.update(f"{operation.name} {operation.type} {inputs} {before}\n".encode())
        for name, value in sorted(operation.attrs.items()):
            digest.update(name.encode())
            _add(digest, value)


def _add(digest: Any, value: Any) -> None:
    """Add an attribute of an operation."""
    digest.update(type(value).__name__.encode())
    if isinstance(value, np.ndarray):
        _add_array(digest, value)
    elif isinstance(value, Body):
        _add_operations(digest, value.operations)
        digest.update(repr([t.name for t in value.outputs]).encode())
    elif isinstance(value, Mapping):
        for key, each in value.items():
            _add(digest, key)
            _add(digest, each)
    elif isinstance(value, (list, tuple)):
        for each in value:
            _add(digest, each)
    elif isinstance(value, (set, frozenset)):
        digest.update(repr(sorted(map(repr, value))).encode())
    else:
        digest.update(_ADDRESS.sub("", repr(value)).encode())

"""A file to which records are appended.  A crash may cut the last one short; it does not count."""

from __future__ import annotations

import json
import os
import struct
from typing import Any

from graphflow.base.errors import FailedPreconditionError
from graphflow.checkpoint import files
from graphflow.checkpoint.manifest import Entry, digest_of
from graphflow.checkpoint.payload import Array, entry_of, pack, unpack
from graphflow.checkpoint.tree import flatten, unflatten

_FRAME = struct.Struct("<II32s")  # length of the JSON, length of the tensors, digest of both


class RecordFile:
    """Nested values, one after the other; the first record says what they are.

    Attributes:
      records: those that were there when it was opened, without the first.
    """

    def __init__(self, path: str, holds: str, form: int):
        """Read it, if there is one.

        Args:
          path: of the file.
          holds: what the records are.
          form: number of their form.  What no longer reads those of before needs another one.

        Raises:
          FailedPreconditionError: it holds something else, or in another form.
          OpError: the disk fails.
        """
        self.path = path
        self.records: list[Any] = []
        self._first = [holds, form]
        self._file: Any = None
        self._end = 0
        with files.typed_errors(path, "read", ""):
            try:
                with open(path, "rb") as file:
                    data = file.read()
            except FileNotFoundError:
                data = b""
        while (found := _parsed(data, self._end)) is not None:
            value, end = found
            if self._end:
                self.records.append(value)
            elif value != self._first:  # before the rest, of which this version may not know a kind
                raise FailedPreconditionError(None, None, self._foreign(value))
            self._end = end

    def _foreign(self, first: Any) -> str:
        known = len(first) == 2 and isinstance(first[1], int)
        was = f"{first[0]}, form {first[1]}" if known else "records without a form"
        return (
            f"{self.path} holds {was}, and this version of graphflow reads "
            f"{self._first[0]}, form {self._first[1]}: go on with the version that has written it, "
            "or take another folder"
        )

    def open(self) -> None:
        """Get ready to append, until `close`; makes the file where there is none.

        Raises:
          OpError: the disk fails.
        """
        with files.typed_errors(self.path, then=""):
            self._file = open(self.path, "ab", buffering=0)  # noqa: SIM115  (see `close`)
            os.ftruncate(self._file.fileno(), self._end)
        if not self._end:
            try:
                self.append(self._first)
            except BaseException:
                self.close()
                raise

    def append(self, value: Any) -> None:
        """Add a record; it is safe only after the next `sync`.

        Raises:
          OpError: the disk fails, or the value cannot be saved.
        """
        tensors: dict[str, Array] = {}
        plain = flatten(value, tensors)
        entries = {name: entry_of(array, 0) for name, array in tensors.items()}
        index = {name: [entry.dtype, entry.shape] for name, entry in entries.items()}
        head = json.dumps([plain, index]).encode()
        body = pack(tensors) if tensors else b""
        frame = _FRAME.pack(len(head), len(body), digest_of(head + body).encode())
        with files.typed_errors(self.path, then=""):
            files.DISK.write(self._file, frame + head + body)

    def sync(self) -> None:
        """Return when all records are on the disk."""
        with files.typed_errors(self.path, then=""):
            files.DISK.sync(self._file)

    def close(self) -> None:
        if self._file is not None:
            self._file.close()


def _parsed(data: bytes, start: int) -> tuple[Any, int] | None:
    """The record that begins there, and its end; None where there is no whole one."""
    if len(data) - start < _FRAME.size:
        return None
    first, second, digest = _FRAME.unpack_from(data, start)
    middle = start + _FRAME.size + first
    end = middle + second
    head, body = data[start + _FRAME.size : middle], data[middle:end]
    if end > len(data) or digest_of(head + body).encode() != digest:
        return None
    plain, index = json.loads(head)
    entries = {name: Entry(dtype, tuple(shape), 0) for name, (dtype, shape) in index.items()}
    return unflatten(plain, unpack(body, entries) if entries else {}), end

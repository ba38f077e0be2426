"""Files that survive a crash: content first, then the name, then the folder.

Each step that a crash could interrupt is one call of `DISK`; tests put a disk in its place that
dies at the n-th.
"""

from __future__ import annotations

import contextlib
import errno
import os
import threading
from collections.abc import Iterable, Iterator
from typing import Any

from graphflow.base.errors import PermissionDeniedError, ResourceExhaustedError, UnknownError


class Disk:
    """The operations that change a disk."""

    def create(self, path: str) -> Any:
        return open(path, "wb", buffering=0)

    def write(self, file: Any, data: bytes | memoryview) -> None:
        view = memoryview(data).cast("B")
        while len(view):
            view = view[file.write(view) :]

    def sync(self, file: Any) -> None:
        os.fsync(file.fileno())

    def rename(self, source: str, target: str) -> None:
        os.replace(source, target)

    def sync_folder(self, folder: str) -> None:
        handle = os.open(folder or ".", os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)

    def remove(self, path: str) -> None:
        os.remove(path)


DISK = Disk()


def write_file(path: str, parts: Iterable[bytes | memoryview]) -> None:
    """Write a file under its name only once its content is on the disk.

    Raises:
      ResourceExhaustedError: the disk is full.
      PermissionDeniedError: the folder may not be written.
      UnknownError: the disk fails otherwise.
    """
    temporary = f"{path}.tmp{os.getpid()}-{threading.get_ident()}"
    with typed_errors(path):
        try:
            with DISK.create(temporary) as file:
                for part in parts:
                    DISK.write(file, part)
                DISK.sync(file)
            DISK.rename(temporary, path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.remove(temporary)
            raise
        DISK.sync_folder(os.path.dirname(path))


def remove_file(path: str) -> None:
    """Remove a file, if it is there."""
    with contextlib.suppress(FileNotFoundError):
        DISK.remove(path)


@contextlib.contextmanager
def typed_errors(
    path: str, failed: str = "write", then: str = "; the checkpoint before it stands"
) -> Iterator[None]:
    """Errors of the operating system become those of runs.

    Args:
      failed: what cannot be done with the path.
      then: how things stand.
    """
    try:
        yield
    except OSError as error:
        kinds = {
            errno.ENOSPC: ResourceExhaustedError,
            errno.EDQUOT: ResourceExhaustedError,
            errno.EFBIG: ResourceExhaustedError,
            errno.EACCES: PermissionDeniedError,
            errno.EPERM: PermissionDeniedError,
            errno.EROFS: PermissionDeniedError,
        }
        kind = kinds.get(error.errno or 0, UnknownError)
        message = f"cannot {failed} {path}: {error.strerror or error}{then}"
        raise kind(None, None, message) from error

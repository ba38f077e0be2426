"""Object code on disk: keyed by content, checked, bounded; anything wrong is built again."""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
import time
from pathlib import Path

_SUFFIX = ".gfo"
_UNFINISHED = ".new"
_ABANDONED = 3600.0  # seconds after which an unfinished file is nobody's
_DIGEST = 32
_LIMIT = 256 << 20  # bytes


class ObjectCache:
    """Files of a folder, each a SHA-256 sum and then the object code.

    Many processes may share it: a file appears by renaming, whole, and a reader that finds it
    cut or changed takes it for missing.
    """

    def __init__(self, folder: Path, limit: int = _LIMIT):
        self.folder = folder
        self.limit = limit

    def get(self, key: str) -> bytes | None:
        """The code of that key, or None."""
        path = self._path(key)
        try:
            data = path.read_bytes()
        except OSError:
            return None
        code = data[_DIGEST:]
        if hashlib.sha256(key.encode() + code).digest() != data[:_DIGEST]:
            with contextlib.suppress(OSError):
                path.unlink()
            return None
        with contextlib.suppress(OSError):
            os.utime(path)
        return code

    def put(self, key: str, code: bytes) -> None:
        """Keep code; a folder that cannot be written to costs a compilation, no more."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(_UNFINISHED, dir=self.folder)
        except OSError:
            return
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(hashlib.sha256(key.encode() + code).digest() + code)
            os.replace(name, self._path(key))
        except OSError:  # no room, for instance
            with contextlib.suppress(OSError):
                os.unlink(name)
        self._trim()

    def _path(self, key: str) -> Path:
        return self.folder / (key + _SUFFIX)

    def _trim(self) -> None:
        """Delete what was used longest ago, until the rest fits, and what a killed process left."""
        for path in self.folder.glob("*" + _UNFINISHED):
            with contextlib.suppress(OSError):
                if path.stat().st_mtime < time.time() - _ABANDONED:
                    path.unlink()
        found = []
        for path in self.folder.glob("*" + _SUFFIX):
            with contextlib.suppress(OSError):
                state = path.stat()
                found.append((state.st_mtime, state.st_size, path))
        total = sum(size for _, size, _ in found)
        for _, size, path in sorted(found):
            if total <= self.limit:
                break
            with contextlib.suppress(OSError):
                path.unlink()
            total -= size


def default_cache() -> ObjectCache:
    """The user's: $XDG_CACHE_HOME/graphflow, or ~/.cache/graphflow."""
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return ObjectCache(Path(base) / "graphflow" / "objects")

"""`tf.gfile`: files and folders of this machine."""

from __future__ import annotations

import glob
import os
import shutil
from collections.abc import Iterator
from typing import Any

from graphflow.base.errors import AlreadyExistsError, NotFoundError, OpError, PermissionDeniedError


class GFile:
    """A file; text in and out for modes without "b", as in Python.

    Raises:
      NotFoundError: it does not exist.
    """

    def __init__(self, name: Any, mode: str = "r"):
        self.name = os.fspath(name)
        self.mode = mode
        self._file: Any = None

    def _opened(self) -> Any:
        if self._file is None:
            encoding = None if "b" in self.mode else "utf-8"
            try:
                self._file = open(self.name, self.mode, encoding=encoding)  # noqa: SIM115
            except OSError as error:
                raise _typed(error, self.name) from error
        return self._file

    def read(self, n: int = -1) -> Any:
        return self._opened().read(n)

    def readline(self) -> Any:
        return self._opened().readline()

    def readlines(self) -> list[Any]:
        return list(self._opened().readlines())

    def write(self, file_content: Any) -> None:
        self._opened().write(file_content)

    def seek(self, offset: int, whence: int = 0) -> None:
        self._opened().seek(offset, whence)

    def tell(self) -> int:
        return int(self._opened().tell())

    def size(self) -> int:
        return Stat(self.name).length

    def flush(self) -> None:
        self._opened().flush()

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def __iter__(self) -> Iterator[Any]:
        return iter(self._opened())

    def __enter__(self) -> GFile:
        self._opened()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


FastGFile = Open = GFile


class Stat:
    """What is known about a file: `length` in bytes, `mtime_nsec`, `is_directory`."""

    def __init__(self, filename: Any):
        try:
            found = os.stat(filename)
        except OSError as error:
            raise _typed(error, os.fspath(filename)) from error
        self.length = found.st_size
        self.mtime_nsec = found.st_mtime_ns
        self.is_directory = os.path.isdir(filename)


def Exists(filename: Any) -> bool:
    """Is there a file or folder of that name?"""
    return os.path.exists(filename)


def IsDirectory(dirname: Any) -> bool:
    """Is there a folder of that name?"""
    return os.path.isdir(dirname)


def Glob(filename: Any) -> list[str]:
    """Names that match a pattern, or one of several, sorted."""
    patterns = [filename] if isinstance(filename, (str, os.PathLike)) else list(filename)
    return sorted({name for p in patterns for name in glob.glob(os.fspath(p))})


def ListDirectory(dirname: Any) -> list[str]:
    """Names of what is in a folder."""
    try:
        return sorted(os.listdir(dirname))
    except OSError as error:
        raise _typed(error, os.fspath(dirname)) from error


def MakeDirs(dirname: Any) -> None:
    """Make a folder and those above it, where they are missing."""
    try:
        os.makedirs(dirname, exist_ok=True)
    except OSError as error:
        raise _typed(error, os.fspath(dirname)) from error


def MkDir(dirname: Any) -> None:
    """Make a folder in one that is there."""
    try:
        os.mkdir(dirname)
    except FileExistsError:
        return
    except OSError as error:
        raise _typed(error, os.fspath(dirname)) from error


def Remove(filename: Any) -> None:
    """Delete a file."""
    try:
        os.remove(filename)
    except OSError as error:
        raise _typed(error, os.fspath(filename)) from error


def DeleteRecursively(dirname: Any) -> None:
    """Delete a folder and all that is in it."""
    try:
        shutil.rmtree(dirname)
    except OSError as error:
        raise _typed(error, os.fspath(dirname)) from error


def Copy(oldpath: Any, newpath: Any, overwrite: bool = False) -> None:
    """Copy a file.

    Raises:
      AlreadyExistsError: the new one exists and may not be replaced.
    """
    if not overwrite and os.path.exists(newpath):
        raise AlreadyExistsError(None, None, f"{newpath} exists already")
    try:
        shutil.copyfile(oldpath, newpath)
    except OSError as error:
        raise _typed(error, os.fspath(oldpath)) from error


def Rename(oldname: Any, newname: Any, overwrite: bool = False) -> None:
    """Give a file another name.

    Raises:
      AlreadyExistsError: that name is taken and may not be replaced.
    """
    if not overwrite and os.path.exists(newname):
        raise AlreadyExistsError(None, None, f"{newname} exists already")
    try:
        os.replace(oldname, newname)
    except OSError as error:
        raise _typed(error, os.fspath(oldname)) from error


def Walk(top: Any, in_order: bool = True) -> Iterator[tuple[str, list[str], list[str]]]:
    """Folders below one, as `os.walk` gives them."""
    return os.walk(top, topdown=in_order)


def _typed(error: OSError, name: str) -> OpError:
    kinds: dict[type[OSError], type[OpError]] = {
        FileNotFoundError: NotFoundError,
        PermissionError: PermissionDeniedError,
        FileExistsError: AlreadyExistsError,
    }
    kind = kinds.get(type(error))
    if kind is None:
        from graphflow.base.errors import UnknownError

        kind = UnknownError
    return kind(None, None, f"{name}: {error.strerror or error}")

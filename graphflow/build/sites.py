"""The user's line that built an operation or called `run`."""

from __future__ import annotations

import linecache
import os
import sys
from types import FrameType
from typing import NamedTuple

_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
_CLI = os.path.join(_PACKAGE, "cli") + os.sep  # programs that ship inside are users, too


class Site(NamedTuple):
    """A line of a program.  `str()` reads the source text, when it is asked for."""

    file: str
    line: int
    function: str

    @property
    def text(self) -> str:
        return linecache.getline(self.file, self.line).strip()

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}"
        return f"{where}: {self.text}" if self.text else where


def tell_line(error: BaseException, what: str) -> None:
    """Add to an error which line of the program it is about."""
    error.add_note(f"in {what}\n  built at {user_site()}")


def user_site() -> Site:
    """First frame outside the package: 0.4 us by hand, where a traceback costs 19 and more."""
    frame: FrameType | None = sys._getframe(1)
    last = frame
    while frame is not None:
        file = frame.f_code.co_filename
        if not file.startswith(_PACKAGE) or file.startswith(_CLI):
            return Site(file, frame.f_lineno, frame.f_code.co_name)
        last, frame = frame, frame.f_back
    assert last is not None
    return Site(last.f_code.co_filename, last.f_lineno, last.f_code.co_name)

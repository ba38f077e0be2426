"""How work grows with its input, in calls of Python functions: a number that no clock disturbs."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any


def calls(work: Callable[[], Any]) -> int:
    """Calls of Python and C functions that the work makes in this thread."""
    count = 0

    def note(_frame: Any, event: str, _argument: Any) -> None:
        nonlocal count
        if event in ("call", "c_call"):
            count += 1

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        work()
    finally:
        sys.setprofile(before)
    return count


def assert_linear(work_of: Callable[[int], Callable[[], Any]], size: int) -> None:
    """Twice the input is at most about twice the work."""
    work_of(size // 10)()  # whatever is done once, such as imports
    small, large = calls(work_of(size)), calls(work_of(2 * size))
    assert large <= 2.1 * small, f"{small} calls for {size}, {large} for {2 * size}"

"""What the devices of this process are doing right now, for reports of stalls.

It is read off the frames of their threads: running programs note nothing down, and so are not
slowed.
"""

from __future__ import annotations

import sys
from types import FrameType
from typing import Any, NamedTuple

from graphflow.execute.program import Program

_CODE = Program.execute.__code__


class Doing(NamedTuple):
    """A step that is being executed.

    Attributes:
      device: where.
      name, op: of the operation.
      where: the user's lines that built it.
    """

    device: str
    name: str
    op: str
    where: str

    def __str__(self) -> str:
        verb = {"Recv": "waits for", "Send": "hands over"}.get(self.op, f"is in {self.op}")
        return f"{self.device} {verb} {self.name!r}, built at {self.where}"


class Whereabouts(NamedTuple):
    """What a process is doing: a sign of life that tells more."""

    steps: tuple[Doing, ...]


def whereabouts() -> Whereabouts:
    """The steps that programs of this process are executing, by device.

    Of an operation with bodies it is the one inside.
    """
    found: dict[Any, Doing] = {}
    for thread, frame in sys._current_frames().items():
        doing = _innermost(frame)
        if doing is not None:
            found[thread] = doing
    return Whereabouts(tuple(sorted(found.values())))


def _innermost(frame: FrameType | None) -> Doing | None:
    while frame is not None:
        if frame.f_code is _CODE:
            return _step(frame.f_locals)
        frame = frame.f_back
    return None


def _step(names: Any) -> Doing | None:
    """From the local names of `Program.execute`."""
    program, call, calls = names.get("self"), names.get("call"), names.get("calls")
    if program is None or call is None or calls is None:
        return None  # it has not begun, or is over
    for step, each in zip(program.plan.steps, calls, strict=False):
        if each is call:
            return Doing(program.device.name, step.name, step.opdef.name, step.where)
    return None

"""A gate at which workers wait for the next step of synchronous training.

TensorFlow 1 hands out tokens through a queue: a fast worker may take the token of a slow one,
and then counts twice in a step.  A gate lets each worker through once per step, whichever was
first, and a worker that missed steps goes on with the newest.
"""

from __future__ import annotations

import threading
from typing import Any

import numpy as np

from graphflow.base import dtypes
from graphflow.base.errors import CancelledError
from graphflow.base.state import StateKey
from graphflow.build import Tensor, op
from graphflow.build.opdef import Array, Handle, Index, Specs
from graphflow.ops.rules import nothing

_POLL = 0.05  # seconds between looks at whether the run was cancelled; an opening wakes at once


class Gate:
    """Attributes:
    step: the newest step that workers may go on to.
    """

    def __init__(self, name: str):
        self.name = name
        self.step = 0
        self._ahead = 0  # how many may pass without a new step
        self._changed = threading.Condition()

    def open(self, step: int) -> None:
        """Let workers go on to a step."""
        with self._changed:
            self.step = step
            self._changed.notify_all()

    def admit(self, count: int) -> None:
        """Let so many through that would have to wait."""
        with self._changed:
            self._ahead += count
            self._changed.notify_all()

    def wait(self, step: int, cancelled: threading.Event) -> int:
        """Wait until there is a newer step; that one.

        Raises:
          CancelledError: the run was cancelled.
        """
        with self._changed:
            while self.step <= step:
                if self._ahead:
                    self._ahead -= 1
                    break
                if cancelled.is_set():
                    raise CancelledError(
                        None, None, f"the run was cancelled while it waited for {self.name!r}"
                    )
                self._changed.wait(_POLL)
            return self.step


@op("GateHandle", infer=lambda **_: [((), dtypes.resource)], grad=None, effect="state")
def gate_handle(xp: Any, ctx: Any, *, shared_name: Any) -> StateKey:
    """The name of a gate, which is made where there is none."""
    key = StateKey("", f"gate {shared_name}")
    ctx.resource(key, lambda: Gate(shared_name))
    return key


def _found(ctx: Any, handle: StateKey) -> Gate:
    gate: Gate = ctx.resource(handle, lambda: Gate(handle.name))
    return gate


def _step(handle: Tensor, step: Tensor) -> Specs:
    return [((), dtypes.int64)]


@op("GateWait", infer=_step, grad=None, effect="input")
def gate_wait(xp: Any, ctx: Any, handle: Handle, step: Index) -> Array:
    """Wait until there is a newer step than this one; the newest."""
    gate = _found(ctx, handle)
    return np.asarray(ctx.input(lambda: gate.wait(int(step), ctx.cancelled)), np.int64)


@op("GateOpen", infer=nothing, grad=None, effect="output")
def gate_open(xp: Any, ctx: Any, handle: Handle, step: Index) -> tuple[()]:
    """Let workers go on to a step, when the run commits."""
    gate, number = _found(ctx, handle), int(step)
    ctx.output(lambda: gate.open(number))
    return ()


@op("GateAdmit", infer=nothing, grad=None, effect="output")
def gate_admit(xp: Any, ctx: Any, handle: Handle, count: Index) -> tuple[()]:
    """Let so many through that would have to wait, when the run commits."""
    gate, number = _found(ctx, handle), int(count)
    ctx.output(lambda: gate.admit(number))
    return ()

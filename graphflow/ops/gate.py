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
from graphflow.base.state import StateKey, object_of
from graphflow.base.waiting import waits
from graphflow.build import Tensor, op
from graphflow.build.opdef import Array, Handle, Index, Specs
from graphflow.ops.rules import nothing

_POLL = 0.05  # seconds between looks at whether the run was cancelled; an opening wakes at once


class Gate:
    """Attributes:
    step: the newest step that workers may go on to.
    decisions: what logs to which one they go on, or decides so by a log, see
      `distribute.decisions`; None: nobody does.
    """

    def __init__(self, name: str):
        self.name = name
        self.step = 0
        self.decisions: Any = None
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

    def wait(self, step: int, rank: int, cancelled: threading.Event) -> int:
        """Have the worker of that number wait until there is a newer step; that one.

        Raises:
          CancelledError: the run was cancelled.
        """
        with self._changed:
            wanted = None if self.decisions is None else self.decisions.step(self.name, rank)
            while not self._lets_pass(step, wanted):
                if cancelled.is_set():
                    raise CancelledError(
                        None, None, f"the run was cancelled while it waited for {self.name!r}"
                    )
                waits()
                self._changed.wait(_POLL)
            reached = self.step if wanted is None else wanted
            if self.decisions is not None:
                self.decisions.passed(self.name, rank, reached)
            return reached

    def _lets_pass(self, step: int, wanted: int | None) -> bool:
        if wanted is not None:
            return self.step >= wanted
        if self.step <= step and self._ahead:
            self._ahead -= 1
            return True
        return self.step > step


@op("GateHandle", infer=lambda **_: [((), dtypes.resource)], grad=None, effect="state")
def gate_handle(xp: Any, ctx: Any, *, container: Any = "", shared_name: Any) -> StateKey:
    """The name of a gate, which is made where there is none."""
    key, name = object_of("gate", container, shared_name)
    ctx.resource(key, lambda: Gate(name))
    return key


def _found(ctx: Any, handle: StateKey) -> Gate:
    gate: Gate = ctx.resource(handle, lambda: Gate(handle.name))
    return gate


def _step(handle: Tensor, step: Tensor, *, rank: Any) -> Specs:
    return [((), dtypes.int64)]


@op("GateWait", infer=_step, grad=None, effect="input")
def gate_wait(xp: Any, ctx: Any, handle: Handle, step: Index, *, rank: Any) -> Array:
    """Have the worker of that number wait until there is a newer step than this one; the
    newest."""
    gate = _found(ctx, handle)
    return np.asarray(ctx.input(lambda: gate.wait(int(step), rank, ctx.cancelled)), np.int64)


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

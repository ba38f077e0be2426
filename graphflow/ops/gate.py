"""A gate at which workers wait for the next step of synchronous training.

TensorFlow 1 hands out tokens through a queue: a fast worker may take the token of a slow one,
and then counts twice in a step.  A gate lets each worker through once per step, whichever was
first, and a worker that missed steps goes on with the newest.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from graphflow.base import dtypes
from graphflow.base.errors import CancelledError
from graphflow.base.state import StateKey, object_of
from graphflow.base.waiting import waits
from graphflow.build import Tensor, op
from graphflow.build.opdef import Array, Handle, Index, Specs
from graphflow.ops.rules import nothing
from graphflow.ops.waitable import Waitable

_POLL = 0.05  # seconds between looks at whether the run was cancelled; an opening wakes at once


class Passed(NamedTuple):
    """That a worker was let through.

    Attributes:
      numbers: the step to which it goes on, and whether there was no new one.
    """

    numbers: tuple[int, bool]


class Gate(Waitable):
    """Attributes:
    step: the newest step that workers may go on to.
    """

    def __init__(self, name: str):
        super().__init__(name)
        self.step = 0
        self._ahead = 0  # how many may pass without a new step

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

    def wait(
        self,
        step: int,
        rank: int,
        cancelled: threading.Event,
        numbers: Sequence[Any] | None = None,
    ) -> Passed:
        """Have the worker of that number wait until there is a newer step.

        Args:
          numbers: as it was let through, where its run is done again.

        Raises:
          CancelledError: the run was cancelled.
        """
        with self._changed:
            if numbers is not None and numbers[1]:
                self._ahead -= 1
                return Passed((numbers[0], True))
            wanted = numbers[0] if numbers is not None else self._logged(rank)
            while not self._opens(step, wanted):
                if cancelled.is_set():
                    raise CancelledError(
                        None, None, f"the run was cancelled while it waited for {self.name!r}"
                    )
                waits()
                self._changed.wait(_POLL)
            ahead = wanted is None and self.step <= step
            self._ahead -= ahead
            reached = self.step if wanted is None else wanted
            if self.decisions is not None:
                self.decisions.passed(self.name, rank, reached)
            return Passed((reached, ahead))

    def give_back(self, passed: Passed) -> None:
        """A run that was let through came to nothing."""
        with self._changed:
            self._ahead += passed.numbers[1]
            self._changed.notify_all()

    def _logged(self, rank: int) -> int | None:
        return None if self.decisions is None else self.decisions.step(self.name, rank)

    def _opens(self, step: int, wanted: int | None) -> bool:
        if wanted is not None:
            return self.step >= wanted
        return self.step > step or self._ahead > 0


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
    passed = ctx.take(handle, lambda numbers: gate.wait(int(step), rank, ctx.cancelled, numbers))
    return np.asarray(passed.numbers[0], np.int64)


@op("GateOpen", infer=nothing, grad=None, effect="output")
def gate_open(xp: Any, ctx: Any, handle: Handle, step: Index) -> tuple[()]:
    """Let workers go on to a step, when the run commits."""
    gate, number = _found(ctx, handle), int(step)
    ctx.output(lambda: gate.open(number), own=True)
    return ()


@op("GateAdmit", infer=nothing, grad=None, effect="output")
def gate_admit(xp: Any, ctx: Any, handle: Handle, count: Index) -> tuple[()]:
    """Let so many through that would have to wait, when the run commits."""
    gate, number = _found(ctx, handle), int(count)
    ctx.output(lambda: gate.admit(number), own=True)
    return ()

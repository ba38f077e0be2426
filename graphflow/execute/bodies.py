"""Bodies of loops and branches, of which native code takes over those that only compute."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import Future, wait
from typing import Any

from graphflow.compile import Plan
from graphflow.execute.compiling import Found, Observer, compiled, fault
from graphflow.execute.context import Context
from graphflow.execute.devices import Device
from graphflow.execute.program import Bind, Call, Program, plans_in

_FEWEST = 4  # steps; a native call costs about as much as three small kernels
_SIGNATURES = 8  # shapes of arguments that a body is compiled for


def is_worth(plan: Plan) -> bool:
    """May native code do a body: is it long enough, and does nothing but read and compute?

    Nothing has to be undone then when it is given up in the middle.
    """
    return len(plan.steps) >= _FEWEST and _computes(plan)


def _computes(plan: Plan) -> bool:
    return all(
        (step.opdef.pure or step.opdef.name == "ReadVariable")
        and all(map(_computes, plans_in(step.attrs.values())))
        for step in plan.steps
    )


class _Signature:
    """What is known about one combination of shapes.

    Attributes:
      native: the native program, once there is one.
      found: slot -> shape and dtype, as the first execution has told them.
      seconds: that the reference tier has taken.
      settled: nothing more will be compiled.
    """

    __slots__ = ("found", "native", "seconds", "settled", "status")

    def __init__(self) -> None:
        self.native: Any = None
        self.found: Any = None
        self.seconds = 0.0
        self.settled = False
        self.status = "the reference tier, until it is in a second run"


class TieredBody(Program):
    """A body that only computes.  Which tier does it is settled when a run first comes to it."""

    def __init__(
        self,
        plan: Plan,
        device: Device,
        bind: Bind,
        build: Callable[[Program, Found, Collection[str]], Any],
        submit: Callable[[Callable[[], None]], Future[None] | None] | None,
    ):
        """Args:
        bind: makes programs of the bodies in it.
        build, submit: as of `TieredProgram`.
        """
        super().__init__(plan, device, bind)
        self._build = build
        self._submit = submit
        self._signatures: dict[Any, _Signature] = {}

    def execute(
        self, values: Sequence[Any], context: Context, calls: Sequence[Call] | None = None
    ) -> list[Any]:
        """As `Program.execute`."""
        if calls is not None:
            return super().execute(values, context, calls)
        key = tuple([getattr(value, "shape", None) for value in values])
        state = self._signatures.get(key)
        if state is None:
            if len(self._signatures) >= _SIGNATURES:
                return super().execute(values, context)
            state = self._signatures.setdefault(key, _Signature())
        choices = context.choices
        if state not in choices:
            choices[state] = self._choice(state, values, context)
        native = choices[state]
        if native is not None:
            try:
                outputs: list[Any] = native.run(context, values)
                return outputs
            except fault():  # the kernels tell what is wrong, or find nothing
                pass
        start = time.perf_counter()
        results = super().execute(values, context)
        state.seconds += time.perf_counter() - start
        return results

    def _choice(self, state: _Signature, values: Sequence[Any], context: Context) -> Any:
        """The native program for this run, or None."""
        if state.found is None:
            state.found = self._observed(values, context)
            if self._submit is None:
                self._compile(state)
        elif not state.settled:
            state.settled = True  # nobody else asks
            assert self._submit is not None
            compiled = self._submit(lambda: self._compile(state))
            if compiled is not None:  # see `TieredProgram._ask`
                wait([compiled], timeout=state.seconds)
        return state.native

    def _observed(self, values: Sequence[Any], context: Context) -> Found:
        """What the slots hold; the body is done once for that."""
        observer = Observer()
        for port, value in zip(self.plan.inputs, values, strict=True):
            observer.note(port.slot, value)
        super().execute(values, context, observer.timed(self._calls, self.plan, self.device.name))
        return observer.found

    def _compile(self, state: _Signature) -> None:
        state.settled = True
        state.native, state.status = compiled(self._build, self, state.found, ())

    def report(self) -> list[Any]:
        """A `Report` per combination of shapes that is known."""
        from graphflow.compile.native.report import Report

        return [
            Report(self.plan, f"a body, {s.status}", tuple(k or () for k in key),
                   s.native and s.native.plan)
            for key, s in self._signatures.items()
        ]  # fmt: skip

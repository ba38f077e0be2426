"""A program that native code takes over when it is compiled."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import Future, wait
from typing import Any

import numpy as np

from graphflow.compile import Plan
from graphflow.compile.plan import Step
from graphflow.execute.bodies import TieredBody
from graphflow.execute.compiling import Found, Observer, compiled, fault
from graphflow.execute.context import Context, Run
from graphflow.execute.devices import Device
from graphflow.execute.program import Bind, Program
from graphflow.execute.trial import Trial

_SIGNATURES = 8  # shapes of feeds that a plan is compiled for at once
_REMEMBERED = 4096  # where only the first ones are compiled: the others take next to no memory
_PATIENCE = 2  # the run with which it is worth while to compile
_FAULTS = 3  # faults after which a signature stays with the reference tier, unless it is fixed

Key = tuple[tuple[int, ...], ...]  # shapes of a plan's inputs


class _Signature:
    """What is known about one combination of shapes.

    Attributes:
      native: the native program, once there is one.
      runs: how often the reference tier has run it.
      settled: nothing more will be compiled.
      status: what runs it, in words.
      found: what the first run has told of shapes, and how many seconds it took.
    """

    __slots__ = ("faults", "found", "native", "runs", "settled", "status")

    def __init__(self) -> None:
        self.native: Any = None
        self.found: Any = None
        self.runs = 0
        self.settled = False
        self.faults = 0
        self.status = f"the reference tier, until it is run {_PATIENCE} times"


class TieredProgram:
    """As a `Program`, faster after some runs.

    Attributes:
      plan, device: of the reference program.
      reference: that program.
      stays: (step, shape and dtype of its first output) -> is it left to its kernel?
    """

    def __init__(
        self,
        plan: Plan,
        device: Device,
        build: Callable[[Program, Found, Collection[str]], Any],
        submit: Callable[[Callable[[], None]], Future[None] | None] | None,
        fixed: bool = False,
        most: int | None = None,
        bind: Bind | None = None,
    ):
        """Args:
        build: (program, what was observed, names of steps that are left to their kernels) -> a
          native program, or None.
        submit: runs a function in the background, and gives what to wait for; None: compile
          at once, and run nothing before.
        fixed: which tier runs may depend on the plan and the shapes only, not on what was run
          before: a worker that takes the place of another one has not run that.
        most: combinations of shapes that are compiled, where nothing is run before; the first ones
          that are met, here or where that was told by `learn`; None: all.
        bind: makes programs of bodies; None: they stay on the reference tier.
        """
        self.plan = plan
        self.device = device
        self.reference = Program(plan, device, bind)
        self._build = build
        self._submit = submit
        self._fixed = fixed
        self._most = most
        self._kept = _SIGNATURES if most is None else _REMEMBERED
        self.stays: Callable[[Step, Any], bool] = lambda step, spec: False
        self._signatures: OrderedDict[Key, _Signature] = OrderedDict()
        self._known: dict[Key, Found] = {}
        self._last: Any = None  # the shapes of the last run
        self._lock = threading.Lock()

    @property
    def native(self) -> list[Any]:
        """The native programs that there are."""
        return [s.native for s in self._signatures.values() if s.native is not None]

    def learn(self, key: Key, found: Found) -> None:
        """Take what was observed elsewhere for inputs of these shapes."""
        self._known[key] = found

    def observe(self, run: Run, values: Sequence[Any], rendezvous: Any = None) -> None:
        """Compile for inputs like these, where that was not done; the run must be aborted."""
        state = self._add(tuple([v.shape for v in values]))
        if not state.settled or rendezvous is not None:
            observer = self._observer(values)
            self.reference.run(run, values, rendezvous, observer)
            if not state.settled:
                self._known[tuple([v.shape for v in values])] = observer.found
                self._compile(state, observer.found)

    def report(self) -> list[Any]:
        """A `Report` for each combination of shapes that is known; then those of its bodies."""
        from graphflow.compile.native.report import Report

        own = [
            Report(self.plan, state.status, shapes, state.native and state.native.plan)
            for shapes, state in self._signatures.items()
        ]
        return own + [told for body in _bodies(self.reference) for told in body.report()]

    def at_once(self, values: Sequence[Any]) -> list[Any] | None:
        """Outputs, where native code alone computes them from the values; else None."""
        key = tuple([v.shape for v in values])
        state = self._signatures.get(key)
        if state is None or state.native is None or not state.native.pure:
            return None
        if key != self._last:
            self._add(key)
        try:
            outputs: list[Any] = state.native.run(None, values)
            return outputs
        except fault():
            return None  # `run` finds it, too

    def run(
        self, run: Run, values: Sequence[Any], rendezvous: Any = None, trace: Any = None
    ) -> list[Any]:
        """As `Program.run`.  Where it enters itself in `run.rehearsed`, the run has only told
        shapes, and all its devices must begin anew."""
        key = tuple([v.shape for v in values])
        state = self._signatures.get(key)
        if state is None or key != self._last:
            state = self._add(key)
        if state.native is not None:
            return self._natively(state, run, values, rendezvous, trace)
        if state.settled:
            return self.reference.run(run, values, rendezvous, trace)
        if self._submit is not None:
            return self._warm(state, run, values, rendezvous, trace)
        return self._first(key, state, run, values, rendezvous, trace)

    def _add(self, key: Key) -> _Signature:
        """The signature of these shapes, which become the last to be forgotten."""
        with self._lock:
            state = self._signatures.setdefault(key, _Signature())
            self._signatures.move_to_end(key)
            self._last = key
            while len(self._signatures) > self._kept:
                self._signatures.popitem(last=False)
            return state

    # ---- native code is there

    def _natively(
        self, state: _Signature, run: Run, values: Sequence[Any], rendezvous: Any, trace: Any
    ) -> list[Any]:
        if rendezvous is not None:
            return self._part(state, run, values, rendezvous, trace)
        native = state.native
        try:
            if not native.calls:  # half a microsecond, for NumPy alone
                outputs: list[Any] = native.run(Context(run, self.device), values, trace)
                return outputs
            with np.errstate(all="ignore"):
                outputs = native.run(Context(run, self.device), values, trace)
                return outputs
        except fault():
            run.abort()
            self._met(state)
            return self.reference.run(run, values, None, trace)

    def _part(
        self, state: _Signature, run: Run, values: Sequence[Any], rendezvous: Any, trace: Any
    ) -> list[Any]:
        """The part of a device, of which a fault must leave no trace."""
        trial = Trial(run, rendezvous)
        try:
            with np.errstate(all="ignore"):
                outputs: list[Any] = state.native.run(trial.context(self.device), values, trace)
        except fault():
            self._met(state)
            trial.restart()
            outputs = self.reference.run_in(trial.context(self.device), values, trace)
        trial.keep()
        return outputs

    def _met(self, state: _Signature) -> None:
        """Native code has met a fault."""
        state.faults += 1
        if state.faults >= _FAULTS and not self._fixed:
            state.native = None
            state.settled = True
            state.status = f"the reference tier: native code met {_FAULTS} faults"

    # ---- it is not there yet

    def _first(
        self, key: Key, state: _Signature, run: Run, values: Sequence[Any], rendezvous: Any,
        trace: Any,
    ) -> list[Any]:  # fmt: skip
        """Compile before anything counts, by what is known of the shapes or by a rehearsal."""
        results = None
        found = self._known.get(key)
        if found is None and self._most is not None and len(self._known) >= self._most:
            state.settled = True
            state.status = f"the reference tier: {self._most} other shapes came before"
            return self.reference.run(run, values, rendezvous, trace)
        if found is None:
            observer = self._observer(values, trace)
            results = self.reference.run(run, values, rendezvous, observer)
            found = self._known[key] = observer.found
        self._compile(state, found)
        if results is None:
            return self.run(run, values, rendezvous, trace)
        if state.native is None:
            return results
        if rendezvous is not None:
            run.rehearsed.append((self, key, found))
            return results
        run.abort()  # the native tier does the step from its start
        if trace is not None:
            trace.restart()
        return self._natively(state, run, values, None, trace)

    def _warm(
        self, state: _Signature, run: Run, values: Sequence[Any], rendezvous: Any, trace: Any
    ) -> list[Any]:
        """Run the reference tier; start compiling when it is asked for often enough.

        The first run tells the shapes, so that compiling begins with the second, not behind it.
        """
        if trace is not None:  # it would count the compiler's time
            return self.reference.run(run, values, rendezvous, trace)
        state.runs += 1
        if state.runs > 1:
            if state.runs == _PATIENCE:
                self._ask(state)
            if state.native is not None:
                return self._natively(state, run, values, rendezvous, None)
            return self.reference.run(run, values, rendezvous)
        observer = self._observer(values)
        start = time.perf_counter()
        results = self.reference.run(run, values, rendezvous, observer)
        state.found = observer.found, time.perf_counter() - start
        return results

    def _ask(self, state: _Signature) -> None:
        """Let the code be compiled.

        Kernels and the compiler would keep each other from Python's lock: W3 of the benchmarks
        compiles in 0.2 s from the cache, and in 2 s beside its own steps.  So this one step waits,
        for as long as the reference tier has taken for the one before, at most.
        """
        assert self._submit is not None
        with self._lock:
            observed, state.found = state.found, None
        if observed is None:  # the first run has not ended, or another thread has asked
            state.runs = _PATIENCE - 1
            return
        state.status = "the reference tier, while native code is compiled"
        found, seconds = observed
        compiled = self._submit(lambda: self._compile(state, found))
        if compiled is not None:
            wait([compiled], timeout=seconds)

    def _observer(self, values: Sequence[Any], trace: Any = None) -> Observer:
        observer = Observer(trace)
        for port, value in zip(self.plan.inputs, values, strict=True):
            observer.note(port.slot, value)
        return observer

    def _compile(self, state: _Signature, found: Found) -> None:
        kept = {s.name for s in self.plan.steps
                if s.outputs and self.stays(s, found.get(s.outputs[0]))}  # fmt: skip
        state.native, state.status = compiled(self._build, self.reference, found, kept)
        state.settled = True


def _bodies(program: Program) -> Iterator[TieredBody]:
    """The bodies in a program that may become native code, also those in bodies."""
    for body in program.bodies:
        if isinstance(body, TieredBody):
            yield body
        yield from _bodies(body)

"""Tiers: the reference tier runs at once, native code takes its place when it is compiled."""

from __future__ import annotations

import os
import threading
import time
import warnings
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any

import numpy as np

from graphflow.compile import Plan
from graphflow.execute.context import Context, Run
from graphflow.execute.devices import CpuDevice, Device
from graphflow.execute.program import Call, Program

_SIGNATURES = 8  # shapes of feeds that a plan is compiled for at once
_PATIENCE = 2  # the run with which it is worth while to compile
_FAULTS = 3  # faults after which a signature stays with the reference tier


class Observer:
    """Notes the shape and dtype of whatever a plan's slots hold; stands where a trace would."""

    def __init__(self) -> None:
        self.found: dict[int, Any] = {}

    def timed(self, calls: Sequence[Call], plan: Plan, device: str) -> list[Call]:
        """The calls, watched."""
        return [self._watched(call) for call in calls]

    def note(self, slot: int, value: Any) -> None:
        if isinstance(value, (np.ndarray, np.generic)):
            self.found[slot] = (value.shape, value.dtype)

    def _watched(self, call: Call) -> Call:
        function, outputs = call.function, call.outputs

        def watched(*arguments: Any) -> Any:
            result = function(*arguments)
            if len(outputs) == 1:
                self.note(outputs[0], result[0] if type(result) is tuple else result)
            elif outputs:
                for slot, value in zip(outputs, result, strict=True):
                    self.note(slot, value)
            return result

        return call._replace(function=watched)


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
    """

    def __init__(
        self,
        plan: Plan,
        device: Device,
        build: Callable[[Program, Any], Any],
        submit: Callable[[Callable[[], None]], Future[None] | None] | None,
    ):
        """Args:
        build: (program, what was observed) -> a native program, or None.
        submit: runs a function in the background, and gives what to wait for; None: compile
          at once, and run nothing before.
        """
        self.plan = plan
        self.device = device
        self._reference = Program(plan, device)
        self._build = build
        self._submit = submit
        self._signatures: OrderedDict[Any, _Signature] = OrderedDict()
        self._last: Any = None  # the shapes of the last run
        self._lock = threading.Lock()

    @property
    def native(self) -> list[Any]:
        """The native programs that there are."""
        return [s.native for s in self._signatures.values() if s.native is not None]

    def observe(self, run: Run, values: Sequence[Any]) -> None:
        """Compile for inputs like these, where that was not done; the run must be aborted."""
        state = self._add(tuple([v.shape for v in values]))
        if not state.settled:
            observer = self._observer(values)
            self._reference.run(run, values, None, observer)
            self._compile(state, observer.found)

    def report(self) -> list[Any]:
        """A `Report` for each combination of shapes that is known."""
        from graphflow.compile.native.report import Report

        return [
            Report(self.plan, state.status, shapes, state.native and state.native.plan)
            for shapes, state in self._signatures.items()
        ]

    def at_once(self, values: Sequence[Any]) -> list[Any] | None:
        """Outputs, where native code alone computes them from the values; else None."""
        key = tuple([v.shape for v in values])
        state = self._signatures.get(key)
        if state is None or state.native is None or not state.native.pure:
            return None
        if key != self._last:
            self._add(key)
        try:
            return state.native.run(None, values)
        except _fault():
            return None  # `run` finds it, too

    def run(
        self, run: Run, values: Sequence[Any], rendezvous: Any = None, trace: Any = None
    ) -> list[Any]:
        """As `Program.run`."""
        if trace is not None or rendezvous is not None:
            return self._reference.run(run, values, rendezvous, trace)
        key = tuple([v.shape for v in values])
        state = self._signatures.get(key)
        if state is None or key != self._last:
            state = self._add(key)
        if state.native is not None:
            return self._natively(state, run, values)
        if state.settled:
            return self._reference.run(run, values)
        return self._warm(state, run, values)

    def _add(self, key: Any) -> _Signature:
        """The signature of these shapes, which become the last to be forgotten."""
        with self._lock:
            state = self._signatures.setdefault(key, _Signature())
            self._signatures.move_to_end(key)
            self._last = key
            while len(self._signatures) > _SIGNATURES:
                self._signatures.popitem(last=False)
            return state

    def _natively(self, state: _Signature, run: Run, values: Sequence[Any]) -> list[Any]:
        try:
            if not state.native.calls:  # half a microsecond, for NumPy alone
                return state.native.run(Context(run, self.device), values)
            with np.errstate(all="ignore"):
                return state.native.run(Context(run, self.device), values)
        except _fault():
            run.abort()
            state.faults += 1
            if state.faults >= _FAULTS:
                state.native = None
                state.settled = True
                state.status = f"the reference tier: native code met {_FAULTS} faults"
            return self._reference.run(run, values)

    def _warm(self, state: _Signature, run: Run, values: Sequence[Any]) -> list[Any]:
        """Run the reference tier; start compiling when it is asked for often enough.

        The first run tells the shapes, so that compiling begins with the second, not behind it.
        """
        state.runs += 1
        if self._submit is not None and state.runs > 1:
            if state.runs == _PATIENCE:
                self._ask(state)
            if state.native is not None:
                return self._natively(state, run, values)
            return self._reference.run(run, values)
        observer = self._observer(values)
        start = time.perf_counter()
        results = self._reference.run(run, values, None, observer)
        if self._submit is not None:
            state.found = observer.found, time.perf_counter() - start
            return results
        self._compile(state, observer.found)
        if state.native is None:
            return results
        run.abort()  # the native tier does the step from its start
        return self._natively(state, run, values)

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

    def _observer(self, values: Sequence[Any]) -> Observer:
        observer = Observer()
        for port, value in zip(self.plan.inputs, values, strict=True):
            observer.note(port.slot, value)
        return observer

    def _compile(self, state: _Signature, found: Any) -> None:
        try:
            state.native = self._build(self._reference, found)
            state.status = "native code"
            if state.native is None:
                state.status = "the reference tier: too little of the plan lowers"
        except Exception as error:
            state.status = f"the reference tier: native code could not be built: {error}"
            names = ", ".join(sorted({s.opdef.name for s in self.plan.steps}))
            warnings.warn(
                f"native code could not be built ({type(error).__name__}: {error}); the "
                f"reference tier runs {names}",
                RuntimeWarning,
                stacklevel=2,
            )
        state.settled = True


def _fault() -> type[Exception]:
    from graphflow.execute.native import Fault  # it needs llvmlite's wrappers: not at import

    return Fault


def _cores() -> int:
    return len(os.sched_getaffinity(0))


class Tiers:
    """Chooses how plans of a session run, and owns the threads that this takes."""

    def __init__(self, tier: str, threads: int):
        """Args:
        tier: "auto", "reference" or "native"; see `Settings`.
        threads: that share a native step; 0: as many as cores.
        """
        self.tier = tier
        self._threads = threads or _cores()
        self._lock = threading.Lock()
        self._team: Any = None
        self._compiler: ThreadPoolExecutor | None = None
        self._closed = False

    def program(self, plan: Plan, device: Device) -> Program | TieredProgram:
        """A program for the plan."""
        if self.tier == "reference" or not isinstance(device, CpuDevice):
            return Program(plan, device)
        return TieredProgram(
            plan, device, self._build, self._submit if self.tier == "auto" else None
        )

    def _build(self, program: Program, found: Any) -> Any:
        from graphflow.compile.native.build import Unprofitable, build_native
        from graphflow.compile.native.cache import default_cache
        from graphflow.execute.native import NativeProgram
        from graphflow.execute.team import MOST, Team

        threads = min(self._threads, MOST)
        try:
            plan = build_native(program.plan, found, threads, default_cache())
        except Unprofitable:
            return None
        with self._lock:
            if self._closed:
                return None
            if self._team is None:
                self._team = Team(threads, _cores())  # more threads would only be in the way
        return NativeProgram(plan, self._team, program.kernels())

    def _submit(self, function: Callable[[], None]) -> Future[None] | None:
        with self._lock:
            if self._closed:
                return None
            if self._compiler is None:
                self._compiler = ThreadPoolExecutor(1, thread_name_prefix="graphflow-compiler")
            return self._compiler.submit(function)

    def close(self) -> None:
        """End the threads."""
        with self._lock:
            self._closed = True
            compiler, team = self._compiler, self._team
        if compiler is not None:
            compiler.shutdown(wait=True, cancel_futures=True)
        if team is not None:
            team.close()

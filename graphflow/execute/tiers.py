"""Tiers: the reference tier runs at once, native code takes its place when it is compiled."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Collection
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from importlib.util import find_spec
from typing import Any

from graphflow.compile import Plan, takes_input
from graphflow.execute.bodies import TieredBody, is_worth
from graphflow.execute.devices import CpuDevice, Device
from graphflow.execute.program import Program
from graphflow.execute.tiered import TieredProgram

MOST_SHAPES = 8  # that a plan is compiled for, one after the other, before it counts as too many


def _cores() -> int:
    return len(os.sched_getaffinity(0))


class Tiers:
    """Chooses how plans of a session run, and owns the threads that this takes.

    Attributes:
      tier: "auto", "reference" or "native".
      threads: that share a native step of one device.
    """

    def __init__(self, tier: str, threads: int = 0, fixed: bool = False, devices: int = 1):
        """Args:
        tier: see `Settings`.
        threads: that share a native step; 0: as many as cores, shared out among the devices.
        fixed: which tier runs a step is settled before the first one, by the plan and the shapes
          alone, and so are the bits, wherever plans are cut; "auto" is "native" then, for the first
          shapes that a plan meets.
        devices: CPUs that run side by side in this process.
        """
        self._most = MOST_SHAPES if fixed and tier == "auto" else None
        if fixed and tier != "reference":
            tier = "native" if find_spec("llvmlite") else "reference"
        self.tier = tier
        self.threads = threads or max(1, _cores() // max(1, devices))
        self._fixed = fixed
        self._lock = threading.Lock()
        self._teams: dict[str, Any] = {}  # by device
        self._compiler: ThreadPoolExecutor | None = None
        self._closed = False

    def program(self, plan: Plan, device: Device) -> Program | TieredProgram:
        """A program for the plan."""
        if self.tier == "reference" or not isinstance(device, CpuDevice):
            return Program(plan, device)
        if self._fixed and not _worth(plan):
            return Program(plan, device)
        submit = self._submit if self.tier == "auto" else None
        build = partial(self._build, device.name)
        # Bodies add nothing that could be rehearsed: where the tier is fixed it is this one.
        bind = Program if self._fixed else self._body
        return TieredProgram(plan, device, build, submit, self._fixed, self._most, bind)

    def _body(self, plan: Plan, device: Device) -> Program:
        if not is_worth(plan):
            return Program(plan, device, self._body)
        submit = self._submit if self.tier == "auto" else None
        return TieredBody(plan, device, self._body, partial(self._build, device.name), submit)

    def _build(self, device: str, program: Program, found: Any, kept: Collection[str]) -> Any:
        from graphflow.compile.native.build import Unprofitable, build_native
        from graphflow.compile.native.cache import default_cache
        from graphflow.execute.native import NativeProgram
        from graphflow.execute.team import MOST, Team

        threads = min(self.threads, MOST)
        try:
            plan = build_native(
                program.plan, found, threads, default_cache(), exact=self._fixed, kept=kept
            )
        except Unprofitable:
            return None
        with self._lock:
            if self._closed:
                return None
            # More threads than cores would only be in the way.
            team = self._teams.setdefault(device, Team(threads, _cores()))
        return NativeProgram(plan, team, program.kernels())

    def alike(self) -> AbstractContextManager[Any]:
        """Held while devices run side by side: has the kernels of one use as many threads as if
        the others, whose native code keeps BLAS on one, were not there or always there."""
        if not self._fixed or self.tier != "native":
            return nullcontext()
        from graphflow.compile.native.blas import find_blas
        from graphflow.execute.native import one_thread

        return one_thread if find_blas() is not None else nullcontext()

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
            compiler, teams = self._compiler, list(self._teams.values())
        if compiler is not None:
            compiler.shutdown(wait=True, cancel_futures=True)
        for team in teams:
            team.close()


def _worth(plan: Plan) -> bool:
    """Is a plan worth compiling before it was run once?

    Not one that only initialises, which runs once; and not one whose shapes depend on values, for
    they may be others in each run.
    """
    if len(plan.segments) > 1:
        return False
    initialises = not plan.inputs and not takes_input(plan)
    return not initialises or any(
        step.opdef.name == "Recv"
        or (step.opdef.effect == "state" and step.opdef.name != "AssignVariable")
        for step in plan.steps
    )

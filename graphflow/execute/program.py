"""A plan bound to a device: the loop that the reference tier is."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from graphflow.compile.plan import CONTEXT, Plan, Step
from graphflow.execute.context import Context, Run
from graphflow.execute.devices import Device
from graphflow.execute.failures import explained
from graphflow.execute.store import Conflict

Bind = Callable[[Plan, Device], "Program"]  # makes programs of bodies

_NOTHING = -1
_SEVERAL = -2


class Call(NamedTuple):
    """A step, ready to be called: no lookup is left."""

    function: Callable[..., Any]
    inputs: tuple[int, ...]
    output: int  # a slot, or _NOTHING, or _SEVERAL
    outputs: tuple[int, ...]
    frees: tuple[int, ...]


class Program:
    """A plan with its kernels bound.

    Attributes:
      plan: what it was made from.
      device: where it runs.
      bodies: the programs of loops and branches in it.
    """

    def __init__(self, plan: Plan, device: Device, bind: Bind | None = None):
        """Args:
        bind: makes programs of the bodies in it; None: this class does.
        """
        self.plan = plan
        self.device = device
        self.bodies: list[Program] = []
        make = bind or Program

        def body(plan: Plan) -> Program:
            self.bodies.append(make(plan, device))
            return self.bodies[-1]

        self._calls = [_bind(step, device, body) for step in plan.steps]
        self._template: list[Any] = [None] * plan.size
        self._needed = None if device.is_host else _needed(plan)
        for slot, value in plan.constants.items():
            self._template[slot] = self._put(slot, value)
        self._inputs = [port.slot for port in plan.inputs]
        self._outputs = [output.slot for output in plan.outputs]

    def kernels(self) -> dict[str, Callable[..., Any]]:
        """Name of a step -> its kernel with the attributes bound."""
        pairs = zip(self.plan.steps, self._calls, strict=True)
        return {step.name: call.function for step, call in pairs}

    def observe(self, run: Run, values: Sequence[Any], rendezvous: Any = None) -> None:
        """There is nothing to compile; others may wait for what it gives."""
        if rendezvous is not None:
            self.run(run, values, rendezvous)

    def report(self) -> list[Any]:
        """One `Report`: the reference tier runs it."""
        from graphflow.compile.native.report import Report

        return [Report(self.plan, f"the reference tier, on {self.device.name}")]

    def at_once(self, values: Sequence[Any]) -> list[Any] | None:
        """Outputs, where no run is needed to compute them; None: `run` must."""
        return None

    def run(
        self, run: Run, values: Sequence[Any], rendezvous: Any = None, trace: Any = None
    ) -> list[Any]:
        """Outputs on the given inputs.

        Args:
          run: the run that this is part of.
          values: one array of the host per input of the plan.
          rendezvous: where to meet the other devices of the run.
          trace: a `trace.Trace` to enter each call in, or None.

        Raises:
          OpError: a kernel failed; the error names the node, and notes tell the user's lines.
        """
        return self.run_in(Context(run, self.device, rendezvous), values, trace)

    def run_in(self, context: Context, values: Sequence[Any], trace: Any = None) -> list[Any]:
        """As `run`, within a context."""
        device = self.device
        calls = self._calls if trace is None else trace.timed(self._calls, self.plan, device.name)
        with device, np.errstate(all="ignore"):
            if self._needed is not None:
                values = [self._put(s, v) for s, v in zip(self._inputs, values, strict=True)]
            return self.execute(values, context, calls)

    def _put(self, slot: int, value: Any) -> Any:
        """A value of the host, where its readers want it."""
        return self.device.put(value) if self._needed and slot in self._needed else value

    def execute(
        self, values: Sequence[Any], context: Context, calls: Sequence[Call] | None = None
    ) -> list[Any]:
        """As `run`, on values that are here, within a context: what a body does."""
        calls = calls or self._calls
        slots = self._template.copy()
        slots[CONTEXT] = context
        for slot, value in zip(self._inputs, values, strict=True):
            slots[slot] = value
        call = None
        try:
            for call in calls:
                function, inputs, output, outputs, frees = call
                result = function(*[slots[i] for i in inputs])
                if output >= 0:  # a split into one part gives a tuple of it
                    slots[output] = result if type(result) is not tuple else result[0]
                elif output == _SEVERAL:
                    for slot, value in zip(outputs, result, strict=True):
                        slots[slot] = value
                for slot in frees:
                    slots[slot] = None
        except Conflict:  # no failure: the run is tried again
            raise
        except Exception as error:
            step = self.plan.steps[next(i for i, c in enumerate(calls) if c is call)]
            arguments = [slots[i] for i in step.inputs if i != CONTEXT]
            raise explained(error, step, arguments) from (
                error.__cause__ if hasattr(error, "error_code") else error
            )
        return [slots[i] for i in self._outputs]


def _bind(step: Step, device: Device, body: Callable[[Plan], Program]) -> Call:
    kernel = step.opdef.kernel
    assert kernel is not None
    count = len(step.outputs)
    output = step.outputs[0] if count == 1 else _SEVERAL if count else _NOTHING
    attrs = {name: _bind_bodies(value, body) for name, value in step.attrs.items()}
    function: Callable[..., Any] = partial(kernel, device.xp, **attrs)
    if step.opdef.effect in ("input", "output") and step.opdef.takes_ctx:
        function = _telling(function, step)
    if not device.is_host:
        function = _placed(function, _host_positions(step), device)
    return Call(function, step.inputs, output, step.outputs, step.frees)


def _telling(function: Callable[..., Any], step: Step) -> Callable[..., Any]:
    """A kernel whose input and output know the step: input is taken again by the same one, and
    output may fail after the step has ended."""

    def call(context: Context, *inputs: Any) -> Any:
        context.step = step
        return function(context, *inputs)

    return call


def _host_positions(step: Step) -> frozenset[int]:
    """Which of a step's inputs its kernel takes from host memory."""
    opdef = step.opdef
    last = len(opdef.params) - 1
    return frozenset(
        i for i in range(len(step.inputs)) if min(i - opdef.takes_ctx, last) in opdef.host
    )


def _needed(plan: Plan) -> set[int]:
    """Slots that are read on the device: by kernels, or as outputs."""
    found = {output.slot for output in plan.outputs}
    for step in plan.steps:
        host = _host_positions(step)
        found.update(slot for i, slot in enumerate(step.inputs) if i not in host)
    return found


def _placed(
    function: Callable[..., Any], host: frozenset[int], device: Device
) -> Callable[..., Any]:
    """A kernel whose inputs are brought to where it wants them; most are there already.

    Kernels that take all their inputs from the host, those of shapes, may leave results there.
    """
    put, get = device.put, device.get

    def call(*inputs: Any) -> Any:
        return function(*[get(v) if i in host else put(v) for i, v in enumerate(inputs)])

    return call


def _bind_bodies(value: Any, body: Callable[[Plan], Program]) -> Any:
    """An attribute, with programs where it holds plans of bodies."""
    if isinstance(value, Plan):
        return body(value)
    if type(value) is tuple and any(isinstance(v, Plan) for v in value):
        return tuple(_bind_bodies(v, body) for v in value)
    return value


def plans_in(attributes: Iterable[Any]) -> list[Plan]:
    """The plans of bodies that attributes hold."""
    parts = [v if type(v) is tuple else (v,) for v in attributes]
    return [part for each in parts for part in each if isinstance(part, Plan)]

"""A native plan bound to a process: fills the table of addresses, calls the code, hands out."""

from __future__ import annotations

import ctypes
import math
import threading
from collections.abc import Sequence
from functools import partial
from itertools import groupby
from typing import Any

import numpy as np

from graphflow.compile.native.blas import find_blas
from graphflow.compile.native.jit import function
from graphflow.compile.native.module import ARENA, GEMM, STATUS
from graphflow.compile.native.plan import Assign, Call, NativePlan, Port, Segment, Source
from graphflow.compile.plan import TRANSFERS
from graphflow.execute.buffers import Ring, aligned
from graphflow.execute.context import Context
from graphflow.execute.failures import explained
from graphflow.execute.store import Conflict
from graphflow.execute.team import Team

_TINY = 1024  # bytes up to which a feed is copied to a fixed place: sooner done than looked at


class Fault(Exception):
    """The step met what the native code is not made for; the reference tier must run it."""


class _OneThread:
    """Keeps OpenBLAS on one thread while native steps run: they share the work themselves."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._count = 0
        self._before = 1

    def __enter__(self) -> None:
        blas = find_blas()
        assert blas is not None
        with self._lock:
            if not self._count:
                self._before = blas.get_threads()
                self._set(1)
            self._count += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._count -= 1
            if not self._count:
                self._set(self._before)

    def _set(self, count: int) -> None:
        blas = find_blas()
        assert blas is not None
        ctypes.CFUNCTYPE(None, ctypes.c_int)(blas.set_threads)(count)


one_thread = _OneThread()


class NativeProgram:
    """A native plan, ready to run; many threads may run it at once.

    Attributes:
      plan: what it was made from.
      calls: does it call reference kernels?
      pure: does it only compute outputs from inputs?  Then it needs no context.
    """

    def __init__(self, plan: NativePlan, team: Team, kernels: dict[str, Any]):
        """Args:
        kernels: name of a step -> its kernel with the attributes bound.
        """
        self.plan = plan
        self.calls = any(isinstance(a, Call) for a in plan.actions)
        self.pure = not (
            plan.variables or self.calls or any(isinstance(a, Assign) for a in plan.actions)
        )
        self._team = team
        self._kernels = kernels
        self._free: list[_Instance] = []

    def run(self, context: Context | None, feeds: Sequence[Any], trace: Any = None) -> list[Any]:
        """Outputs of the plan.

        Args:
          trace: a `trace.Trace` to enter each native call and each kernel in, or None.

        Raises:
          Fault: nothing that was written counts.
          OpError: a reference kernel failed.
        """
        free = self._free
        instance = free.pop() if free else _Instance(self.plan, self._team, self._kernels)
        try:
            return instance.run(context, feeds, trace)
        finally:
            free.append(instance)


def _size(port: Port) -> int:
    return math.prod(port.shape) * port.dtype.itemsize


class _Instance:
    """Memory for one run at a time: the table, the arena, and rings of arrays to hand out."""

    def __init__(self, plan: NativePlan, team: Team, kernels: dict[str, Any]):
        self.plan = plan
        self.team = team
        self.kernels = kernels
        self.table = (ctypes.c_size_t * plan.entries)()
        self.at = ctypes.addressof(self.table)
        self.status = ctypes.c_int64()
        self.arena, self._memory, address = aligned((max(64, plan.arena.size),), np.dtype(np.uint8))
        self.table[ARENA] = address
        self.table[STATUS] = ctypes.addressof(self.status)
        blas = find_blas()
        self.table[GEMM] = blas.gemm if blas else 0
        self.held: list[Any] = [None] * plan.entries  # the array of each entry
        for entry, array in plan.constants.items():
            self._hold(entry, array)
        self.fixed: set[int] = set()  # small arrays that are written to again and again
        self.feeds = [self._feed(i, port) for i, port in enumerate(plan.inputs)]
        self.variables = [(key, port.entry, port) for key, port in plan.variables]
        self.keys = [key for key, _ in plan.variables]
        self.known: dict[int, tuple[Any, int]] = {e: (None, 0) for _, e, _ in self.variables}
        assigned = {a.entry for a in plan.actions if isinstance(a, Assign)}
        self.rings = []
        self.sent = []
        for port in plan.owned:
            if _size(port) > _TINY or port.entry in assigned:
                take = Ring(port.shape, port.dtype).take
                if port.entry in plan.sent:
                    self.sent.append((port, plan.sent[port.entry], take))
                else:
                    self.rings.append((port.entry, take))
            else:  # a small fetch: to copy it out is sooner done
                self._hold(port.entry, aligned(port.shape, port.dtype)[0])
                self.fixed.add(port.entry)
        pointer, number = ctypes.c_void_p, ctypes.c_int64
        self.calls = []
        for code in plan.codes:
            step = code.address("step")
            serial = function(code.address("serial"), pointer)
            alone = function(step, pointer, number, number)
            self.calls.append((step, serial, alone))
        self.actions = [
            self._action(kind, list(same)) for kind, same in groupby(plan.actions, type)
        ]
        self.outputs = [self._output(source, copy) for source, copy in plan.outputs]
        self.given = [port.entry for action in plan.actions if isinstance(action, Call)
                      for port in action.outputs if isinstance(port, Port)]  # fmt: skip

    def _hold(self, entry: int, array: Any) -> None:
        self.held[entry] = array
        self.table[entry] = array.ctypes.data

    def _feed(self, index: int, port: Port | None) -> Any:
        if port is None:
            return index, None, self.plan.slots[index]
        if _size(port) > _TINY:
            return index, port, None
        array = aligned(port.shape, port.dtype)[0]
        self._hold(port.entry, array)
        self.fixed.add(port.entry)
        return index, port, array

    # ---- a run

    def run(self, context: Any, feeds: Sequence[Any], trace: Any = None) -> list[Any]:
        held, table = self.held, self.table
        self.objects: dict[int, Any] = {}
        self.context = context
        self.status.value = 0
        for index, port, fixed in self.feeds:
            if port is None:
                self.objects[fixed] = feeds[index]
            elif fixed is not None:
                fixed[...] = feeds[index]
            else:
                self._enter(port, feeds[index])
        if self.variables:
            self._read(context)
        for entry, take in self.rings:
            held[entry], table[entry] = take()
        for port, key, take in self.sent:
            held[port.entry], table[port.entry] = self._place(port, key) or take()
        for action in self.actions if trace is None else self._traced(trace, context.device):
            action()
        results = [output() for output in self.outputs]
        self._release()
        return results

    def _read(self, context: Any) -> None:
        """Find the variables; those that this program wrote last are known by their address."""
        held, table, known = self.held, self.table, self.known
        values = context.read_all(self.keys)
        for (_, entry, port), value in zip(self.variables, values, strict=True):
            last = known[entry]
            if last[0] is value:
                table[entry] = last[1]
                held[entry] = value
            else:
                known[entry] = (value, self._enter(port, value))

    def _place(self, port: Port, key: str) -> tuple[Any, int] | None:
        """An array from where its receiver can read it, and its address, if that can be had."""
        memory = self.context.place(key, _size(port))
        if memory is None:
            return None
        # `memory.ctypes` is Python, which is out of the cache after each step of megabytes
        address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
        return memory.view(port.dtype).reshape(port.shape), address

    def _release(self) -> None:
        """Hold nothing that the user, or a variable, may want to be the only one to hold."""
        for entry, _ in self.rings:
            self.held[entry] = None
        for port, _, _ in self.sent:
            self.held[port.entry] = None
        for entry in self.given:  # memory of another worker's, perhaps
            self.held[entry] = None

    def _enter(self, port: Port, value: Any) -> int:
        """Put an array's address into the table; it is copied where its layout does not suit."""
        array = np.asarray(value)
        if array.shape != port.shape or array.dtype != port.dtype:
            raise Fault(f"an array of {array.dtype}{list(array.shape)}, not as before")
        if not array.flags.c_contiguous or not array.flags.aligned:
            array = np.ascontiguousarray(array).reshape(port.shape)
        address: int = array.ctypes.data
        self.held[port.entry] = array
        self.table[port.entry] = address
        return address

    # ---- actions

    def _action(self, kind: type, same: list[Any]) -> Any:
        """A function that does some actions of one kind."""
        if kind is Assign:
            return self._assign(same)
        calls = [self._native(a) if kind is Segment else self._call(a) for a in same]
        if len(calls) == 1:
            return calls[0]

        def every() -> None:
            for call in calls:
                call()

        return every

    def _traced(self, trace: Any, device: str) -> list[Any]:
        """The actions one by one, each entering its span."""
        timed = []
        for action in self.plan.actions:
            function = self._action(type(action), [action])
            if isinstance(action, Segment):
                title = self.plan.titles[action.number]
                function = trace.watched(function, title, "Native", device)
            elif isinstance(action, Call):
                name, op = action.step.name, action.step.opdef.name
                function = trace.watched(function, name, op, device)
            timed.append(function)
        return timed

    def _native(self, segment: Segment) -> Any:
        step, serial, alone = self.calls[segment.number]
        at, team, status = self.at, self.team, self.status
        phases = self.plan.phases[segment.number]

        def run() -> None:
            if self.plan.workers > 1:
                team.run(step, phases, serial, at)
            else:
                alone(at, 0, 0)
            if status.value:
                raise Fault("an index is out of range")

        def guarded() -> None:
            with one_thread:
                run()

        return guarded if self.plan.products else run

    def _assign(self, actions: list[Assign]) -> Any:
        # The read of the next run finds the address of what this one wrote.
        reads = {key: port.entry for key, port in self.plan.variables}
        pairs = [(a.key, a.entry, reads.get(a.key, 0)) for a in actions]
        held, table, known = self.held, self.table, self.known

        def assign() -> None:
            self.context.write_all({key: held[entry] for key, entry, _ in pairs})
            for _, entry, read in pairs:
                known[read] = (held[entry], table[entry])

        return assign

    def _call(self, action: Call) -> Any:
        step = action.step
        assert step.opdef.kernel is not None
        # steps that compiling has added are in no reference program
        kernel = self.kernels.get(step.name) or partial(step.opdef.kernel, np, **step.attrs)
        # state, queues, lists: they may hold on to what they are given
        keeps = step.opdef.takes_ctx and not step.opdef.random
        keeps = keeps or not all(isinstance(output, Port) for output in action.outputs)
        sends = step.opdef.name in TRANSFERS  # never what lies in the arena, see `build`
        arguments = [self._argument(a, not self._lasts(a) if sends else keeps)
                     for a in action.inputs]  # fmt: skip
        borrowed = any(isinstance(a, Source) and a.entry == ARENA for a in action.inputs)

        def call() -> None:
            values = [argument() for argument in arguments]
            try:
                result = kernel(*values)
            except Conflict:  # no failure: the run is tried again
                raise
            except Exception as error:
                values = [v for v in values if v is not self.context]
                raise explained(error, step, values) from (
                    error.__cause__ if hasattr(error, "error_code") else error
                )
            results: Sequence[Any] = (result,) if action.outputs else ()
            if type(result) is tuple:  # also of one: a split into one part
                results = result
            for output, value in zip(action.outputs, results, strict=True):
                if isinstance(output, Port):
                    if borrowed and getattr(value, "base", None) is not None:
                        value = value.copy()  # it may be a view of what is overwritten next
                    self._enter(output, value)
                else:
                    self.objects[output] = value

        return call

    def _lasts(self, source: Any) -> bool:
        """Does an array stay as it is for those who hold it, beyond the step?"""
        return isinstance(source, Source) and source.entry not in self.fixed | {ARENA}

    def _argument(self, source: Any, keeps: bool) -> Any:
        if source is None:
            return lambda: self.context
        if isinstance(source, int):
            return lambda: self.objects[source]
        if source.entry == -1:
            return lambda: source.value
        return self._array(source, copy=keeps)

    def _array(self, source: Source, copy: bool) -> Any:
        """A function that gives the array."""
        if source.entry == ARENA:
            view = np.ndarray(source.shape, source.dtype, self.arena, source.offset, source.strides)
            return view.copy if copy else lambda: view
        held, entry = self.held, source.entry
        if source.whole:
            return (lambda: held[entry].copy()) if copy else lambda: held[entry]
        shape, strides, offset = source.shape, source.strides, source.offset

        def part() -> Any:
            flat = held[entry].reshape(-1)[offset // source.dtype.itemsize :]
            view = np.lib.stride_tricks.as_strided(flat, shape, strides)
            return view.copy() if copy else view

        return part

    def _output(self, source: Source, copy: bool) -> Any:
        if source.entry == -2:
            return lambda: self.objects[source.offset]
        if source.entry == -1:
            return lambda: source.value
        copy = copy or source.entry in self.fixed
        if source.whole or copy:
            return self._array(source, copy)
        held, entry, shape = self.held, source.entry, source.shape
        return lambda: held[entry].reshape(shape)

"""Build the native form of a plan for known shapes: code, one arena, and calls of kernels."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from graphflow.compile.loops.accumulate import accumulate
from graphflow.compile.loops.fuse import fuse
from graphflow.compile.loops.inline import inline
from graphflow.compile.loops.nests import Product, Unit, names_of
from graphflow.compile.loops.schedule import Schedule, schedule
from graphflow.compile.loops.specialise import Specialised, specialise
from graphflow.compile.loops.stack import in_place, stack
from graphflow.compile.loops.strips import finer, values_of
from graphflow.compile.loops.sums import split_sums, work
from graphflow.compile.loops.turned import turned
from graphflow.compile.loops.values import Foreign, Value, View, Write, reads, writes
from graphflow.compile.loops.verify import OrderCheck, verify
from graphflow.compile.native.blas import find_blas
from graphflow.compile.native.cache import ObjectCache
from graphflow.compile.native.jit import load
from graphflow.compile.native.module import FIRST, Layout, module_text
from graphflow.compile.native.places import Places, found
from graphflow.compile.native.plan import Assign, Call, NativePlan, Port, Segment, Source
from graphflow.compile.native.scalars import can_emit
from graphflow.compile.plan import TRANSFERS, Plan

_SMALL = 5_000_000  # flops of a plan below which one thread is as fast as several: 50 us
_TITLED = 3  # operations that the name of a segment tells


class Unprofitable(Exception):
    """Too little of the plan lowers."""


def build_native(
    plan: Plan,
    observed: Mapping[int, Any],
    threads: int,
    cache: ObjectCache | None = None,
    timed: bool = False,
    exact: bool = False,
    kept: Collection[str] = (),
) -> NativePlan:
    """Specialise a plan for the shapes that were observed, and compile it.

    Args:
      threads: workers at most; small plans get one.
      timed: see `module_text`.
      exact: each operation rounds for itself, and rows are added up in one way, so that bits do
        not depend on what is fused, and a plan that is cut in parts gives the same on one thread.
        Costs up to 8 % where loops do nothing but compute (W5 of the benchmarks), and nothing
        where they wait for memory.
      kept: names of steps that are left to their kernels.

    Raises:
      Unprofitable: too little lowers.
    """
    special = specialise(plan, observed, can_emit, find_blas() is not None, kept)
    return _Builder(special, threads, cache, timed, exact).build(plan)


class _Builder:
    def __init__(
        self,
        special: Specialised,
        threads: int,
        cache: ObjectCache | None,
        timed: bool,
        exact: bool,
    ):
        self.special = special
        self.timed = timed
        self.exact = exact
        self.threads = threads
        self.cache = cache
        self.entry: dict[int, int] = {}  # value outside of the arena -> entry
        self.ports: list[Any] = []
        self.constants: dict[int, Any] = {}
        self.made: dict[int, Value] = {}  # kept: new values of variables, fetches, and what is sent
        self.places: Any = None

    def build(self, plan: Plan) -> NativePlan:
        special = self.special
        kept = self._kept()
        tasks = inline(_aside(special.tasks), kept)
        tasks = turned(stack(in_place(tasks, kept), kept))
        tasks = tasks if self.exact else accumulate(tasks, kept)
        workers = 1 if sum(map(work, tasks)) < _SMALL else self.threads
        blocks = _blocks(split_sums(tasks, workers))
        after = _read_after(blocks, special.outputs)
        segments: list[Schedule] = []
        wanted: list[list[Value]] = []  # what is read behind each segment
        used: set[int] = set()  # values of segments before: no strip may take them for its own
        order: list[Any] = []
        for block in blocks:
            if isinstance(block, Foreign):
                order.append(block)
                continue
            tasks = [t for t in block if not isinstance(t, Write)]
            needed = [v for t in tasks for v in writes(t)
                      if id(v) in kept or id(v) in after[id(block)]]  # fmt: skip
            units = fuse(tasks, needed, row_buffers=True, exact=self.exact)
            if units:
                elsewhere = {i for v in needed for i in _homes(v)} | used
                segments.append(schedule(units, workers, elsewhere))
                wanted.append(needed)
                order.append(segments[-1])
                used |= {id(v) for unit in units for v in values_of(unit)}
            order += [t for t in block if isinstance(t, Write)]
        lowered = sum(len(block) for block in blocks if isinstance(block, list))
        few = lowered < len(blocks) / 2  # a call in between costs more than what it replaces
        if not segments or (few and not self.exact):
            raise Unprofitable
        check = OrderCheck()
        for segment, needed in zip(segments, wanted, strict=True):
            for unit in segment.units:
                verify(unit)
            check.run(segment.units, needed)
        self._enter_outside(kept)
        self.places = places = Places(order, segments, self.entry)
        actions = tuple([self._action(a, segments) for a in order])
        layouts = [self._layout(*each) for each in zip(segments, places.meets, strict=True)]
        text = tuple([module_text(each, places, self.timed) for each in layouts])
        codes = tuple([load(t, self.cache) for t in text])
        shared = _shared(special)
        return NativePlan(
            inputs=tuple([self._port(v) for v in special.inputs]),
            slots=tuple([port.slot for port in plan.inputs]),
            variables=tuple([(k, self._need(v)) for k, v in special.variables.items()]),
            owned=tuple([self._need(v) for v in self.made.values()]),
            sent={self.entry[i]: key for i, key in self._sent().items()},
            constants=self.constants,
            actions=actions,
            outputs=tuple([self._output(v, shared) for v in special.outputs]),
            entries=FIRST + len(self.ports),
            arena=places.arena,
            workers=workers,
            codes=codes,
            phases=tuple([len(each.phases) for each in layouts]),
            products=any(isinstance(u, Product) for s in segments for u in s.units),
            called={b.name: b.reason for b in blocks if isinstance(b, Foreign) and b.reason},
            units=tuple([s.units for s in segments]),
            titles=tuple([_title(s.units) for s in segments]),
            text=text,
        )

    # ---- outside of the arena

    def _kept(self) -> set[int]:
        for task in self.special.tasks:
            if isinstance(task, Write):
                self.made[id(task.value.value)] = task.value.value
            elif isinstance(task, Foreign) and task.step.opdef.name in TRANSFERS:
                # Who gets it may read it when the arena holds something else by then.
                self.made |= {id(v.value): v.value for v in reads(task)
                              if v.value.kind == "computed"}  # fmt: skip
        for output in self.special.outputs:
            if isinstance(output, View) and output.value.kind == "computed":
                self.made[id(output.value)] = output.value
        return set(self.made)

    def _sent(self) -> dict[int, str]:
        """Values that are sent, and otherwise only read by native code: nobody may keep them, or
        write to them, where their receiver reads them."""
        keys: dict[int, str] = {}
        others = {id(v.value) for v in self.special.outputs if isinstance(v, View)}
        for task in self.special.tasks:
            if isinstance(task, Foreign) and task.step.opdef.name == "Send":
                keys |= {id(v.value): task.step.attrs["key"] for v in reads(task)}
            elif isinstance(task, Foreign | Write):
                others |= {id(v.value) for v in reads(task)}
        return {i: key for i, key in keys.items() if i in self.made and i not in others}

    def _enter(self, value: Value) -> None:
        if id(value) not in self.entry:
            self.entry[id(value)] = FIRST + len(self.ports)
            self.ports.append(value)

    def _enter_outside(self, kept: set[int]) -> None:
        for value in (*self.special.inputs, *self.special.variables.values()):
            if value is not None:
                self._enter(value)
        for value in self.made.values():
            self._enter(value)
        for task in self.special.tasks:
            for view in reads(task):
                if view.value.kind != "computed":
                    self._enter(view.value)
            if isinstance(task, Foreign):
                for value in writes(task):
                    self._enter(value)
        for value in self.ports:
            if value.kind == "constant":
                self.constants[self.entry[id(value)]] = np.array(value.constant, order="C")

    def _need(self, value: Value) -> Port:
        return Port(self.entry[id(value)], value.shape, value.dtype)

    def _port(self, value: Value | None) -> Port | None:
        return None if value is None else self._need(value)

    # ---- inside

    def _layout(self, segment: Schedule, meets: Sequence[bool]) -> Layout:
        cuts = list(segment.cuts)
        for strip in segment.strips:
            for i in range(strip.first, strip.last + 1):
                cuts[i] = finer(cuts[i], strip.parts)
        strips = [strip[:3] for strip in segment.strips]
        workers, contracts = self.places.workers, not self.exact
        return Layout(segment.units, cuts, meets, strips, workers, contracts=contracts)

    # ---- actions

    def _action(self, action: Any, segments: Sequence[Schedule]) -> Any:
        if isinstance(action, Schedule):
            return Segment(segments.index(action))
        if isinstance(action, Write):
            return Assign(action.key, self.entry[id(action.value.value)])
        if isinstance(action, Foreign):
            inputs = tuple(
                [None if v is None else v if isinstance(v, int) else self._source(v)
                 for v in action.inputs]
            )  # fmt: skip
            outputs = tuple(
                [slot if v is None else self._need(v)
                 for slot, v in zip(action.step.outputs, action.outputs, strict=True)]
            )  # fmt: skip
            return Call(action.step, inputs, outputs)
        raise AssertionError(action)

    def _source(self, view: Any) -> Source:
        if not isinstance(view, View):
            return Source(-1, 0, (), (), None, True, view)
        size = view.dtype.itemsize
        strides = tuple([s * size for s in view.strides])
        at = found(view)
        place = self.places(at.value)
        same = view.is_whole and view.shape == view.value.shape
        same = same and at.value is view.value
        offset = place.offset + at.offset * size
        return Source(place.entry, offset, view.shape, strides, view.dtype, same)

    def _output(self, view: Any, shared: set[int]) -> tuple[Source, bool]:
        if isinstance(view, int):
            return Source(-2, view, (), (), None, True), False
        if not isinstance(view, View):
            return self._source(view), False
        value = view.value
        if value.kind == "constant":
            self._constant_entry(value)
        copy = value.kind == "constant" or id(value) in shared or not view.is_whole
        return self._source(view), copy

    def _constant_entry(self, value: Value) -> None:
        self._enter(value)
        self.constants[self.entry[id(value)]] = np.array(value.constant, order="C")


def _title(units: Sequence[Unit]) -> str:
    """The first operations of a segment, and how many more there are."""
    names = list(dict.fromkeys(n for u in units for n in names_of(u)))
    more = f" and {len(names) - _TITLED} more" if len(names) > _TITLED else ""
    return ", ".join(names[:_TITLED]) + more


def _homes(value: Value) -> list[int]:
    """Identities of a value, and of those that it is stored in."""
    found = [id(value)]
    while value.home is not None:
        value = value.home.value
        found.append(id(value))
    return found


def _aside(tasks: Sequence[Any]) -> list[Any]:
    """The tasks, in an order that has kernels' calls before and behind the native ones, where
    that makes no difference."""
    others = [t for t in tasks if isinstance(t, Foreign) and t.step.opdef.takes_ctx]
    still = all(map(_reads_state, others)) and not any(isinstance(t, Write) for t in tasks)

    def moves(task: Any) -> bool:
        """Is it a call of a kernel that depends on its inputs alone?"""
        if not isinstance(task, Foreign) or task.step.opdef.name == "Barrier":
            return False  # barriers are there for the order
        if task.step.opdef.takes_ctx:
            return still and _reads_state(task)
        return task.step.opdef.pure

    early: list[Any] = []
    rest: list[Any] = []
    made: set[Any] = set()  # in `rest`
    for task in tasks:
        free = moves(task) and made.isdisjoint(_taken(task))
        (early if free else rest).append(task)
        if not free:
            made.update(_given(task))
    middle: list[Any] = []
    late: list[Any] = []
    taken: set[Any] = set()  # in `middle`
    for task in reversed(rest):
        free = moves(task) and taken.isdisjoint(_given(task))
        (late if free else middle).append(task)
        if not free:
            taken.update(_taken(task))
    return [*early, *reversed(middle), *reversed(late)]


def _reads_state(task: Foreign) -> bool:
    return task.step.opdef.name == "ReadVariable"


def _taken(task: Any) -> list[Any]:
    """Values that a task reads; of a call also the slots, as lists are no values."""
    slots = task.step.inputs if isinstance(task, Foreign) else ()
    return [*slots, *[view.value for view in reads(task)]]


def _given(task: Any) -> list[Any]:
    """Values that a task computes; of a call also the slots."""
    return [*(task.step.outputs if isinstance(task, Foreign) else ()), *writes(task)]


def _blocks(tasks: Sequence[Any]) -> list[Any]:
    """Runs of tasks that are lowered, and foreign ones between them."""
    blocks: list[Any] = []
    for task in tasks:
        if isinstance(task, Foreign):
            blocks.append(task)
        elif blocks and isinstance(blocks[-1], list):
            blocks[-1].append(task)
        else:
            blocks.append([task])
    return blocks


def _read_after(blocks: Sequence[Any], outputs: Sequence[Any]) -> dict[int, set[int]]:
    """For each run: what is read behind it."""
    later = {id(v.value) for v in outputs if isinstance(v, View)}
    result = {}
    for block in reversed(blocks):
        if isinstance(block, list):
            result[id(block)] = set(later)
            later |= {id(v.value) for t in block for v in reads(t)}
        else:
            later |= {id(v.value) for v in reads(block)}
    return result


def _shared(special: Specialised) -> set[int]:
    """Values that more than one party gets."""
    seen: set[int] = {id(t.value.value) for t in special.tasks if isinstance(t, Write)}
    shared = set(seen)
    for output in special.outputs:
        if isinstance(output, View):
            if id(output.value) in seen:
                shared.add(id(output.value))
            seen.add(id(output.value))
    return shared

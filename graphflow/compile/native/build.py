"""Build the native form of a plan for known shapes: code, one arena, and calls of kernels."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from graphflow.compile.loops.fuse import fuse
from graphflow.compile.loops.inline import inline
from graphflow.compile.loops.listing import Names, listing
from graphflow.compile.loops.lives import Lives, row_bytes
from graphflow.compile.loops.memory import Arena, Interval, arrange
from graphflow.compile.loops.nests import Access, Product, Unit, access, names_of
from graphflow.compile.loops.overlay import overlays
from graphflow.compile.loops.schedule import Schedule, Strip, schedule
from graphflow.compile.loops.specialise import Specialised, specialise
from graphflow.compile.loops.stack import in_place, stack
from graphflow.compile.loops.strips import finer, values_of
from graphflow.compile.loops.sums import split_sums, work
from graphflow.compile.loops.turned import turned
from graphflow.compile.loops.values import Foreign, Shape, Value, View, Write, reads, writes
from graphflow.compile.loops.verify import verify, verify_order
from graphflow.compile.loops.verify_memory import MemoryCheck
from graphflow.compile.native.blas import find_blas
from graphflow.compile.native.cache import ObjectCache
from graphflow.compile.native.jit import Code, load
from graphflow.compile.native.module import ARENA, FIRST, Layout, Place, module_text
from graphflow.compile.native.scalars import can_emit
from graphflow.compile.plan import TRANSFERS, Plan, Step

_SMALL = 5_000_000  # flops of a plan below which one thread is as fast as several: 50 us
_TITLED = 3  # operations that the name of a segment tells


class Unprofitable(Exception):
    """Too little of the plan lowers."""


class Port(NamedTuple):
    """An array outside of the arena.

    Attributes:
      entry: where its address goes in the table.
      shape, dtype: what it must be.
    """

    entry: int
    shape: Shape
    dtype: np.dtype[Any]


class Source(NamedTuple):
    """Where an array is found.

    Attributes:
      entry: of the table; `ARENA` with an offset in bytes, or of a port.  -1: `value` itself.
      offset: bytes.
      shape, strides: in bytes.
      whole: is it the port's array itself?
    """

    entry: int
    offset: int
    shape: Shape
    strides: Shape
    dtype: Any
    whole: bool
    value: Any = None


class Segment(NamedTuple):
    """A native call."""

    number: int


class Call(NamedTuple):
    """A call of a reference kernel."""

    step: Step
    inputs: tuple[Any, ...]  # a Source, None for the context, or a slot that holds an object
    outputs: tuple[Any, ...]  # a Port, or a slot


class Assign(NamedTuple):
    """A variable takes the array of a port."""

    key: Any
    entry: int


@dataclass(frozen=True)
class NativePlan:
    """What `execute` needs to run a plan natively.

    Attributes:
      inputs: per input of the plan, its port; None where nothing reads it.
      slots: per input of the plan, its slot.
      variables: key and port of what is read.
      owned: ports of arrays that the step makes: new values of variables, fetches, and what other
        devices get.
      constants: entry of the table -> array.
      actions: what to do, in order.
      outputs: per output of the plan: source, and whether to copy.
      entries: size of the table.
      arena: layout of what is inside.
      workers: shares that the work is cut in.
      codes: machine code per segment.
      phases: of each segment: how often workers meet, and once more.
      products: does it call GEMM?
      called: steps that their reference kernels compute -> why.
      units: the loops of each segment.
      titles: what each segment computes, for traces.
      text: the LLVM IR of each segment.
    """

    inputs: tuple[Port | None, ...]
    slots: tuple[int, ...]
    variables: tuple[tuple[Any, Port], ...]
    owned: tuple[Port, ...]
    constants: Mapping[int, Any]
    actions: tuple[Any, ...]
    outputs: tuple[tuple[Source, bool], ...]
    entries: int
    arena: Arena
    workers: int
    codes: tuple[Code, ...]
    phases: tuple[int, ...]
    products: bool
    called: Mapping[str, str]
    units: tuple[tuple[Unit, ...], ...]
    titles: tuple[str, ...]
    text: tuple[str, ...]

    def __str__(self) -> str:
        lines = [
            f"native: {sum(map(len, self.units))} loops and products in {len(self.codes)} calls, "
            f"{self.workers} workers, arena of {self.arena.size} bytes "
            f"({self.arena.bound} are alive at once)"
        ]
        if self.called:
            lines.append(f"reference kernels: {', '.join(self.called)}")
        return "\n".join([*lines, *listing([u for s in self.units for u in s], Names())])


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
      exact: each operation rounds for itself, so that bits do not depend on what is fused, and a
        plan that is cut in parts gives the same.  Costs up to 8 % where loops do nothing but
        compute (W5 of the benchmarks), and nothing where they wait for memory.
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
        self.private: dict[int, tuple[Strip, int, int]] = {}  # of strips: place in their scratch
        self.begins: dict[int, int] = {}  # segment -> position of its first unit
        self.meets: dict[int, list[bool]] = {}  # segment -> per unit
        self.workers = 1
        self.keep: list[Any] = []  # values, so that their identities stay unique

    def build(self, plan: Plan) -> NativePlan:
        special = self.special
        kept = self._kept()
        tasks = inline(special.tasks, kept)
        tasks = turned(stack(in_place(tasks, kept), kept))
        self.workers = workers = 1 if sum(map(work, tasks)) < _SMALL else self.threads
        blocks = _blocks(split_sums(tasks, workers))
        after = _read_after(blocks, special.outputs)
        segments: list[Schedule] = []
        used: set[int] = set()  # values of segments before: no strip may take them for its own
        order: list[Any] = []
        for block in blocks:
            if isinstance(block, Foreign):
                order.append(block)
                continue
            tasks = [t for t in block if not isinstance(t, Write)]
            needed = [v for t in tasks for v in writes(t)
                      if id(v) in kept or id(v) in after[id(block)]]  # fmt: skip
            units = fuse(tasks, needed, row_buffers=True)
            if units:
                order.append(Segment(len(segments)))
                elsewhere = {i for v in needed for i in _homes(v)} | used
                segments.append(schedule(units, workers, elsewhere))
                used |= {id(v) for unit in units for v in values_of(unit)}
            order += [t for t in block if isinstance(t, Write)]
        lowered = sum(len(block) for block in blocks if isinstance(block, list))
        few = lowered < len(blocks) / 2  # a call in between costs more than what it replaces
        if not segments or (few and not self.exact):
            raise Unprofitable
        written: list[Value] = []
        for segment in segments:
            for unit in segment.units:
                verify(unit)
            verify_order(segment.units, written)
            written += segment.values
        self._enter_outside(kept)
        arena = self._arena(order, segments, workers)
        self._verify_memory(order, segments, arena)
        actions = tuple([self._action(a, arena) for a in order])
        layouts = [self._layout(segment, workers) for segment in segments]
        text = tuple([module_text(each, self._place(arena), self.timed) for each in layouts])
        codes = tuple([load(t, self.cache) for t in text])
        shared = _shared(special)
        return NativePlan(
            inputs=tuple([self._port(v) for v in special.inputs]),
            slots=tuple([port.slot for port in plan.inputs]),
            variables=tuple([(k, self._need(v)) for k, v in special.variables.items()]),
            owned=tuple([self._need(v) for v in self.made.values()]),
            constants=self.constants,
            actions=actions,
            outputs=tuple([self._output(v, arena, shared) for v in special.outputs]),
            entries=FIRST + len(self.ports),
            arena=arena,
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

    def _arena(self, order: Sequence[Any], segments: Sequence[Schedule], workers: int) -> Arena:
        """Lifetimes by position: units count one each, foreign calls too."""
        lives = Lives(set(self.entry), workers)
        for action in order:
            if isinstance(action, Segment):
                self._touch(segments[action.number], lives, workers)
            elif isinstance(action, Foreign):
                lives.touch([_found(v).value for v in reads(action)], lives.position)
                lives.advance(lives.phase + 1)
        split = frozenset[int]().union(*[s.split for s in segments])
        split -= {v for s in segments for v in map(id, s.values) if v not in s.split}
        self.keep = list(lives.values.values())
        lives.overlay(overlays(lives.units, lives.uses, split))
        arena = lives.arena(split)
        for segment in segments:
            self.meets[id(segment)] = lives.meets(self.begins[id(segment)], len(segment.units))
        return arena

    def _touch(self, segment: Schedule, lives: Lives, workers: int) -> None:
        begin, before = lives.position, lives.phase
        self.begins[id(segment)] = begin
        for number, unit in enumerate(segment.units):
            lives.advance(before + segment.phases[number])
            lives.run(unit, begin + number)
        for strip in segment.strips:
            first, last = begin + strip.first, begin + strip.last
            inner = self._scratch(segment, strip)
            for value in strip.private:
                lives.drop(value)
                at = inner.offsets[id(value)]
                self.private[id(value)] = (strip, at, inner.size)
            for number in range(strip.first, strip.last + 1):  # parts go back and forth in it
                for end in (first, last):
                    lives.touch(values_of(segment.units[number]), end, set(self.private))
            lives.hold(first, last)
            if strip.private:
                lives.reserve(id(strip), inner.size * workers, first, last)
        lives.advance(lives.phase + 1)

    def _scratch(self, segment: Schedule, strip: Strip) -> Arena:
        """Where the private values of a strip lie, in the memory that each worker has for it."""
        lives = Lives(set(), 1)
        for number in range(strip.first, strip.last + 1):
            lives.touch(values_of(segment.units[number]), number)
        private = {id(v) for v in strip.private}
        return arrange(
            [
                Interval(i.key, i.size // (self.workers * strip.parts), i.first, i.last)
                for i in lives.intervals(frozenset())
                if i.key in private
            ]
        )

    def _place(self, arena: Arena) -> Any:
        def place(value: Value) -> Place:
            entry = self.entry.get(id(value))
            if entry is not None:
                return Place(entry, 0)
            if id(value) not in self.private:
                each = row_bytes(value) if value.kind == "row" else 0
                return Place(ARENA, arena.offsets[id(value)], each)
            strip, at, size = self.private[id(value)]
            parts = strip.parts * self.workers
            at += arena.offsets[id(strip)]
            return Place(ARENA, at, size, -value.nbytes // parts)

        return place

    def _verify_memory(
        self, order: Sequence[Any], segments: Sequence[Schedule], arena: Arena
    ) -> None:
        place = self._place(arena)

        def where(value: Value) -> tuple[Any, int]:
            found = place(value)
            own = found.by_worker or found.by_share
            return (id(value), 0) if own else (found.entry, found.offset)

        check = MemoryCheck(where)
        for action in order:
            if isinstance(action, Segment):
                segment = segments[action.number]
                check.run(segment.units, segment.cuts, self.meets[id(segment)])
            elif isinstance(action, Foreign):
                inside = [_found(v).value for v in reads(action)]
                check.read([v for v in inside if id(v) not in self.entry], action.name)
                for value in writes(action):
                    check.write(value)

    def _layout(self, segment: Schedule, workers: int) -> Layout:
        cuts = list(segment.cuts)
        for strip in segment.strips:
            for i in range(strip.first, strip.last + 1):
                cuts[i] = finer(cuts[i], strip.parts)
        strips = [strip[:3] for strip in segment.strips]
        meets = self.meets[id(segment)]
        contracts = not self.exact
        return Layout(segment.units, cuts, meets, strips, workers, contracts=contracts)

    # ---- actions

    def _action(self, action: Any, arena: Arena) -> Any:
        if isinstance(action, Write):
            return Assign(action.key, self.entry[id(action.value.value)])
        if isinstance(action, Foreign):
            inputs = tuple(
                [None if v is None else v if isinstance(v, int) else self._source(v, arena)
                 for v in action.inputs]
            )  # fmt: skip
            outputs = tuple(
                [slot if v is None else self._need(v)
                 for slot, v in zip(action.step.outputs, action.outputs, strict=True)]
            )  # fmt: skip
            return Call(action.step, inputs, outputs)
        return action

    def _source(self, view: Any, arena: Arena) -> Source:
        if not isinstance(view, View):
            return Source(-1, 0, (), (), None, True, view)
        size = view.dtype.itemsize
        strides = tuple([s * size for s in view.strides])
        found = _found(view)
        entry, at = self._place(arena)(found.value)[:2]
        same = view.is_whole and view.shape == view.value.shape
        same = same and found.value is view.value
        return Source(entry, at + found.offset * size, view.shape, strides, view.dtype, same)

    def _output(self, view: Any, arena: Arena, shared: set[int]) -> tuple[Source, bool]:
        if isinstance(view, int):
            return Source(-2, view, (), (), None, True), False
        if not isinstance(view, View):
            return self._source(view, arena), False
        value = view.value
        if value.kind == "constant":
            self._constant_entry(value)
        copy = value.kind == "constant" or id(value) in shared or not view.is_whole
        return self._source(view, arena), copy

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


def _found(view: View) -> Access:
    """Where a view lies: its value may be part of another."""
    return access(view.value, view.strides, view.offset)

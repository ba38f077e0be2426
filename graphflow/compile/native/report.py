"""What became of a plan: what was fused, what was not lowered and why, memory, and the code."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from graphflow.base.shapes import format_dims
from graphflow.compile.cuda import NoSource
from graphflow.compile.loops.cuda import cuda_kernel
from graphflow.compile.loops.listing import Names, listing
from graphflow.compile.loops.nests import Nest, Unit, names_of
from graphflow.compile.loops.values import Shape
from graphflow.compile.native.jit import assembly
from graphflow.compile.native.plan import NativePlan
from graphflow.compile.plan import Plan


@dataclass(frozen=True)
class Report:
    """One plan, for one combination of shapes.

    Attributes:
      plan: the steps.
      status: what runs them, and why.
      shapes: of the plan's inputs, where they are known.
      native: the native form, or None.
    """

    plan: Plan
    status: str
    shapes: tuple[Shape, ...] = ()
    native: NativePlan | None = None

    def __str__(self) -> str:
        lines = [f"{len(self.plan.steps)} steps: {self.status}"]
        lines += [
            f"  {port.name!r} {format_dims(shape)}"
            for port, shape in zip(self.plan.inputs, self.shapes, strict=False)
        ]
        if self.native is not None:
            lines += ["", self.summary, "", *self._fused(), "", self.memory]
        return "\n".join(lines)

    @property
    def summary(self) -> str:
        """Counts, and what is left to reference kernels: why, and the user's lines."""
        native = self.native
        if native is None:
            return self.status
        units = sum(map(len, native.units))
        lowered = len(self.plan.steps) - len(native.called)
        lines = [
            f"{lowered} steps became {units} loops and products in {len(native.codes)} native "
            f"calls, shared by {native.workers} threads"
        ]
        if native.called:
            lines.append(f"{len(native.called)} steps call their reference kernels:")
            where = {step.name: step for step in self.plan.steps}
            for name, why in native.called.items():
                step = where[name]
                lines.append(f"  {step.opdef.name} {name!r}: {why}; {_first(step.where)}")
        return "\n".join(lines)

    def _fused(self) -> Iterator[str]:
        """Each unit, and the user's lines that it computes."""
        where = {step.name: step for step in self.plan.steps}
        for number, (unit, text) in enumerate(zip(self._units, self._listing, strict=True)):
            yield f"#{number} {text}"
            for name in names_of(unit):
                step = where.get(name.removesuffix("/total"))
                if step is not None:
                    yield f"    | {step.opdef.name} {name!r} {_first(step.where)}"

    @property
    def ir(self) -> str:
        """The loop IR."""
        return "\n".join(self._listing)

    @property
    def memory(self) -> str:
        """The arena: where each value lies, and when it is alive: loops, products and calls of
        kernels count one each."""
        if self.native is None:
            return ""
        arena = self.native.arena
        ratio = arena.size / arena.bound if arena.bound else 1.0
        lines = [
            f"arena of {arena.size} bytes; {arena.bound} are alive at the worst moment: "
            f"{ratio:.3f} of the least there can be"
        ]
        names = self._value_names
        heirs: dict[int, list[str]] = {}
        for key, root in arena.roots.items():
            heirs.setdefault(root, []).append(names.get(key, "?"))
        for each in sorted(arena.intervals, key=lambda i: (arena.offsets[i.key], i.first)):
            at = arena.offsets[each.key]
            lines.append(
                f"  bytes {at}..{at + each.size}: "
                f"{', in place '.join([names.get(each.key, '?'), *heirs.get(each.key, ())])}, "
                f"alive at {each.first}..{each.last}"
            )
        return "\n".join(lines)

    @property
    def llvm(self) -> str:
        """The LLVM IR of all native calls."""
        return "\n".join(self.native.text) if self.native else ""

    @property
    def assembly(self) -> str:
        """The machine code, as text; it is compiled anew for this."""
        return "\n".join(assembly(text) for text in self.native.text) if self.native else ""

    @property
    def cuda(self) -> str:
        """The loops as CUDA C++; products would be calls of a library."""
        parts = []
        for number, unit in enumerate(self._units):
            if isinstance(unit, Nest):
                try:
                    parts.append(cuda_kernel(unit, f"nest{number}").source)
                except NoSource as error:
                    parts.append(f"// nest{number}: {error}\n")
        return "\n".join(parts)

    @property
    def _units(self) -> list[Unit]:
        return [u for segment in self.native.units for u in segment] if self.native else []

    @property
    def _listing(self) -> list[str]:
        return listing(self._units, Names())

    @property
    def _value_names(self) -> dict[int, str]:
        names = Names()
        listing(self._units, names)
        return names.known


@dataclass(frozen=True)
class Reports:
    """What `session.explain` gives; it prints as text.

    Attributes:
      reports: one per device and combination of shapes.
      sent: what workers send each other in each step, as text.
    """

    reports: tuple[Report, ...]
    sent: tuple[str, ...] = ()

    def __str__(self) -> str:
        parts = [str(report) for report in self.reports]
        if self.sent:
            parts.append("\n  ".join(["sent between workers:", *self.sent]))
        return "\n\n".join(parts)

    def __iter__(self) -> Iterator[Report]:
        return iter(self.reports)


def _first(where: str) -> str:
    """The first of several lines."""
    first, _, rest = where.partition("\n")
    return f"{first} and {rest.count(chr(10)) + 1} more lines" if rest else first

"""Lower operations in order to a plan: number the slots, free them early, compile the bodies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from graphflow.base.errors import InvalidArgumentError
from graphflow.base.shapes import format_dims
from graphflow.base.state import StateKey
from graphflow.build.body import Body, Selection
from graphflow.build.tensor import Operation, Tensor
from graphflow.compile.plan import CONTEXT, Input, Output, Plan, Step
from graphflow.compile.sharing import Sharing
from graphflow.ops.bodies import restricted
from graphflow.rewrite import prune, rewrite
from graphflow.rewrite.effects import touches
from graphflow.rewrite.subgraph import NONE

_MOST_LINES = 8  # that one step names


def compile_plan(
    order: Sequence[Operation],
    inputs: Sequence[Tensor],
    fetches: Sequence[Tensor],
    origins: Mapping[Operation, tuple[Operation, ...]] = NONE,
) -> Plan:
    """The plan that computes `fetches` from `inputs` by executing `order`.

    Args:
      order: operations, each after those whose values it takes.
      inputs: tensors whose values are handed in, in this order.
      fetches: tensors whose values are handed out, in this order.
      origins: see `Subgraph.origins`.

    Raises:
      InvalidArgumentError: a placeholder among the operations has no value; names its line.
    """
    return _Lowering(order, inputs, fetches, origins).plan()


class _Lowering:
    def __init__(
        self,
        order: Sequence[Operation],
        inputs: Sequence[Tensor],
        fetches: Sequence[Tensor],
        origins: Mapping[Operation, tuple[Operation, ...]],
    ):
        self.order = order
        self.origins = origins
        self.inputs = tuple(inputs)
        self.fetches = tuple(fetches)
        self.slots: dict[Tensor, int] = {}
        self.size = CONTEXT + 1
        self.constants: dict[int, Any] = {}
        self.read = {*self.fetches, *[t for operation in order for t in operation.inputs]}

    def plan(self) -> Plan:
        given = set(self.inputs)
        sharing = Sharing(self.order, self.inputs)
        ports = tuple(
            Input(self._slot(t), t.name, t.dtype, t.dims, sharing.is_kept(t)) for t in self.inputs
        )
        steps = self._steps(given)
        shared = sharing.shared(self.fetches, given)
        outputs = tuple(
            Output(self.slots[t], copy) for t, copy in zip(self.fetches, shared, strict=True)
        )
        return Plan(
            steps=self._with_frees(steps, {o.slot for o in outputs}),
            size=self.size,
            inputs=ports,
            outputs=outputs,
            constants=self.constants,
            segments=_segments(steps),
        )

    def _slot(self, tensor: Tensor) -> int:
        if tensor not in self.slots:
            self.slots[tensor] = self.size
            self.size += 1
        return self.slots[tensor]

    def _steps(self, given: set[Tensor]) -> list[Step]:
        steps: list[Step] = []
        for operation in self.order:
            if operation.outputs and all(t in given for t in operation.outputs):
                continue
            opdef = operation.opdef
            if opdef.name == "Const":
                self.constants[self._slot(operation.outputs[0])] = operation.attrs["value"]
            elif opdef.name == "VarHandle":
                key = StateKey(operation.attrs["container"], operation.attrs["shared_name"])
                self.constants[self._slot(operation.outputs[0])] = key
            elif opdef.kernel is None:
                raise _unfed(operation)
            else:
                steps.append(self._step(operation, given))
        return steps

    def _step(self, operation: Operation, given: set[Tensor]) -> Step:
        before = (CONTEXT,) if operation.opdef.takes_ctx else ()
        inputs = [self.slots[t] for t in operation.inputs]
        used = {t.index for t in operation.outputs if t in self.read}
        outputs = []
        for tensor in operation.outputs:
            if tensor in given:  # fed, while other outputs are needed: the result goes nowhere
                outputs.append(self.size)
                self.size += 1
            else:
                outputs.append(self._slot(tensor))
        return Step(
            operation.opdef,
            (*before, *inputs),
            tuple(outputs),
            _lower_bodies(restricted(operation, used)),
            (),
            operation.name,
            self._where(operation),
        )

    def _where(self, operation: Operation) -> str:
        """The user's line, or all lines that rewriting has made one operation of."""
        lines = {str(operation.site): ""}
        for origin in self.origins.get(operation, ()):
            lines.setdefault(str(origin.site), f"  and {origin.name!r} at ")
        return "\n".join([how + line for line, how in list(lines.items())[:_MOST_LINES]])

    def _with_frees(self, steps: list[Step], kept: set[int]) -> tuple[Step, ...]:
        """Free each slot after its last reader, or at once where it has none."""
        last: dict[int, int] = {}
        for i, step in enumerate(steps):
            for slot in (*step.outputs, *step.inputs):
                last[slot] = i
        frees: list[list[int]] = [[] for _ in steps]
        for slot, i in last.items():
            if slot != CONTEXT and slot not in kept and slot not in self.constants:
                frees[i].append(slot)
        return tuple(
            step._replace(frees=tuple(free)) if free else step
            for step, free in zip(steps, frees, strict=True)
        )


def _lower_bodies(attrs: Mapping[str, Any]) -> Mapping[str, Any]:
    """The attributes, with plans where there were bodies."""
    return {name: _lower_body(value) for name, value in attrs.items()}


def _lower_body(value: Any) -> Any:
    if isinstance(value, (Body, Selection)):
        return _compile_body(value)
    if type(value) is tuple and any(isinstance(v, Body) for v in value):
        return tuple(_lower_body(v) for v in value)
    return value


def _compile_body(body: Body | Selection) -> Plan:
    """The plan of a body on values for its inputs and then its captures.

    Whatever has an effect runs when the body runs, also where no output depends on it.
    """
    arguments = [*body.inputs, *body.captures.values()]
    effects = [op for op in body.operations if has_effect(op)]
    graph = body
    while isinstance(graph, Selection):
        graph = graph.body
    view = rewrite(prune(graph, body.outputs, effects, arguments))
    return compile_plan(view.order, arguments, view.fetches, view.origins)


def has_effect(operation: Operation) -> bool:
    """Does running it change anything, also in the bodies it owns?  Reading does not."""
    return any(touch.kind != "read" for touch in touches(operation))


def _segments(steps: Sequence[Step]) -> tuple[tuple[int, int], ...]:
    cuts = [i + 1 for i, step in enumerate(steps) if step.opdef.dynamic]
    bounds = sorted({0, *cuts, len(steps)})
    return tuple(pairwise(bounds))


def _unfed(operation: Operation) -> InvalidArgumentError:
    tensor = operation.outputs[0]
    shape = "" if tensor.dims is None else f" and shape {format_dims(tensor.dims)}"
    error = InvalidArgumentError(
        operation.name,
        operation,
        f"You must feed a value for placeholder tensor {operation.name!r} with dtype "
        f"{tensor.dtype.name}{shape}: pass it in feed_dict",
    )
    error.add_note(f"placeholder {operation.name!r} built at {operation.site}")
    return error

"""Specialise: a plan and the shapes that its slots held become tasks over values.

What depends on shapes alone is computed here; views cost nothing; each step either lowers by a
rule, or remains a call of its reference kernel.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from graphflow.base.state import StateKey
from graphflow.compile.loops.fills import FILLS
from graphflow.compile.loops.gathering import GATHERS, added
from graphflow.compile.loops.images import IMAGES
from graphflow.compile.loops.random import draw
from graphflow.compile.loops.reasons import reason
from graphflow.compile.loops.rules import RULES
from graphflow.compile.loops.slices import SLICES
from graphflow.compile.loops.values import (
    Foreign,
    Map,
    Multiply,
    Shape,
    Task,
    Value,
    View,
    Write,
    broadcast,
    reads,
    whole,
    writes,
)
from graphflow.compile.plan import CONTEXT, TRANSFERS, Plan, Step
from graphflow.ops.expression import Node, compute, scalar_expression

_RULES = {**RULES, **IMAGES, **SLICES, **GATHERS, **FILLS}
_SCATTERS = {"ScatterAdd": "add", "ScatterSub": "subtract"}
_FOLDED = 65536  # elements at most of what is computed here
_OF_SHAPES = frozenset({"Shape", "ShapeN", "Size", "Rank"})
_ONLY_READ = frozenset({"ReadVariable", "IsVariableInitialized"})
_STATELESS = frozenset({"Print", *TRANSFERS})
_DTYPES = frozenset(["float32", "float64", "int8", "int16", "int32", "int64", "uint8", "bool"])


@dataclass(frozen=True, slots=True)
class Specialised:
    """A plan for known shapes.

    Attributes:
      tasks: in order.
      inputs: per input of the plan, its value, or None where it is no plain array.
      variables: key -> the value it has before the step.
      outputs: per output of the plan, a view, or what the slot holds as a constant.
    """

    tasks: tuple[Task, ...]
    inputs: tuple[Value | None, ...]
    variables: Mapping[Any, Value]
    outputs: tuple[Any, ...]


def specialise(
    plan: Plan,
    observed: Mapping[int, tuple[Shape, np.dtype[Any]]],
    lowers: Any = None,
    products: bool = True,
    kept: Collection[str] = (),
) -> Specialised:
    """Tasks that compute a plan on inputs of the observed shapes.

    Args:
      plan: what to compute.
      observed: slot -> shape and dtype of the array that it held in a run.
      lowers: expression -> can code be generated for it; None: all can.
      products: is there a GEMM?
      kept: names of steps that their kernels compute; what such a one reads of a variable may be
        something else than an array.
    """
    return _Specialiser(plan, observed, lowers or (lambda _: True), products, kept).result()


class _Specialiser:
    def __init__(
        self,
        plan: Plan,
        observed: Mapping[int, Any],
        lowers: Any,
        products: bool,
        kept: Collection[str],
    ):
        self.plan = plan
        self.kept = kept
        self.products = products
        self.unfolded: dict[Any, Any] = {}  # rows of images that products share
        self.pooled: dict[Any, View] = {}  # images and maxima -> which tap was the maximum
        self.products_of: dict[int, Multiply] = {}
        self.observed = observed
        self.lowers = lowers
        self.tasks: list[Task] = []
        self.views: dict[int, Any] = {}  # slot -> View, or the object of a constant
        self.variables: dict[Any, Value] = {}
        self.state: dict[Any, View] = {}  # variable -> its value now
        self.written: set[Any] = set()  # variables that a kernel has written
        self.all_written = False  # may a kernel have written any of them?

    def result(self) -> Specialised:
        for slot, value in self.plan.constants.items():
            self.views[slot] = self.constant(value) if _plain(value) else value
        inputs: list[Value | None] = []
        for port in self.plan.inputs:
            value = self._outside(port.slot)
            inputs.append(value)
            self.views[port.slot] = port.slot if value is None else whole(value)
        for step in self.plan.steps:
            self._step(step)
        outputs = tuple(self.views[o.slot] for o in self.plan.outputs)
        tasks = _needed(self.tasks, outputs)
        return Specialised(tuple(tasks), tuple(inputs), self.variables, outputs)

    # ---- what rules use

    def constant(self, array: Any) -> View:
        """A view of a constant; one element stretched, where all are the same."""
        array = np.asarray(array)
        dense = np.ascontiguousarray(array).reshape(array.shape)
        bits = dense.reshape(-1, 1).view(np.uint8)  # 0.0 and -0.0 are equal, but not the same
        if array.size > 1 and bool((bits == bits[0]).all()):
            one = Value((), array.dtype, "constant", constant=dense.flat[0])
            return View(one, array.shape, (0,) * array.ndim)
        return whole(Value(array.shape, array.dtype, "constant", constant=dense))

    def spec(self, slot: int) -> tuple[Shape, np.dtype[Any]] | None:
        """Shape and dtype of an output, where it is a plain array."""
        found = self.observed.get(slot)
        return found if found is not None and found[1].name in _DTYPES else None

    def map(self, shape: Shape, inputs: Any, body: Node, name: str) -> View | None:
        """The expression of views, stretched to the shape."""
        stretched = [broadcast(v, shape) for v in inputs]
        if any(v is None for v in stretched) or not self.lowers(body):
            return None
        out = Value(shape, body.dtype)
        views, body = _with_constants(stretched, body)
        if not views:  # the same number everywhere
            with np.errstate(all="ignore"):
                number = np.asarray(compute(body, ()))
            one = Value((), body.dtype, "constant", constant=number[()])
            return View(one, shape, (0,) * len(shape))
        self.tasks.append(Map(out, tuple(views), body, name))
        return whole(out)

    def copied(self, view: View, name: str, home: View | None = None) -> Value:
        """A dense copy of a view; `home`: stored as part of another value."""
        out = Value(view.shape, view.dtype, home=home)
        views, body = _with_constants([view], Node("arg", (), view.dtype, 0))
        self.tasks.append(Map(out, tuple(views), body, name))
        return out

    def multiply(self, task: Multiply) -> View:
        """As `add`; sums of products find it again."""
        self.products_of[id(task.out)] = task
        return self.add(task)

    def add(self, task: Task) -> View:
        self.tasks.append(task)
        return whole(writes(task)[0])

    def before(self, step: Step, shape: Any, out: Value) -> View:
        """What a kernel computes before everything else; `shape` is its only input."""
        self.tasks.insert(0, Foreign(step, (None, shape), (out,), step.name))
        return whole(out)

    def static(self, view: Any) -> Any:
        """The array of a constant, or None."""
        if not isinstance(view, View) or view.value.kind != "constant":
            return None
        array = view.value.constant
        strides = [s * array.itemsize for s in view.strides]
        flat = np.asarray(array).reshape(-1)[view.offset :]
        return np.lib.stride_tricks.as_strided(flat, view.shape, strides, writeable=False)

    # ---- steps

    def _outside(self, slot: int) -> Value | None:
        spec = self.spec(slot)
        return None if spec is None else Value(*spec, "outside", slot)

    def _step(self, step: Step) -> None:
        arguments = [self.views.get(s) for s in step.inputs if s != CONTEXT]
        outputs = None
        if step.opdef.name == "NoOp":
            return
        if step.name in self.kept:
            self._foreign(step, arguments, plain=step.opdef.name != "ReadVariable")
            return
        if self._state(step, arguments):
            return
        if not step.opdef.takes_ctx:
            outputs = self._folded(step, arguments)
            if outputs is None and all(isinstance(a, View) for a in arguments):
                outputs = self._lowered(step, [a for a in arguments if a is not None])
        elif step.opdef.random:
            outputs = draw(self, step, arguments)
        if outputs is None:
            self._foreign(step, arguments)
            return
        for slot, view in zip(step.outputs, outputs, strict=True):
            self.views[slot] = view

    def _lowered(self, step: Step, arguments: list[View]) -> Any:
        specs = [self.spec(s) for s in step.outputs]
        if None in specs or any(a.dtype.name not in _DTYPES for a in arguments):
            return None
        mark = len(self.tasks)
        rule = _RULES.get(step.opdef.name)
        if step.opdef.elementwise:
            if rule is not None and (views := rule(self, step, arguments, specs)) is not None:
                return views
            body = scalar_expression(step.opdef, [a.dtype for a in arguments], **step.attrs)
            shape, dtype = specs[0]  # type: ignore[misc]
            if body is None or body.dtype != dtype:
                return None
            view = self.map(shape, arguments, body, step.name)
            return None if view is None else [view]
        views = None if rule is None else rule(self, step, arguments, specs)
        if views is not None:
            found = [None if v is None else (v.shape, v.dtype) for v in views]
            if found == specs:
                return views
        del self.tasks[mark:]
        self.unfolded.clear()
        self.pooled.clear()
        return None

    def _folded(self, step: Step, arguments: list[Any]) -> Any:
        """Outputs of a step that depends on shapes and constants only."""
        if not step.opdef.pure or step.opdef.kernel is None or step.opdef.random:
            return None
        if step.opdef.name in _OF_SHAPES:
            if not all(isinstance(a, View) for a in arguments):
                return None
            values = [np.broadcast_to(np.zeros((), a.dtype), a.shape) for a in arguments]
        else:
            specs = [self.observed.get(s) for s in step.outputs]
            if any(s is None or np.prod(s[0], dtype=float) > _FOLDED for s in specs):
                return None
            values = [self.static(a) for a in arguments]
            if any(v is None for v in values) or not arguments:
                return None
        with np.errstate(all="ignore"):
            result = step.opdef.kernel(np, *values, **step.attrs)
        results = list(result) if type(result) is tuple else [result]
        return [self.constant(r) if _plain(r) else r for r in results]

    def _state(self, step: Step, arguments: list[Any]) -> bool:
        """Reads and writes of variables; True where they are taken care of."""
        name = step.opdef.name
        if not arguments or not isinstance(arguments[0], StateKey):
            return False
        key = arguments[0]
        spec = self.spec(step.outputs[0])
        if spec is None:
            return False
        if key not in self.state and (self.all_written or key in self.written):
            return False
        if name == "ReadVariable":
            self.views[step.outputs[0]] = self._read(key, spec)
            return True
        if name in _SCATTERS:
            return self._scatter(step, arguments, spec)
        value = arguments[1] if len(arguments) > 1 else None
        if not isinstance(value, View) or value.value.kind == "constant" or not value.size:
            return False
        if name in ("AssignAddVariable", "AssignSubVariable"):
            entry = "add" if name == "AssignAddVariable" else "subtract"
            args = tuple([Node("arg", (), spec[1], i) for i in range(2)])
            if value.dtype != spec[1]:
                return False
            old = self._read(key, spec)
            new = self.map(spec[0], [old, value], Node(entry, args, spec[1]), step.name)
            if new is None:
                return False
            value = new
        elif name != "AssignVariable":
            return False
        same = value.is_whole and value.shape == value.value.shape  # what is kept is the value
        if value.value.kind != "computed" or not same:
            value = whole(self.copied(value, step.name))
        self._written(step, key, value)
        return True

    def _scatter(self, step: Step, arguments: list[Any], spec: tuple[Shape, Any]) -> bool:
        """Updates of a variable's rows."""
        key, index, updates = arguments
        if not (isinstance(index, View) and isinstance(updates, View)):
            return False
        op = _SCATTERS[step.opdef.name]
        value = added(self, self._read(key, spec), index, updates, spec, step.name, op)
        if value is None:
            return False
        self._written(step, key, value)
        return True

    def _written(self, step: Step, key: Any, value: View) -> None:
        self.tasks.append(Write(key, value, step.name))
        self.state[key] = value
        self.views[step.outputs[0]] = value

    def _read(self, key: Any, spec: tuple[Shape, np.dtype[Any]]) -> View:
        if key not in self.state:
            self.variables[key] = Value(*spec, "outside")
            self.state[key] = whole(self.variables[key])
        return self.state[key]

    def _foreign(self, step: Step, arguments: list[Any], plain: bool = True) -> None:
        """Let the reference kernel compute it; `plain`: it gives arrays."""
        inputs = tuple([None if s == CONTEXT else self.views.get(s, s) for s in step.inputs])
        outputs: list[Value | None] = []
        for slot in step.outputs:
            value = self._outside(slot) if plain else None
            outputs.append(value)
            self.views[slot] = slot if value is None else whole(value)
        why = ""
        if step.opdef.name != "Barrier":
            has_rule = step.opdef.name in _RULES
            why = reason(step, arguments, _DTYPES, has_rule, self.lowers)
        self.tasks.append(Foreign(step, inputs, tuple(outputs), step.name, why))
        self._forget(step, inputs)

    def _forget(self, step: Step, inputs: tuple[Any, ...]) -> None:
        """What a kernel may have written is read again."""
        entry = step.opdef
        if not entry.takes_ctx or entry.random or entry.name in _ONLY_READ:
            return
        keys = [v for v in inputs if isinstance(v, StateKey)]
        if entry.writes and keys:
            self.state.pop(keys[0], None)
            self.written.add(keys[0])
        elif entry.name not in _STATELESS:
            self.state.clear()
            self.all_written = True


def _plain(value: Any) -> bool:
    return isinstance(value, (np.ndarray, np.generic)) and value.dtype.name in _DTYPES


def _with_constants(views: Any, body: Node) -> tuple[list[View], Node]:
    """Scalars that are constants become constants of the expression."""
    kept: list[View] = []
    done: dict[int, Node] = {}
    leaves: dict[int, Node] = {}
    for i, view in enumerate(views):
        dtype = view.dtype
        if view.value.kind == "constant" and view.value.size == 1:
            leaves[i] = Node("const", (), dtype, view.value.constant[()].item())
        else:
            leaves[i] = Node("arg", (), dtype, len(kept))
            kept.append(view)

    def replaced(node: Node) -> Node:
        if id(node) not in done:
            if node.op == "arg":
                done[id(node)] = leaves[node.value]
            elif node.args:
                args = tuple([replaced(a) for a in node.args])
                done[id(node)] = Node(node.op, args, node.dtype, node.value)
            else:
                done[id(node)] = node
        return done[id(node)]

    return kept, replaced(body)


def _needed(tasks: list[Task], outputs: tuple[Any, ...]) -> list[Task]:
    """The tasks that an output or an effect depends on."""
    wanted = {id(v.value) for v in outputs if isinstance(v, View)}
    slots = {v for v in outputs if isinstance(v, int)}
    kept: list[Task] = []
    for task in reversed(tasks):
        if isinstance(task, Foreign):
            keep = (
                not task.step.opdef.pure
                or task.step.opdef.takes_ctx
                or task.step.opdef.name == "Barrier"
                or any(s in slots for s in task.step.outputs)
                or any(id(v) in wanted for v in writes(task))
            )
        else:
            keep = isinstance(task, Write) or any(id(v) in wanted for v in writes(task))
        if keep:
            kept.append(task)
            wanted |= {id(v.value) for v in reads(task)}
            if isinstance(task, Foreign):
                slots |= {v for v in task.inputs if isinstance(v, int)}
    return kept[::-1]

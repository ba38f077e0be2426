"""Rules whose two sides are ordinary expressions: `(-(-x), lambda x: x)`.

An expression on wildcards is a `Term`.  The left side is matched against the graph; the right
side, a function of the wildcards of those names, is called with what they stand for and gives a
term again, of which operations are made.  It may give None to decline, and it may look at
`.dtype`, `.dims` and `.tensor` of what it is called with.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from graphflow.base.dtypes import DType
from graphflow.base.shapes import Dims
from graphflow.build.opdef import OPS
from graphflow.build.tensor import Operation, Tensor
from graphflow.rewrite.draft import Draft, fits, walk
from graphflow.rewrite.subgraph import Subgraph

Build = Callable[..., Any]
LIMIT = 50  # replacements of one output, so that rules which undo each other come to an end
COMMUTATIVE = frozenset({"Add", "Mul", "LogicalAnd", "LogicalOr"})  # bitwise, NaN payload aside


@dataclass(frozen=True, eq=False)
class Term:
    """An expression: a wildcard (`name`), a number, a tensor of the graph, or an op on terms."""

    op: str = ""
    args: tuple[Term, ...] = ()
    attrs: Mapping[str, Any] = field(default_factory=dict)
    name: str = ""
    number: Any = None
    found: Tensor | None = None

    @property
    def tensor(self) -> Tensor:
        """What a wildcard stands for."""
        assert self.found is not None
        return self.found

    @property
    def dtype(self) -> DType:
        return self.tensor.dtype

    @property
    def dims(self) -> Dims:
        return self.tensor.dims

    def __neg__(self) -> Term:
        return call("Neg", self)

    def __add__(self, other: Any) -> Term:
        return call("Add", self, other)

    def __radd__(self, other: Any) -> Term:
        return call("Add", other, self)

    def __sub__(self, other: Any) -> Term:
        return call("Sub", self, other)

    def __rsub__(self, other: Any) -> Term:
        return call("Sub", other, self)

    def __mul__(self, other: Any) -> Term:
        return call("Mul", self, other)

    def __rmul__(self, other: Any) -> Term:
        return call("Mul", other, self)

    def __truediv__(self, other: Any) -> Term:
        return call("RealDiv", self, other)

    def __rtruediv__(self, other: Any) -> Term:
        return call("RealDiv", other, self)

    def __pow__(self, other: Any) -> Term:
        return call("Pow", self, other)


def wildcard(name: str) -> Term:
    """Anything; the same thing wherever it stands in one pattern."""
    return Term(name=name)


def call(op: str, *args: Any, **attrs: Any) -> Term:
    """An op on terms and numbers; in a pattern, attributes that are not given may be any."""
    terms = tuple([a if isinstance(a, Term) else Term(number=a) for a in args])
    return Term(op, terms, attrs)


class Rule:
    """A pattern and what to put in its place."""

    def __init__(self, pattern: Term, build: Build):
        self.pattern = pattern
        self.build = build
        self.wants_op = "op" in inspect.signature(build).parameters

    def __call__(self, operation: Operation, draft: Draft) -> Term | None:
        found: dict[str, Tensor] = {}
        if not _matches_op(self.pattern, operation, found, draft):
            return None
        bound = {name: Term(found=tensor) for name, tensor in found.items()}
        if self.wants_op:
            return self.build(op=operation, **bound)
        return self.build(**bound)


class Rules:
    """A table of rules, indexed by the op at their root."""

    def __init__(self, *rules: tuple[Term, Build]):
        self.by_op: dict[str, list[Rule]] = {}
        for pattern, build in rules:
            for variant in _variants(pattern):
                self.by_op.setdefault(variant.op, []).append(Rule(variant, build))

    def __call__(self, view: Subgraph) -> Subgraph:
        """Apply the rules, inputs first, until none fits."""
        return walk(view, self._simplified)

    def _simplified(self, operation: Operation, draft: Draft) -> Sequence[Tensor] | None:
        if operation.type not in self.by_op or len(operation.outputs) != 1:
            return None
        root = tensor = operation.outputs[0]
        for _ in range(LIMIT):
            better = self._step(tensor, draft)
            if better is None:
                break
            tensor = better
        return None if tensor is root else (tensor,)

    def _step(self, tensor: Tensor, draft: Draft) -> Tensor | None:
        operation = tensor.op
        if not draft.is_open(tensor):
            return None
        for rule in self.by_op.get(operation.type, ()):
            term = rule(operation, draft)
            if term is None:
                continue
            made: list[Operation] = []
            new = _instantiate(term, operation, draft, made)
            if new is not tensor and fits(operation, (new,)):
                for inner in made:
                    draft.add(inner)
                return new
        return None


def _variants(pattern: Term) -> Iterable[Term]:
    """The pattern, and with the two sides swapped where its op does not mind."""
    yield pattern
    if pattern.op in COMMUTATIVE and len(pattern.args) == 2:
        yield Term(pattern.op, pattern.args[::-1], pattern.attrs)


def _matches_op(
    pattern: Term, operation: Operation, found: dict[str, Tensor], draft: Draft
) -> bool:
    """Has the operation the pattern's form?  Fills in what the wildcards stand for."""
    if operation.type != pattern.op or len(operation.inputs) != len(pattern.args):
        return False
    attrs = operation.attrs
    if any(attrs[k] != v for k, v in pattern.attrs.items()):
        return False
    return all(
        _matches(part, tensor, found, draft, operation)
        for part, tensor in zip(pattern.args, operation.inputs, strict=True)
    )


def _matches(
    pattern: Term, tensor: Tensor, found: dict[str, Tensor], draft: Draft, root: Operation
) -> bool:
    if pattern.name:
        return found.setdefault(pattern.name, tensor) is tensor
    if not draft.is_open(tensor):
        return False
    if pattern.number is not None:
        return is_number(tensor, pattern.number, root)
    return _matches_op(pattern, tensor.op, found, draft)


def is_number(tensor: Tensor, number: float, root: Operation | None = None) -> bool:
    """Is it a constant whose elements all are that number, the sign of zero included?

    Where the rank of the result is unknown, one of a higher rank might broadcast the other
    operand; then only a scalar will do.
    """
    if tensor.op.type != "Const":
        return False
    value = tensor.op.attrs["value"]
    if not value.size or (value.dtype == bool) is not isinstance(number, bool):
        return False
    if value.dtype == object or value.dtype.kind == "c":  # no rule of ours is exact for these
        return False
    if value.ndim and root is not None and root.outputs[0].dims is None:
        return False
    if value.ravel()[0] != number or not (value == number).all():
        return False
    return number != 0 or value.dtype.kind in "bui" or _signs(value) == {_negative(number)}


def _signs(value: Any) -> set[bool]:
    return set(np.signbit(value).ravel().tolist())


def _negative(number: float) -> bool:
    return bool(np.signbit(number))


def _instantiate(
    term: Term, like: Operation, draft: Draft, made: list[Operation], inner: bool = False
) -> Tensor:
    """The tensor of a term: what a wildcard stands for, or the output of a new operation."""
    if term.found is not None:
        return term.found
    if term.number is not None:
        value = np.asarray(term.number, like.outputs[0].dtype.np)
        value.flags.writeable = False
        name = draft.unique(f"{like.name}/Const")
        new = draft.make(OPS["Const"], (), {"value": value}, like, name)
    else:
        inputs = tuple([_instantiate(a, like, draft, made, True) for a in term.args])
        name = draft.unique(f"{like.name}/{term.op}") if inner else like.name
        new = draft.make(OPS[term.op], inputs, term.attrs, like, name)
    made.append(new)
    return new.outputs[0]

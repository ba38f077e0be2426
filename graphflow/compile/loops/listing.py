"""The loop IR as text, with one name per value throughout a step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from graphflow.compile.loops.nests import Access, Nest, Pass, Product, Unit
from graphflow.compile.loops.sums import replace
from graphflow.compile.loops.values import Value
from graphflow.ops.expression import Node, show

_LETTERS = {"computed": "t", "outside": "x", "constant": "c", "index": "i", "row": "s"}


class Names:
    """Names of values, given when they are first asked for.

    t0, t1 ... are computed, x0 ... handed in, c0 ... constants, i0 ... indices.

    Attributes:
      known: identity of a value -> its name.
    """

    def __init__(self) -> None:
        self.known: dict[int, str] = {}
        self._counts: dict[str, int] = {}

    def __call__(self, value: Value) -> str:
        name = self.known.get(id(value))
        if name is None:
            letter = _LETTERS[value.kind]
            number = self._counts.get(letter, 0)
            self._counts[letter] = number + 1
            name = self.known[id(value)] = f"{letter}{number}"
        return name


def listing(units: Sequence[Unit], names: Names) -> list[str]:
    """The text of each unit."""
    return [_nest(u, names) if isinstance(u, Nest) else _product(u, names) for u in units]


def _nest(nest: Nest, names: Names) -> str:
    lines = [f"nest {list(nest.shape)} in {nest.chunks} chunks"]
    if nest.length is not None:
        lines[0] += f", {nest.length} elements"
    lines += [f"  a{i} = {_place(load, names)}" for i, load in enumerate(nest.loads)]
    for walk in nest.passes:
        lines += _walk(walk, names)
    return "\n".join(lines)


def _walk(walk: Pass, names: Names) -> list[str]:
    lines = ["  for each column"] if walk.stores or walk.reductions else []
    shown = _Expressions([s.body for s in walk.stores] + [r.body for r in walk.reductions])
    for store in walk.stores:
        text = shown.text(store.body)
        lines += [*shown.taken(), f"{_place(store.access, names)} = {text}"]
    for reduction in walk.reductions:
        into = f"r{reduction.register}"
        if reduction.partial is not None:
            into = f"{names(reduction.partial)}[chunk, column]"
        text = shown.text(reduction.body)
        lines += [*shown.taken(), f"{into} {reduction.op}= {text}"]
    lines[1:] = ["    " + line for line in lines[1:]]
    for scatter in walk.scatters:
        shown = _Expressions([scatter.body, scatter.index])
        at = f"{shown.text(scatter.index)} * {scatter.stride}"
        text = shown.text(scatter.body)
        target = f"{_place(scatter.access, names)} at {at}"
        lines += ["  " + line for line in (*shown.taken(), f"{target} {scatter.op}= {text}")]
    shown = _Expressions([s.body for s in walk.after])
    for store in walk.after:
        text = shown.text(store.body)
        here = [*shown.taken(), f"{_place(store.access, names)} = {text}"]
        lines += ["  " + line for line in here]
    return lines


class _Expressions:
    """Bodies as text: a0 is the first load, r0 the first row value, e0 what is used twice."""

    def __init__(self, bodies: Sequence[Node]):
        self._uses: dict[int, int] = {}
        self._shared: dict[int, Node] = {}
        self._lines: list[str] = []
        stack = list(bodies)
        while stack:
            node = stack.pop()
            count = self._uses[id(node)] = self._uses.get(id(node), 0) + 1
            if count == 1:
                stack += node.args

    def taken(self) -> list[str]:
        """Lines that define what the texts since the last call use."""
        lines, self._lines = self._lines, []
        return lines

    def text(self, node: Node) -> str:
        """The text of a body."""
        return show(self._named(node))

    def _named(self, node: Node) -> Node:
        """The expression with names for what is no argument, or used more than once."""
        if node.op == "arg":
            return _name(node, f"a{node.value}")
        if node.op == "row":
            return _name(node, f"r{node.value}")
        if node.op == "pick":
            source, index = node.value
            return _name(node, f"a{source}[a{index}]")
        if node.op == "gather":
            index = show(self._named(node.args[1]))
            return _name(node, f"a{node.args[0].value}[({index}) * {node.value[0]}]")
        if not node.args:
            return node
        if id(node) not in self._shared:
            args = tuple([self._named(a) for a in node.args])
            found = Node(node.op, args, node.dtype, node.value)
            if self._uses[id(node)] > 1:
                name = f"e{len(self._shared)}"
                self._lines.append(f"{name} = {show(found)}")
                found = _name(node, name)
            self._shared[id(node)] = found
        return self._shared[id(node)]


def _name(node: Node, name: str) -> Node:
    return Node("const", (), node.dtype, _Text(name))


class _Text(str):
    """Prints as it is."""

    def __repr__(self) -> str:
        return str(self)


def _product(unit: Product, names: Names) -> str:
    batch = f" for each of {list(unit.batch)}" if unit.batch else ""
    factors = unit.factors or (1.0,) * len(unit.terms)
    scales = {i: f"{names(s.value)}[{s.offset}]" for i, s in enumerate(unit.scales)}
    sum_of = " + ".join(
        f"{_factor(f, scales)}{_place(a, names)} x {_place(b, names)}, inner {k}"
        for (a, b), k, f in zip(unit.terms, unit.inner, factors, strict=True)
    )
    summed = ", summed over the first axis of these" if unit.summed else ""
    lines = [f"product [{unit.m}, {unit.n}]{batch}{summed}"]
    if unit.start is not None:
        lines += ["  onto " + line.lstrip() for line in _nest(unit.start, names).splitlines()[1:]]
    sign = "=" if unit.start is None else "+="
    return "\n".join([*lines, f"  {_place(unit.out, names)} {sign} {sum_of}"])


def _factor(factor: float | Node, scales: Mapping[int, str]) -> str:
    if isinstance(factor, Node):
        leaves = {i: Node("const", (), factor.dtype, _Text(s)) for i, s in scales.items()}
        return f"({show(replace(factor, leaves))}) * "
    return "" if factor == 1 else f"{factor:g} * "


def _place(access: Access, names: Names) -> str:
    offset = f"{access.offset} + " if access.offset else ""
    value = access.value
    return f"{names(value)} {value.dtype}{list(value.shape)} at {offset}{list(access.strides)}"

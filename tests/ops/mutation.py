"""Break each gradient rule and see that the numeric check notices.

    python -m tests.ops.mutation

prints the kill rate and what survived.  A mutant that changes nothing is not counted: two inputs
whose gradients are equal may be swapped.
"""

from __future__ import annotations

import functools
import importlib
import pkgutil
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

import graphflow.ops
from graphflow.build import OPS, OpDef, as_tensor
from graphflow.differentiate.check import Traced, check_gradients
from tests.ops.registered import call, cases_of, checked_inputs, entries


@dataclass(frozen=True)
class Mutant:
    """One way to break one gradient rule.

    Attributes:
      op: the entry's name.
      kind: what is done to it.
      wrap: broken rule of the whole one.
    """

    op: str
    kind: str
    wrap: Callable[[Any], Any]

    def __str__(self) -> str:
        return f"{self.op}: {self.kind}"


def mutants(entry: OpDef) -> Iterator[Mutant]:
    """The mutants of an entry, given what its cases differentiate by."""
    checked = sorted({i for c in cases_of(entry) if c.grad for i in checked_inputs(entry, c)})
    yield Mutant(entry.name, "negate", _results(lambda g, i: -g))
    yield Mutant(entry.name, "double", _results(lambda g, i: g + g))
    yield Mutant(entry.name, "nudge by 1 %", _results(lambda g, i: g * _number(1.01, g)))
    yield Mutant(entry.name, "mix up axes", _results(lambda g, i: _transposed(g)))
    yield Mutant(entry.name, "forget what arrives", _forget)
    if any(c.grad and c.second for c in cases_of(entry)):
        cut = _results(lambda g, i: OPS["StopGradient"](g))
        yield Mutant(entry.name, "cut the second order", cut)
    for k in checked if len(checked) > 1 else ():
        yield Mutant(entry.name, f"miss input {k}", _results(_only(k, lambda g: None)))
        yield Mutant(entry.name, f"negate input {k}", _results(_only(k, lambda g: -g)))
    for i, j in pairwise(checked):
        yield Mutant(entry.name, f"swap inputs {i} and {j}", _swap(i, j))


def _number(value: float, like: Any) -> Any:
    return as_tensor(np.asarray(value, like.dtype.np))


def _transposed(g: Any) -> Any:
    """The elements in the order of the transposed axes, in the old shape."""
    rank = None if g.dims is None else len(g.dims)
    if rank is None or rank < 2:
        return g
    turned = OPS["Transpose"](g, perm=tuple(range(rank))[::-1])
    return OPS["Reshape"](turned, OPS["Shape"](g))


def _only(k: int, change: Any) -> Any:
    return lambda g, i: change(g) if i == k else g


def _listed(result: Any) -> list[Any]:
    return list(result) if isinstance(result, (tuple, list)) else [result]


def _results(change: Callable[[Any, int], Any]) -> Callable[[Any], Any]:
    """Break each gradient that a rule returns."""

    def wrap(grad: Any) -> Any:
        @functools.wraps(grad)
        def broken(*args: Any, **kwargs: Any) -> Any:
            found = _listed(grad(*args, **kwargs))
            return [None if g is None else change(as_tensor(g), i) for i, g in enumerate(found)]

        return broken

    return wrap


def _swap(i: int, j: int) -> Callable[[Any], Any]:
    def wrap(grad: Any) -> Any:
        @functools.wraps(grad)
        def broken(*args: Any, **kwargs: Any) -> Any:
            found = _listed(grad(*args, **kwargs))
            if i < len(found) and j < len(found):
                found[i], found[j] = found[j], found[i]
            return found

        return broken

    return wrap


def _forget(grad: Any) -> Any:
    """Break the chain rule: go on with ones in place of what arrives."""

    @functools.wraps(grad)
    def broken(g: Any, *args: Any, **kwargs: Any) -> Any:
        if isinstance(g, tuple):
            g = tuple(None if x is None else OPS["OnesLike"](x) for x in g)
        else:
            g = OPS["OnesLike"](g)
        return grad(g, *args, **kwargs)

    return broken


@contextmanager
def broken(mutant: Mutant) -> Iterator[None]:
    """The entry with its rule replaced."""
    entry = OPS[mutant.op]
    whole = entry.grad
    object.__setattr__(entry, "grad", mutant.wrap(whole))
    try:
        yield
    finally:
        object.__setattr__(entry, "grad", whole)


@contextmanager
def without_sums() -> Iterator[set[str]]:
    """No gradient is summed over the axes that its input was broadcast along; gives who called."""
    callers: set[str] = set()

    def unsummed(g: Any, x: Any, y: Any) -> Any:
        if g.dims != x.dims:
            callers.add(g.op.name)
        return g

    modules = [
        importlib.import_module(f"graphflow.ops.{m.name}")
        for m in pkgutil.iter_modules(graphflow.ops.__path__)
    ]
    users = [m for m in modules if hasattr(m, "unbroadcast")]
    whole = users[0].unbroadcast
    try:
        for module in users:
            module.unbroadcast = unsummed  # type: ignore[attr-defined]
        yield callers
    finally:
        for module in users:
            module.unbroadcast = whole  # type: ignore[attr-defined]


def passes(entry: OpDef) -> bool:
    """Do all cases of an entry pass the numeric check?"""
    for case in cases_of(entry):
        which = checked_inputs(entry, case)
        if case.grad and which:
            try:
                check_gradients(call(entry, case), case.inputs, which, 2 if case.second else 1)
            except Exception:  # whatever it is, the mutant does not go unnoticed
                return False
    return True


def equivalent(entry: OpDef, mutant: Mutant) -> bool:
    """Does the mutant give the same gradients as the whole rule, in all cases?"""
    whole = _all_gradients(entry)
    if mutant.kind == "cut the second order":  # nothing is lost where all is zero
        return not any(g is not None and g.any() for g in whole)
    with broken(mutant):
        try:
            changed = _all_gradients(entry)
        except Exception:
            return False
    return all(
        (a is None and b is None) or (a is not None and b is not None and np.array_equal(a, b))
        for a, b in zip(whole, changed, strict=True)
    )


def _all_gradients(entry: OpDef) -> list[Any]:
    found: list[Any] = []
    for case in cases_of(entry):
        which = checked_inputs(entry, case)
        if case.grad and which:
            traced = Traced(call(entry, case), case.inputs, which)
            traced.differentiate(which)
            rng = np.random.default_rng(3)
            ys = [y for y in traced.values(case.inputs) if y.dtype.kind in "fc"]
            vs = [np.asarray(rng.standard_normal(y.shape), y.dtype) for y in ys]
            found += traced.gradients(case.inputs, vs)
    return found


def differentiable() -> list[OpDef]:
    """The entries whose gradients the cases check."""
    return [
        entry
        for entry in entries().values()
        if entry.grad is not None
        and not entry.random
        and any(c.grad and checked_inputs(entry, c) for c in cases_of(entry))
    ]


def survivors(chosen: list[OpDef], counts: Counter[str]) -> list[Mutant]:
    """Mutants that the check lets pass; `counts` learns how many there were of each kind."""
    alive = []
    for entry in chosen:
        for mutant in mutants(entry):
            with broken(mutant):
                lives = passes(entry)
            if lives and equivalent(entry, mutant):
                continue
            counts[mutant.kind.split(" input")[0]] += 1
            if lives:
                alive.append(mutant)
    return alive


def unsummed(chosen: list[OpDef]) -> tuple[int, list[str]]:
    """How many entries sum after broadcasting, and those whose missing sum goes unnoticed."""
    count, alive = 0, []
    for entry in chosen:
        with without_sums() as callers:
            lives = passes(entry)
        count += bool(callers)
        if lives and callers:
            alive.append(entry.name)
    return count, alive


def main() -> int:
    chosen = [entry for entry in differentiable() if passes(entry)]
    counts: Counter[str] = Counter()
    alive = [str(m) for m in survivors(chosen, counts)]
    counts["miss the sum"], missed = unsummed(chosen)
    alive += [f"{name}: miss the sum" for name in missed]
    total = sum(counts.values())
    for kind, count in sorted(counts.items()):
        print(f"{count:5} {kind}")
    print(f"{total - len(alive)} of {total} mutants of {len(chosen)} rules killed", end="")
    print(f" ({100 * (total - len(alive)) / max(total, 1):.1f} %)")
    for name in alive:
        print("  survived:", name)
    return 0


if __name__ == "__main__":
    sys.exit(main())

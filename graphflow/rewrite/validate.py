"""The check of a pass: the same values before and after, on inputs chosen to tell.

Both subgraphs are computed by the interpreter on the same probes: values for what is fed, for
what reads state or draws numbers, and for placeholders.  Floating probes hold NaN, infinities,
ties, both zeros, subnormals and numbers that overflow; unknown sizes become small ones.
"""

from __future__ import annotations

import warnings
import zlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from graphflow.base import dtypes
from graphflow.base.shapes import size_of
from graphflow.build.tensor import Operation, Tensor
from graphflow.ops.evaluate import PureContext, run
from graphflow.ops.lists import Items
from graphflow.rewrite.effects import bodies, is_droppable, resource, touches
from graphflow.rewrite.subgraph import Subgraph

ROUNDS = (("special", 3), ("special", 1), ("special", 4), ("ordinary", 2))  # and unknown sizes
RANK = 1  # of what has an unknown rank
MAX_ELEMENTS = 1 << 20  # of a value; what is larger is passed over

_SPECIAL = (np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0, 1.0, -1.0, 0.5, 2.0, 3.0, -2.5)
_TOLERANCE = {2: 3e-2, 4: 1e-4, 8: 1e-9, 16: 1e-9}  # of fast math, by item size

Values = dict[Tensor, Any]


class RewriteWarning(UserWarning):
    """A pass changed results and was undone."""


class Validation:
    """Checks the passes of one `rewrite`; what one pass gave is not computed again for the next."""

    def __init__(self) -> None:
        self._last: tuple[Subgraph, list[Values]] | None = None

    def __call__(self, name: str, old: Subgraph, new: Subgraph, *, exact: bool = True) -> Subgraph:
        """The new subgraph, or the old one, with a `RewriteWarning`, where results differ.

        Compared are the fetches and what goes into operations with effects or bodies: bit by
        bit, NaN with NaN; after fast math within a tolerance, where both are finite.  What the
        interpreter cannot compute before the pass (an op fails on the probes) is passed over.
        """
        wanted = self._last[1] if self._last and self._last[0] is old else _compute_all(old)
        found = _compute_all(new)
        problem = _lost(old, new) or _difference(old, new, wanted, found, exact)
        if problem is None:
            self._last = new, found
            return new
        self._last = old, wanted
        warnings.warn(f"the pass {name!r} was undone: {problem}", RewriteWarning, stacklevel=3)
        return old


def _lost(old: Subgraph, new: Subgraph) -> str | None:
    """A fetch or an effect that is not there any more."""
    if len(new.fetches) != len(old.fetches):
        return f"it made {len(new.fetches)} fetches of {len(old.fetches)}"
    names = {o.name for o in _effects(new)}
    for operation in _effects(old):
        if operation.name not in names:
            return f"{operation.type} {operation.name!r} (built at {operation.site}) is gone"
    return None


def _difference(
    old: Subgraph, new: Subgraph, wanted: list[Values], found: list[Values], exact: bool
) -> str | None:
    pairs = list(zip(old.fetches, new.fetches, strict=True))
    theirs = {o.name: o for o in new.order if _is_opaque(o)}
    for operation in old.order:
        if _is_opaque(operation) and operation.name in theirs:
            pairs += zip(operation.inputs, theirs[operation.name].inputs, strict=True)
    for (kind, _), before, now in zip(ROUNDS, wanted, found, strict=True):
        if not exact and kind == "special":
            continue
        for a, b in pairs:
            if a not in before:
                continue
            if b not in now:
                return f"{_where(a)} cannot be computed any more"
            if not _agree(before[a], now[b], _same if exact else _close):
                return (
                    f"{_where(a)} is {_short(now[b])} instead of {_short(before[a])} on "
                    f"{kind} values"
                )
    return None


def _is_opaque(operation: Operation) -> bool:
    """Are its outputs probes, too?  Loops are not run: on special values they may not end."""
    opdef = operation.opdef
    return opdef.kernel is None or not opdef.pure or bool(bodies(operation))


def _effects(view: Subgraph) -> list[Operation]:
    return [o for o in view.order if not is_droppable(o)]


# ---- values


def _compute_all(view: Subgraph) -> list[Values]:
    return [_compute(view, turn, kind, unknown) for turn, (kind, unknown) in enumerate(ROUNDS)]


def _compute(view: Subgraph, turn: int, kind: str, unknown: int) -> Values:
    """Every value that the interpreter finds, from probes for what it cannot know."""
    fed: Values = {t: _probe(t, t.name, turn, kind, unknown) for t in view.feeds}
    values = {t: v for t, v in fed.items() if v is not None}
    context = PureContext()
    written: dict[Any, str] = {}  # state -> the last operation that wrote it
    for operation in view.order:
        if _is_opaque(operation):
            for tensor in operation.outputs:
                value = _probe(tensor, _source(tensor, written), turn, kind, unknown)
                if value is not None:
                    values.setdefault(tensor, value)
            for touch in touches(operation):
                if touch.kind == "write":
                    written[touch.key] = operation.name
        elif all(t in values for t in operation.inputs) and not _is_large(operation):
            try:
                results = run(operation, values, context)
            except Exception:
                continue  # not on these probes; the run will tell
            for tensor, value in zip(operation.outputs, results, strict=True):
                if tensor not in fed and getattr(value, "size", 0) <= MAX_ELEMENTS:
                    values[tensor] = value  # larger ones are views, as of a broadcast
    return values


def _source(tensor: Tensor, written: Mapping[Any, str]) -> str:
    """What gives a source its value: reads of a variable agree while nothing writes it."""
    operation = tensor.op
    opdef = operation.opdef
    if opdef.effect == "state" and not opdef.writes and operation.inputs:
        key = resource(operation.inputs[0])
        return f"{operation.type} {key} after {written.get(key)}"
    return tensor.name


def _is_large(operation: Operation) -> bool:
    return any((size_of(t.dims) or 0) > MAX_ELEMENTS for t in operation.outputs)


def _probe(tensor: Tensor, key: str, turn: int, kind: str, unknown: int) -> Any:
    """A value of the tensor's dtype and shape, the same for the same key; None: there is none."""
    known = (None,) * RANK if tensor.dims is None else tensor.dims
    dims = [unknown if n is None else n for n in known]
    dtype = tensor.dtype.np
    if (size_of(tuple(dims)) or 0) > MAX_ELEMENTS or tensor.dtype in (
        dtypes.resource,
        dtypes.variant,
    ):
        return None
    rng = np.random.default_rng(zlib.crc32(key.encode()))
    if tensor.dtype is dtypes.string:
        return rng.choice(np.array([b"", b"a", b"ab"], object), dims)
    if tensor.dtype.is_bool:
        return rng.integers(0, 2, dims).astype(bool)
    if tensor.dtype.is_integer:
        low, high = (-3, 4) if kind == "special" and dtype.kind == "i" else (0, unknown)
        return np.asarray(rng.integers(low, high, dims)).astype(dtype)
    value = np.empty(dims, np.complex128 if tensor.dtype.is_complex else np.float64)
    value.real = _floats(rng, dims, turn, kind, tensor)
    if tensor.dtype.is_complex:
        value.imag = _floats(rng, dims, turn, kind, tensor)
    with np.errstate(all="ignore"):
        return value.astype(dtype)


def _floats(rng: np.random.Generator, dims: list[int], turn: int, kind: str, tensor: Tensor) -> Any:
    if kind == "ordinary":
        return rng.standard_normal(dims)
    size = {2: 3e4, 4: 3e38}.get(tensor.dtype.np.itemsize // (1 + tensor.dtype.is_complex), 1e308)
    pool = np.array([*_SPECIAL, size, -size, 1 / size])
    n = size_of(tuple(dims)) or 0
    if n > 8 * len(pool):
        return rng.choice(pool, dims)
    # All of them before one comes again, and each turn goes on where the last one ended.
    decks = [rng.permutation(pool) for _ in range((turn + 1) * n // len(pool) + 1)]
    return np.concatenate(decks)[turn * n : (turn + 1) * n].reshape(dims)


# ---- comparison


def _agree(a: Any, b: Any, alike: Callable[[Any, Any], bool]) -> bool:
    """Are two values alike, or all entries of two lists?"""
    if isinstance(a, Items) and isinstance(b, Items):
        pairs = zip(a, b, strict=False)
        return len(a) == len(b) and all(
            x is y or (x is not None and y is not None and _agree(x, y, alike)) for x, y in pairs
        )
    return alike(a, b)


def _same(a: Any, b: Any) -> bool:
    """Equal to the bit, NaN with NaN."""
    a, b = np.asarray(a), np.asarray(b)
    if a.dtype != b.dtype or a.shape != b.shape:
        return False
    if a.dtype.kind == "c":
        return _same(a.real, b.real) and _same(a.imag, b.imag)
    if a.dtype.kind in "biuOSU":
        return bool(np.all(a == b))
    nan = np.isnan(a)
    if not np.array_equal(nan, np.isnan(b)):
        return False
    signs = np.signbit(a) == np.signbit(b)
    return bool(np.all(nan | ((a == b) & signs)))


def _close(a: Any, b: Any) -> bool:
    a, b = np.asarray(a), np.asarray(b)
    if a.dtype != b.dtype or a.shape != b.shape:
        return False
    if a.dtype.kind in "biuOSU":
        return bool(np.all(a == b))
    tolerance = _TOLERANCE[a.dtype.itemsize]
    with np.errstate(all="ignore"):
        distance = np.abs(a - b)
        wild = ~(np.isfinite(a) & np.isfinite(b))
        return bool(np.all(wild | (distance <= tolerance * (1 + np.abs(a)))))


def _where(tensor: Tensor) -> str:
    return f"{tensor.op.type} {tensor.name!r} (built at {tensor.op.site})"


def _short(value: Any) -> str:
    text = " ".join(str(np.asarray(value)).split())
    return text if len(text) <= 60 else text[:57] + "..."

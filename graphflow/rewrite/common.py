"""Common subexpressions: what is computed twice is computed once."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import numpy as np

from graphflow.base import dtypes
from graphflow.build.tensor import Operation
from graphflow.rewrite.draft import Draft
from graphflow.rewrite.subgraph import Subgraph

MAX_HASHED = 1 << 20  # bytes of an array; larger ones are told apart by identity


def merge_common(view: Subgraph) -> Subgraph:
    """Let the first of equal operations stand for the others, whose sites it takes over.

    Equal are pure operations with the same op, inputs, attributes, shapes and requested device,
    and reads of one variable that take its value from before the step.
    """
    draft = Draft(view)
    first: dict[Hashable, Operation] = {}
    for old in view.order:
        new = draft.current(old)
        key = _key(new) if draft.is_free(old) or _reads_before_step(old, draft) else None
        if key is None:
            draft.keep(old, new)
            continue
        same = first.setdefault(key, new)
        if same is new:
            draft.keep(old, new)
        else:
            draft.note_merged(same, new)
            draft.replace(old, same.outputs)
    return draft.finish()


def _reads_before_step(operation: Operation, draft: Draft) -> bool:
    """A read that waits for nothing but its handle comes before every write."""
    opdef = operation.opdef
    return (
        opdef.effect == "state"
        and not opdef.writes
        and operation not in draft.view.after
        and bool(operation.inputs)
        and all(t.dtype is dtypes.resource for t in operation.inputs)
        and not (draft.fed and any(id(t) in draft.fed for t in operation.outputs))
    )


def _key(operation: Operation) -> Hashable | None:
    """What equal operations have in common; None where that cannot be told."""
    if operation.opdef.kernel is None:
        return None
    try:
        key = (
            operation.opdef.name,
            operation.inputs,
            tuple([(k, frozen(v)) for k, v in operation.attrs.items()]),
            tuple([t.dims for t in operation.outputs]),
            operation.device,
            operation.colocation,
        )
        hash(key)
    except TypeError:
        return None
    return key


def frozen(value: Any) -> Hashable:
    """A hashable form of an attribute.  Unlike ==, it tells 1 from 1.0 and True, and the zeros.

    Raises:
      TypeError: there is none.
    """
    if isinstance(value, np.ndarray):
        if value.dtype == object:
            return ("objects", value.shape, tuple([frozen(v) for v in value.ravel().tolist()]))
        if value.nbytes > MAX_HASHED:
            return ("array", id(value))
        return ("array", value.dtype.str, str(value.dtype), value.shape, value.tobytes())
    if isinstance(value, (float, complex, np.generic)):
        return (type(value), repr(value))
    if isinstance(value, (tuple, list)):
        return (type(value), *[frozen(v) for v in value])
    if isinstance(value, dict):
        return ("dict", *[(k, frozen(v)) for k, v in value.items()])
    hash(value)
    return (type(value), value)

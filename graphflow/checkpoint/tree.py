"""Nested values as plain data and tensors, and back: what is loaded can execute nothing."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from graphflow.base.dtypes import as_dtype
from graphflow.base.errors import DataLossError, UnimplementedError
from graphflow.base.state import StateKey
from graphflow.checkpoint.payload import Array
from graphflow.execute.context import RandomStream
from graphflow.execute.store import Entry
from graphflow.ops.accumulator_state import (
    AccumulatorState,
    Given,
    Rows,
    SparseAccumulatorState,
)
from graphflow.ops.gate import Gate
from graphflow.ops.queue_state import Element, PriorityState, QueueState, ShuffleState
from graphflow.ops.waitable import Waitable

Plain = Any  # what JSON can hold

_OBJECTS: dict[str, type[Waitable]] = {
    kind.__name__: kind
    for kind in (
        QueueState,
        ShuffleState,
        PriorityState,
        AccumulatorState,
        SparseAccumulatorState,
        Gate,
    )
}
_TUPLES: dict[str, Any] = {
    kind.__name__: kind for kind in (StateKey, RandomStream, Entry, Element, Given, Rows)
}


def flatten(value: Any, tensors: dict[str, Array]) -> Plain:
    """Plain data for a value; its arrays go into `tensors`, under new names.

    Raises:
      UnimplementedError: something in it is of a kind that cannot be saved.
    """
    if isinstance(value, np.ndarray | np.generic | bytes):  # float64 is a float of Python's, too
        return _array(value, tensors)
    if value is None or isinstance(value, bool | int | float | str):
        return value
    kind = type(value)
    if kind.__name__ in _TUPLES:
        return [kind.__name__, [flatten(part, tensors) for part in value]]
    if isinstance(value, tuple | list | deque):
        return [kind.__name__, [flatten(part, tensors) for part in value]]
    if isinstance(value, Mapping):
        pairs = [[flatten(k, tensors), flatten(v, tensors)] for k, v in value.items()]
        return ["dict", pairs]
    if kind.__name__ in _OBJECTS:
        return [kind.__name__, flatten(value.__getstate__(), tensors)]
    raise UnimplementedError(None, None, f"state of type {kind.__name__} cannot be saved")


def _array(value: Any, tensors: dict[str, Array]) -> Plain:
    name = str(len(tensors))
    array = np.empty((), object)
    if isinstance(value, bytes):
        array[()] = value
    else:
        array = np.asarray(value)
    tensors[name] = array.view(np.uint16) if array.dtype.kind == "V" else array
    shape = "array" if isinstance(value, np.ndarray) else "scalar"
    return [shape, name, as_dtype(array.dtype).name]


def unflatten(plain: Plain, tensors: Mapping[str, Array]) -> Any:
    """The value that was flattened.

    Raises:
      DataLossError: it is none.
    """
    if not isinstance(plain, list):
        return plain
    kind, content = plain[0], plain[1]
    if kind in ("array", "scalar"):
        array, dtype = tensors[content], as_dtype(plain[2]).np
        array = array if array.dtype == dtype else array.view(dtype)
        return array if kind == "array" else array[()]
    build = _BUILD.get(kind)
    if build is None:
        raise DataLossError(None, None, f"a saved value of unknown kind {kind!r}")
    return build(content, tensors)


def _parts(content: Plain, tensors: Mapping[str, Array]) -> list[Any]:
    return [unflatten(part, tensors) for part in content]


def _object(kind: Any) -> Callable[[Plain, Mapping[str, Array]], Any]:
    def build(content: Plain, tensors: Mapping[str, Array]) -> Any:
        found = kind.__new__(kind)
        found.__setstate__(unflatten(content, tensors))
        return found

    return build


def _named(kind: Any) -> Callable[[Plain, Mapping[str, Array]], Any]:
    return lambda content, tensors: kind(*_parts(content, tensors))


_BUILD: Mapping[str, Callable[[Plain, Mapping[str, Array]], Any]] = {
    "tuple": lambda content, tensors: tuple(_parts(content, tensors)),
    "list": _parts,
    "deque": lambda content, tensors: deque(_parts(content, tensors)),
    "dict": lambda content, tensors: {
        unflatten(k, tensors): unflatten(v, tensors) for k, v in content
    },
    **{name: _named(kind) for name, kind in _TUPLES.items()},
    **{name: _object(kind) for name, kind in _OBJECTS.items()},
}

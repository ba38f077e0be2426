"""Fetches in any nesting: which graph elements they are, and how to give the values back."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from graphflow.base import dtypes
from graphflow.base.errors import GraphError
from graphflow.build import OPS, Graph, Operation, Tensor

Pack = Callable[[Sequence[Any]], Any]


def key_of(fetches: Any) -> Any:
    """A hashable value that is equal for fetches of the same structure and elements.

    Raises:
      TypeError: something in it cannot be fetched.
    """
    kind = type(fetches)
    if kind is list or kind is tuple:
        return kind, *[key_of(f) for f in fetches]
    if kind is Tensor or kind is Operation:
        return fetches
    if isinstance(fetches, Mapping):
        return kind, tuple(fetches), *[key_of(f) for f in fetches.values()]
    if isinstance(fetches, (list, tuple)):  # of a class of their own, as named tuples are
        return kind, *[key_of(f) for f in fetches]
    if (names := attributes_of(fetches)) is not None:
        return kind, *[key_of(getattr(fetches, name)) for name in names]
    try:
        hash(fetches)
    except TypeError:
        raise _not_fetchable(fetches) from None
    return fetches


def attributes_of(fetch: Any) -> list[str] | None:
    """Names of the attributes, where its class was made with attrs; None: it was not."""
    attributes = getattr(type(fetch), "__attrs_attrs__", None)
    return None if attributes is None else [attribute.name for attribute in attributes]


def _not_fetchable(fetch: Any) -> TypeError:
    hint = ""
    if isinstance(fetch, np.ndarray | np.generic):
        # `loss = session.run(loss)` in a loop fails the second time.
        hint = ": it is a value; did what `run` returned take a tensor's name?"
    elif fetch is None:
        hint = ": tf.gradients gives None for what the result does not depend on"
    return TypeError(
        f"fetch {fetch!r} of type {type(fetch).__name__} is no tensor, operation, variable or name"
        + hint
    )


class Fetches:
    """What is fetched.

    Attributes:
      tensors: each once.
      operations: each once.
    """

    def __init__(self, graph: Graph, fetches: Any):
        self._graph = graph
        self._positions: dict[Tensor, int] = {}
        self._operations: dict[Operation, None] = {}
        self._single = False
        self._pack = self._visit(fetches)

    @property
    def tensors(self) -> list[Tensor]:
        return list(self._positions)

    @property
    def operations(self) -> list[Operation]:
        return list(self._operations)

    @property
    def pack(self) -> Pack:
        """Values of `tensors` -> the user's structure, None for operations."""
        return self._pack

    def _visit(self, fetch: Any) -> Pack:
        if isinstance(fetch, (list, tuple)):
            return self._sequence(fetch)
        if isinstance(fetch, Mapping):
            return self._mapping(fetch)
        if (names := attributes_of(fetch)) is not None:
            members = [self._visit(getattr(fetch, name)) for name in names]
            kind: Any = type(fetch)
            return lambda values: kind(*[pack(values) for pack in members])
        if hasattr(fetch, "as_fetches"):  # IndexedSlices: parts, and how to put them together
            parts, build = fetch.as_fetches()
            inner = self._visit(parts)
            return lambda values: build(inner(values))
        element = self._element(fetch)
        if isinstance(element, Operation):
            self._operations[element] = None
            return lambda values: None
        position = self._positions.setdefault(element, len(self._positions))
        return lambda values: values[position]

    def _mapping(self, fetch: Mapping[Any, Any]) -> Pack:
        packs = {k: self._visit(v) for k, v in fetch.items()}
        kind: Any = type(fetch)
        if isinstance(fetch, defaultdict):
            kind = partial(kind, fetch.default_factory)
        return lambda values: kind({k: pack(values) for k, pack in packs.items()})

    def _sequence(self, fetch: Sequence[Any]) -> Pack:
        packs = [self._visit(f) for f in fetch]
        kind: Any = type(fetch)
        if isinstance(fetch, list):
            return lambda values: [pack(values) for pack in packs]
        if hasattr(fetch, "_fields"):
            return lambda values: kind(*[pack(values) for pack in packs])
        return lambda values: kind([pack(values) for pack in packs])

    def _element(self, fetch: Any) -> Tensor | Operation:
        try:
            element = self._graph.as_graph_element(fetch)
        except TypeError as error:
            raise _not_fetchable(fetch) from error
        except KeyError as error:
            raise GraphError(f"fetch {fetch!r} is not in the graph: {error.args[0]}") from error
        if element.graph is not self._graph:
            raise GraphError(
                f"{element.name!r} is inside control flow (built at "
                f"{(element if isinstance(element, Operation) else element.op).site}): it has a "
                "value in each iteration or branch; return it from the body to fetch it"
            )
        return value_of(element)


def value_of(element: Any) -> Any:
    """The value that is meant where the name of a variable is given."""
    if isinstance(element, Tensor) and element.op.type == "VarHandle":
        for operation in element.op.graph.operations:
            if operation.type == "ReadVariable" and operation.inputs[0] is element:
                return operation.outputs[0]
        with element.op.graph.as_default():
            return OPS["ReadVariable"](element)
    return element


def check_fetchable(tensor: Tensor) -> None:
    """Raises:
    TypeError: the tensor has no value that a user could look at.
    """
    if tensor.dtype in (dtypes.resource, dtypes.variant):
        raise TypeError(f"{tensor!r} cannot be fetched: it has no value outside the graph")

"""Variable scopes: where variables are made once and then reused."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

from graphflow.base import dtypes
from graphflow.base.errors import GraphError
from graphflow.build import Graph
from graphflow.build.convert import is_symbolic
from graphflow.build.defaults import get_default_graph
from graphflow.build.keys import GraphKeys

AUTO_REUSE: Any = type("_AutoReuse", (), {"__repr__": lambda _: "AUTO_REUSE"})()

_DEFAULTS = (
    "initializer",
    "regularizer",
    "caching_device",
    "partitioner",
    "constraint",
    "use_resource",
    "dtype",
)


class VariableScope:
    """Defaults for the variables made inside, and the prefix of their names.

    Attributes:
      name: prefix of variable names, without the last slash.
      reuse: False: names must be new; True: they must exist; AUTO_REUSE: either.
      original_name_scope: the name scope that was opened with it, with its slash.
      initializer, regularizer, caching_device, partitioner, custom_getter, constraint, dtype,
        use_resource: defaults of `get_variable`.
    """

    def __init__(
        self,
        reuse: Any,
        name: str = "",
        initializer: Any = None,
        regularizer: Any = None,
        caching_device: Any = None,
        partitioner: Any = None,
        custom_getter: Any = None,
        name_scope: str = "",
        dtype: Any = dtypes.float32,
        use_resource: bool | None = None,
        constraint: Any = None,
    ):
        self.name = name
        self.reuse = reuse
        self.original_name_scope = name_scope
        self.initializer = initializer
        self.regularizer = regularizer
        self.caching_device = caching_device
        self.partitioner = partitioner
        self.custom_getter = custom_getter
        self.dtype = dtype
        self.use_resource = use_resource
        self.constraint = constraint

    def reuse_variables(self) -> None:
        """From here on, `get_variable` finds existing variables and makes none."""
        self.reuse = True

    def set_initializer(self, initializer: Any) -> None:
        self.initializer = initializer

    def set_regularizer(self, regularizer: Any) -> None:
        self.regularizer = regularizer

    def set_caching_device(self, caching_device: Any) -> None:
        self.caching_device = caching_device

    def set_partitioner(self, partitioner: Any) -> None:
        self.partitioner = partitioner

    def set_custom_getter(self, custom_getter: Any) -> None:
        self.custom_getter = custom_getter

    def set_dtype(self, dtype: Any) -> None:
        self.dtype = dtypes.as_dtype(dtype)

    def set_use_resource(self, use_resource: bool) -> None:
        self.use_resource = use_resource

    def global_variables(self) -> list[Any]:
        return self.get_collection(GraphKeys.GLOBAL_VARIABLES)

    def local_variables(self) -> list[Any]:
        return self.get_collection(GraphKeys.LOCAL_VARIABLES)

    def trainable_variables(self) -> list[Any]:
        return self.get_collection(GraphKeys.TRAINABLE_VARIABLES)

    def get_collection(self, name: str) -> list[Any]:
        return get_default_graph().get_collection(name, f"{self.name}/" if self.name else None)

    def __repr__(self) -> str:
        return f"<VariableScope {self.name!r} reuse={self.reuse}>"


class _InForce(threading.local):
    """The scope in force in one graph, for each thread its own."""

    def __init__(self) -> None:
        self.scope = VariableScope(reuse=False)
        # How often each scope was opened since the one around it was: what default names avoid.
        self.opened: dict[str, int] = {}


def _in_force() -> _InForce:
    graph = get_default_graph().root
    found: list[Any] = graph.get_collection_ref("__varscope")
    if not found:
        with graph.lock:
            found = found or [_InForce()]
            graph.collections["__varscope"] = found
    in_force: _InForce = found[0]
    return in_force


def get_variable_scope() -> VariableScope:
    """The scope in force."""
    return _in_force().scope


@contextmanager
def variable_scope(
    name_or_scope: Any,
    default_name: str | None = None,
    values: Any = None,
    initializer: Any = None,
    regularizer: Any = None,
    caching_device: Any = None,
    partitioner: Any = None,
    custom_getter: Any = None,
    reuse: Any = None,
    dtype: Any = None,
    use_resource: bool | None = None,
    constraint: Any = None,
    auxiliary_name_scope: bool = True,
) -> Iterator[VariableScope]:
    """Prefix the names of variables made inside, and open a name scope.

    Args:
      name_or_scope: a name to append to the scope in force, a `VariableScope` to enter again, or
        None to take `default_name`, made unique.
      reuse: True, False, None (inherit) or AUTO_REUSE; reuse cannot be switched off inside.
      values: tensors whose graph to use.
      auxiliary_name_scope: open a name scope, too.
      others: defaults of `get_variable` inside; those of the outer scope where None.

    Raises:
      ValueError: only a default name is given, beside reuse=True.
      TypeError: it is neither a name nor a scope, or there is no name at all.
    """
    if not isinstance(name_or_scope, (str, VariableScope, type(None))):
        raise TypeError(f"variable_scope takes a name or a VariableScope, not {name_or_scope!r}")
    if name_or_scope is None:
        if default_name is None:
            raise TypeError("variable_scope needs a name or a default name")
        if reuse is True:
            raise GraphError("reuse=True needs a name: a default name is always a new one")
    options: dict[str, Any] = dict(
        initializer=initializer, regularizer=regularizer, caching_device=caching_device,
        partitioner=partitioner, constraint=constraint, use_resource=use_resource,
        dtype=None if dtype is None else dtypes.as_dtype(dtype),
    )  # fmt: skip
    graph = _graph_of(values)
    with graph.as_default():
        short = _short_name(name_or_scope, default_name)
        if name_or_scope is None:
            name_or_scope = _unique(str(default_name))
        named = auxiliary_name_scope and short
        with (
            graph.name_scope(short) if named else nullcontext(graph.scopes.prefix) as opened,
            _entered(name_or_scope, reuse, custom_getter, options) as scope,
        ):
            if not isinstance(name_or_scope, VariableScope):
                scope.original_name_scope = opened
            yield scope


def _graph_of(values: Any) -> Graph:
    for value in values or ():
        if is_symbolic(value):
            return value.graph
    return get_default_graph()


def _short_name(name_or_scope: Any, default_name: str | None) -> str | None:
    """Name of the name scope to open: the last part, where a scope is entered again."""
    if isinstance(name_or_scope, VariableScope):
        return name_or_scope.name.split("/")[-1]
    return default_name if name_or_scope is None else name_or_scope


def _unique(name: str) -> str:
    """The name, or the first with a suffix, that was not opened in the scope in force."""
    in_force = _in_force()
    prefix = f"{in_force.scope.name}/" if in_force.scope.name else ""
    chosen, count = name, 0
    while in_force.opened.get(prefix + chosen):
        count += 1
        chosen = f"{name}_{count}"
    return chosen


@contextmanager
def _entered(
    name_or_scope: Any, reuse: Any, custom_getter: Any, options: dict[str, Any]
) -> Iterator[VariableScope]:
    """The scope, in force."""
    in_force = _in_force()
    outer, opened = in_force.scope, in_force.opened
    again = isinstance(name_or_scope, VariableScope)
    parent: VariableScope = name_or_scope if again else outer
    if again or not outer.name:
        full = parent.name if again else name_or_scope
    else:
        full = f"{outer.name}/{name_or_scope}"
    chosen = {k: getattr(parent, k) if options[k] is None else options[k] for k in _DEFAULTS}
    scope = VariableScope(
        reuse or parent.reuse,
        full,
        custom_getter=chained(custom_getter, parent.custom_getter),
        name_scope=parent.original_name_scope if again else "",
        **chosen,
    )
    opened[full] = opened.get(full, 0) + 1
    before = dict(opened)
    in_force.scope = scope
    try:
        yield scope
    finally:
        in_force.scope = outer
        if again:
            in_force.opened = before
        else:  # opened again, for instance to reuse, it gives the same default names inside
            inside = f"{full}/"
            in_force.opened = {k: n for k, n in in_force.opened.items() if not k.startswith(inside)}


def chained(inner: Any, outer: Any) -> Any:
    """A custom getter gets the next one as its first argument."""
    if inner is None or outer is None:
        return inner or outer

    def both(getter: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        def next_getter(*a: Any, **k: Any) -> Any:
            return outer(getter, *a, **k)

        return inner(next_getter, *args, **kwargs)

    return both

"""`get_variable` and the scopes in which variables are made once and then reused."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from graphflow.base import dtypes
from graphflow.base.errors import DTypeError, GraphError, ShapeError
from graphflow.base.shapes import CLASH, as_dims, format_dims, is_known, merged
from graphflow.build import Graph
from graphflow.build.convert import is_symbolic
from graphflow.build.defaults import get_default_graph
from graphflow.build.keys import GraphKeys
from graphflow.build.sites import user_site
from graphflow.ops.variables import Variable, init_scope

AUTO_REUSE: Any = type("_AutoReuse", (), {"__repr__": lambda _: "AUTO_REUSE"})()


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
        dtype: Any = None,
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

    def get_variable(self, name: str, **options: Any) -> Variable:
        with _entered(self):
            return get_variable(name, **options)

    def global_variables(self) -> list[Any]:
        return self.get_collection(GraphKeys.GLOBAL_VARIABLES)

    def trainable_variables(self) -> list[Any]:
        return self.get_collection(GraphKeys.TRAINABLE_VARIABLES)

    def get_collection(self, name: str) -> list[Any]:
        return get_default_graph().get_collection(name, f"{self.name}/" if self.name else None)

    def __repr__(self) -> str:
        return f"<VariableScope {self.name!r} reuse={self.reuse}>"


class _Known:
    """The variables that `get_variable` has made in a graph, and the scope in force."""

    def __init__(self) -> None:
        self.variables: dict[str, tuple[Variable, str]] = {}
        self.scope = VariableScope(reuse=False)
        self.opened: dict[str, int] = {}  # how often each scope name was given


def _known() -> _Known:
    collection = get_default_graph().get_collection_ref("__variable_store")
    if not collection:
        collection.append(_Known())
    return collection[0]


def get_variable_scope() -> VariableScope:
    """The scope in force."""
    return _known().scope


@contextmanager
def _entered(scope: VariableScope) -> Iterator[VariableScope]:
    known = _known()
    before = known.scope
    known.scope = scope
    try:
        yield scope
    finally:
        known.scope = before


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
      reuse: True, False, None (inherit) or AUTO_REUSE.
      values: tensors whose graph to use.
      others: defaults of `get_variable` inside; those of the outer scope where None.

    Raises:
      ValueError: neither a name nor a default name is given.
    """
    graph = _graph_of(values)
    with graph.as_default():
        known = _known()
        outer = known.scope
        if isinstance(name_or_scope, VariableScope):
            parent = name_or_scope
            full = parent.name
            short: str | None = parent.original_name_scope or None
            name_scope = full.split("/")[-1] if full else None
        else:
            parent = outer
            part = name_or_scope
            if part is None:
                if default_name is None:
                    raise GraphError("variable_scope needs a name or a default name")
                part = _unique_scope(known, outer.name, default_name)
            full = f"{outer.name}/{part}" if outer.name else str(part)
            name_scope = str(part) if part else None
            short = None
        known.opened[full] = known.opened.get(full, 0) + 1
        given = dict(
            initializer=initializer, regularizer=regularizer, caching_device=caching_device,
            partitioner=partitioner, constraint=constraint, use_resource=use_resource,
            dtype=None if dtype is None else dtypes.as_dtype(dtype),
        )  # fmt: skip
        defaults = {k: getattr(parent, k) if given.get(k) is None else given[k] for k in given}
        defaults["custom_getter"] = _chain(custom_getter, parent.custom_getter)
        inherited = parent.reuse or outer.reuse
        scope = VariableScope(inherited if reuse is None else reuse, full, **defaults)
        if inherited is True and reuse is not AUTO_REUSE:
            scope.reuse = True  # reuse cannot be switched off inside
        with _entered(scope):
            if auxiliary_name_scope and name_scope:
                with graph.name_scope(name_scope) as opened:
                    scope.original_name_scope = short or opened
                    yield scope
            else:
                scope.original_name_scope = graph.scopes.prefix
                yield scope


def _graph_of(values: Any) -> Graph:
    for value in values or ():
        if is_symbolic(value):
            return value.graph
    return get_default_graph()


def _unique_scope(known: _Known, prefix: str, name: str) -> str:
    full = f"{prefix}/{name}" if prefix else name
    if full not in known.opened:
        return name
    count = 1
    while f"{full}_{count}" in known.opened:
        count += 1
    return f"{name}_{count}"


def _chain(inner: Any, outer: Any) -> Any:
    """A custom getter gets the next one as its first argument."""
    if inner is None or outer is None:
        return inner or outer

    def both(getter: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        def next_getter(*a: Any, **k: Any) -> Any:
            return outer(getter, *a, **k)

        return inner(next_getter, *args, **kwargs)

    return both


def get_variable(
    name: str,
    shape: Any = None,
    dtype: Any = None,
    initializer: Any = None,
    regularizer: Any = None,
    trainable: bool | None = None,
    collections: Any = None,
    caching_device: Any = None,
    partitioner: Any = None,
    validate_shape: bool = True,
    use_resource: bool | None = None,
    custom_getter: Any = None,
    constraint: Any = None,
    synchronization: Any = None,
    aggregation: Any = None,
) -> Variable:
    """The variable of that name in the scope in force: made, or found where the scope reuses.

    Args:
      name: its name; the scope's prefix is put before it.
      shape: its shape, where the initializer does not bring one.
      dtype: float32 by default, or the scope's.
      initializer: a function of (shape, dtype, partition_info), a tensor or an array; by default
        the scope's, else Glorot uniform for floats and zeros for others.
      regularizer: function of the variable whose value goes to the collection of losses.
      others: as `Variable`.

    Raises:
      ValueError: it exists and the scope does not reuse; it does not exist and the scope does;
        it exists with another shape or dtype; the shape is not known.
    """
    scope = get_variable_scope()
    inherited = {
        "dtype": dtype,
        "initializer": initializer,
        "regularizer": regularizer,
        "caching_device": caching_device,
        "partitioner": partitioner,
        "constraint": constraint,
    }
    options = {k: getattr(scope, k) if v is None else v for k, v in inherited.items()}
    options |= {
        "shape": shape,
        "trainable": trainable,
        "collections": collections,
        "validate_shape": validate_shape,
        "use_resource": use_resource,
        "reuse": scope.reuse,
    }
    full = f"{scope.name}/{name}" if scope.name else name
    getter = _chain(custom_getter, scope.custom_getter)
    if getter is not None:
        return getter(_find_or_make, full, **options)
    return _find_or_make(full, **options)


def _find_or_make(
    name: str, *, shape: Any = None, dtype: Any = None, reuse: Any = None, **options: Any
) -> Variable:
    known = _known()
    found = known.variables.get(name)
    if found is not None:
        variable, built = found
        if not reuse:
            raise GraphError(
                f"variable {name!r} exists already (built at {built}): did you mean "
                "reuse=True or reuse=tf.AUTO_REUSE in its variable_scope?"
            )
        return _checked(variable, shape, dtype)
    if reuse is True:
        raise GraphError(
            f"variable {name!r} does not exist, or was not made with get_variable: did you mean "
            "reuse=tf.AUTO_REUSE in its variable_scope?"
        )
    variable = _make(
        name, shape, dtypes.as_dtype(dtypes.float32 if dtype is None else dtype), **options
    )
    known.variables[name] = variable, str(user_site())
    return variable


def _checked(variable: Variable, shape: Any, dtype: Any) -> Variable:
    dims = as_dims(shape)
    if merged(dims, variable.dims) is CLASH:
        raise ShapeError(
            f"variable {variable.name!r} has shape {format_dims(variable.dims)}, "
            f"not {format_dims(dims)}"
        )
    if dtype is not None and dtypes.as_dtype(dtype) is not variable.dtype:
        raise DTypeError(
            f"variable {variable.name!r} has dtype {variable.dtype.name}, "
            f"not {dtypes.as_dtype(dtype).name}"
        )
    return variable


def _make(
    name: str, shape: Any, dtype: dtypes.DType, *, initializer: Any, regularizer: Any,
    trainable: bool | None, partitioner: Any, caching_device: Any, **options: Any,
) -> Variable:  # fmt: skip
    if partitioner is not None:
        raise NotImplementedError(f"variable {name!r}: partitioned variables are not supported")
    if initializer is None:
        initializer = _default_initializer(dtype)
    value: Any
    if isinstance(initializer, type):
        initializer = initializer()
    if callable(initializer) and not is_symbolic(initializer):
        dims = as_dims(shape)
        if options["validate_shape"] and not is_known(dims):
            raise ShapeError(f"the shape of variable {name!r} must be known: {format_dims(dims)}")

        def value() -> Any:
            return _initialise(initializer, list(dims or ()), dtype)

    else:
        if shape is not None:
            raise GraphError(f"variable {name!r}: an initial value brings its shape, give none")
        value = initializer
        if isinstance(value, np.ndarray) or is_symbolic(value):
            dtype = dtypes.as_dtype(value.dtype)
    with init_scope(), get_default_graph().name_scope(None):
        variable = Variable(
            value, trainable=trainable is None or trainable, dtype=dtype, name=name, **options
        )
    if regularizer is not None:
        with get_default_graph().name_scope(f"{name}/Regularizer/"):
            loss = regularizer(variable)
        if loss is not None:
            get_default_graph().add_to_collection(GraphKeys.REGULARIZATION_LOSSES, loss)
    return variable


def _initialise(initializer: Any, shape: list[Any], dtype: dtypes.DType) -> Any:
    """Initializers take (shape, dtype, partition_info), or as many of these as they name."""
    import inspect

    try:
        names = set(inspect.signature(initializer).parameters)
    except (TypeError, ValueError):
        names = {"shape", "dtype"}
    if not names:
        return initializer()
    if "dtype" in names or "kwargs" in names:
        return initializer(shape, dtype=dtype)
    return initializer(shape)


def _default_initializer(dtype: dtypes.DType) -> Any:
    from graphflow.ops.initializers import glorot_uniform_initializer, zeros_initializer

    if dtype.is_floating:
        return glorot_uniform_initializer()
    if dtype.is_integer or dtype.is_bool:
        return zeros_initializer()
    raise GraphError(f"variables of {dtype.name} need an initializer")


def get_local_variable(name: str, *args: Any, **options: Any) -> Variable:
    """`get_variable` that adds to the local variables and is not trainable."""
    options["collections"] = [*(options.get("collections") or ()), GraphKeys.LOCAL_VARIABLES]
    options["trainable"] = False
    return get_variable(name, *args, **options)

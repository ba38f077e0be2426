"""`get_variable`: variables by name, made once and then reused."""

from __future__ import annotations

import inspect
from typing import Any

from graphflow.base import dtypes
from graphflow.base.errors import GraphError, ShapeError
from graphflow.base.shapes import CLASH, as_dims, format_dims, is_known, merged
from graphflow.build.convert import is_symbolic, to_numpy
from graphflow.build.defaults import get_default_graph
from graphflow.build.keys import GraphKeys
from graphflow.build.sites import user_site
from graphflow.ops.variable_scope import chained, get_variable_scope
from graphflow.ops.variables import Variable, init_scope


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
      dtype: float32 by default, or the scope's; an initial value brings its own.
      initializer: a function of (shape, dtype, partition_info), a function of nothing, a tensor or
        an array; by default the scope's, else Glorot uniform for floats and zeros for others.
      regularizer: function of the variable whose value goes to the collection of losses.
      custom_getter: called in place of this function, with a getter as its first argument.
      others: as `Variable`.

    Raises:
      ValueError: it exists and the scope does not reuse; it does not exist and the scope does;
        it exists with another shape or dtype; the shape is not known.
      NotImplementedError: a partitioner is given.
    """
    scope = get_variable_scope()
    inherited = {
        "dtype": dtype,
        "initializer": initializer,
        "regularizer": regularizer,
        "caching_device": caching_device,
        "partitioner": partitioner,
        "constraint": constraint,
        "use_resource": use_resource,
    }
    options = {k: getattr(scope, k) if v is None else v for k, v in inherited.items()}
    value = options["initializer"]
    if dtype is None and value is not None and not callable(value):
        options["dtype"] = value.dtype if is_symbolic(value) else to_numpy(value, None).dtype
    options["dtype"] = dtypes.as_dtype(options["dtype"])
    options |= {
        "shape": shape,
        "trainable": trainable,
        "collections": collections,
        "validate_shape": validate_shape,
        "reuse": scope.reuse,
    }
    full = f"{scope.name}/{name}" if scope.name else name
    getter = chained(custom_getter, scope.custom_getter)
    if getter is not None:
        return getter(_find_or_make, full, **options)
    return _find_or_make(full, **options)


def get_local_variable(name: str, *args: Any, **options: Any) -> Variable:
    """`get_variable` that adds to the local variables and is not trainable."""
    options["collections"] = [*(options.get("collections") or ()), GraphKeys.LOCAL_VARIABLES]
    options["trainable"] = False
    return get_variable(name, *args, **options)


def _find_or_make(
    name: str, shape: Any = None, dtype: Any = dtypes.float32, initializer: Any = None,
    regularizer: Any = None, reuse: Any = None, **options: Any,
) -> Variable:  # fmt: skip
    graph = get_default_graph().root
    known = graph.get_collection_ref("__variable_store")
    with graph.lock:
        if not known:
            known.append({})
        variables: dict[str, tuple[Variable, str]] = known[0]
        if name in variables:
            variable, site = variables[name]
            if not reuse:
                raise GraphError(
                    f"variable {name!r} exists already (built at {site}): did you mean "
                    "reuse=True or reuse=tf.AUTO_REUSE in its variable_scope?"
                )
            return _checked(variable, shape, dtypes.as_dtype(dtype))
        if reuse is True:
            raise GraphError(
                f"variable {name!r} does not exist, or was not made with get_variable: did you "
                "mean reuse=tf.AUTO_REUSE in its variable_scope?"
            )
        variable = _make(name, shape, dtypes.as_dtype(dtype), initializer, **options)
        variables[name] = variable, str(user_site())
    if regularizer is not None:
        with get_default_graph().name_scope(f"{name}/Regularizer/"):
            loss = regularizer(variable)
        if loss is not None:
            get_default_graph().add_to_collection(GraphKeys.REGULARIZATION_LOSSES, loss)
    return variable


def _checked(variable: Variable, shape: Any, dtype: dtypes.DType) -> Variable:
    dims = as_dims(shape)
    if merged(dims, variable.dims) is CLASH:
        raise ShapeError(
            f"variable {variable.name!r} has shape {format_dims(variable.dims)}, "
            f"not {format_dims(dims)}"
        )
    if dtype is not variable.dtype:
        raise GraphError(
            f"variable {variable.name!r} has dtype {variable.dtype.name}, not {dtype.name}"
        )
    return variable


def _make(
    name: str, shape: Any, dtype: dtypes.DType, initializer: Any, *,
    trainable: bool | None = None, partitioner: Any = None, caching_device: Any = None,
    **options: Any,
) -> Variable:  # fmt: skip
    if partitioner is not None:
        raise NotImplementedError(f"variable {name!r}: partitioned variables are not supported")
    if initializer is None:
        initializer = _default_initializer(name, dtype)
    elif isinstance(initializer, type):
        initializer = initializer()
    wanted: dtypes.DType | None = dtype
    value = initializer
    if not callable(initializer):
        if shape is not None:
            raise GraphError(f"variable {name!r}: an initial value brings its shape, give none")
    elif takes_nothing(initializer) and shape is None:
        wanted = None
    else:
        value = _initial_value(name, initializer, shape, dtype, options.get("validate_shape", True))
    with init_scope(), get_default_graph().name_scope(None):
        return Variable(
            value, trainable=trainable is None or trainable, dtype=wanted, name=name, **options
        )


def takes_nothing(function: Any) -> bool:
    """Can it be called without arguments?"""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return False
    return all(p.default is not p.empty or p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
               for p in parameters)  # fmt: skip


def _initial_value(
    name: str, initializer: Any, shape: Any, dtype: dtypes.DType, validate_shape: bool
) -> Any:
    """A function without arguments.  Initializers take (shape, dtype, partition_info), or as
    many of these as they name."""
    dims = as_dims(shape)
    if validate_shape and not is_known(dims):
        raise ShapeError(f"the shape of variable {name!r} must be known, not {format_dims(dims)}")
    sizes = list(dims or ())
    try:
        names = set(inspect.signature(initializer).parameters)
    except (TypeError, ValueError):
        names = {"dtype"}
    if not names:
        return initializer
    if names & {"dtype", "kwargs"}:
        return lambda: initializer(sizes, dtype=dtype)
    return lambda: initializer(sizes)


def _default_initializer(name: str, dtype: dtypes.DType) -> Any:
    from graphflow.ops.initializers import glorot_uniform_initializer, zeros_initializer

    if dtype.is_floating:
        return glorot_uniform_initializer()
    if dtype.is_integer or dtype.is_bool or dtype is dtypes.string:
        return zeros_initializer()
    raise GraphError(f"variable {name!r}: variables of {dtype.name} need an initializer")

"""`get_variable`: variables by name, made once and then reused."""

from __future__ import annotations

import inspect
from typing import Any

from graphflow.base import dtypes
from graphflow.base.errors import GraphError, ShapeError
from graphflow.base.shapes import CLASH, as_dims, format_dims, is_known, merged
from graphflow.build import Graph, as_tensor
from graphflow.build.convert import is_symbolic, to_numpy
from graphflow.build.defaults import get_default_graph
from graphflow.build.keys import GraphKeys
from graphflow.build.sites import user_site
from graphflow.ops.partitioned import PartitionedVariable, SaveSliceInfo, counts_of, slices
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
) -> Any:
    """The variable of that name in the scope in force: made, or found where the scope reuses.

    Args:
      name: its name; the scope's prefix is put before it.
      shape: its shape, where the initializer does not bring one.
      dtype: float32 by default, or the scope's; an initial value brings its own.
      initializer: a function of (shape, dtype, partition_info), a function of nothing, a tensor or
        an array; by default the scope's, else Glorot uniform for floats and zeros for others.
      regularizer: function of the variable whose value goes to the collection of losses.
      partitioner: function of shape and dtype that tells in how many parts each axis goes, such as
        `fixed_size_partitioner`; the result is a `PartitionedVariable` then.
      custom_getter: called in place of this function, with a getter as its first argument.
      others: as `Variable`.

    Raises:
      ValueError: it exists and the scope does not reuse; it does not exist and the scope does;
        it exists with another shape or dtype, or in other parts; the shape is not known.
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
    regularizer: Any = None, reuse: Any = None, partitioner: Any = None, **options: Any,
) -> Any:  # fmt: skip
    graph = get_default_graph().root
    dtype = dtypes.as_dtype(dtype)
    with graph.lock:
        known = _known(graph)
        parted = partitioner is not None and as_dims(shape) != ()
        if name in known:
            variable, site = known[name]
            if parted and not isinstance(variable, PartitionedVariable):
                raise GraphError(
                    f"variable {name!r} exists (built at {site}), but not in the parts that the "
                    "partitioner asks for"
                )
            if not reuse:
                raise GraphError(
                    f"variable {name!r} exists already (built at {site}): did you mean "
                    "reuse=True or reuse=tf.AUTO_REUSE in its variable_scope?"
                )
            return _checked(variable, shape, dtype)
        if f"{name}/part_0" in known:
            raise GraphError(
                f"variable {name!r} exists in parts (built at {known[f'{name}/part_0'][1]}), but "
                "another partition of it, or none, is asked for"
            )
        if reuse is True:
            raise GraphError(
                f"variable {name!r} does not exist, or was not made with get_variable: did you "
                "mean reuse=tf.AUTO_REUSE in its variable_scope?"
            )
        if parted:
            variable = _make_parts(name, shape, dtype, initializer, regularizer, partitioner,
                                   **options)  # fmt: skip
        else:
            variable = _make(name, shape, dtype, initializer, **options)
        known[name] = variable, str(user_site())
    if regularizer is not None and not parted:
        with get_default_graph().name_scope(f"{name}/Regularizer/"):
            loss = regularizer(variable)
        if loss is not None:
            get_default_graph().add_to_collection(GraphKeys.REGULARIZATION_LOSSES, loss)
    return variable


def _known(graph: Graph) -> dict[str, tuple[Any, str]]:
    """The variables by their names, with the lines that made them."""
    store = graph.get_collection_ref("__variable_store")
    if not store:
        store.append({})
    known: dict[str, tuple[Any, str]] = store[0]
    return known


def _make_parts(
    name: str, shape: Any, dtype: dtypes.DType, initializer: Any, regularizer: Any,
    partitioner: Any, **options: Any,
) -> PartitionedVariable:  # fmt: skip
    """Each part has the initial value that it has in the whole, where the initializer tells."""
    dims = as_dims(shape)
    value = None
    if initializer is not None and not callable(initializer):
        value = as_tensor(initializer, dtype)
        dims = merged(dims, value.dims)
        if dims is CLASH:
            raise ShapeError(f"variable {name!r}: the initial value has another shape than {shape}")
    counts = counts_of(partitioner, name, dims, dtype)
    parts = []
    for i, place in enumerate(slices(name, dims, counts)):
        part = _find_or_make(
            f"{name}/part_{i}", None if value is not None else place.var_shape, dtype,
            initializer if value is None else value[place.region],
            regularizer, place=place, **options,
        )  # fmt: skip
        part.slice_info = place
        parts.append(part)
    return PartitionedVariable(name, dims, dtype, parts, counts)


def _checked(variable: Any, shape: Any, dtype: dtypes.DType) -> Any:
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
    trainable: bool | None = None, caching_device: Any = None, place: SaveSliceInfo | None = None,
    **options: Any,
) -> Variable:  # fmt: skip
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
        if options.get("validate_shape", True) and not is_known(as_dims(shape)):
            raise ShapeError(
                f"the shape of variable {name!r} must be known, not {format_dims(as_dims(shape))}"
            )
        value = _initial_value(initializer, shape, dtype, place)
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
    initializer: Any, shape: Any, dtype: dtypes.DType, place: SaveSliceInfo | None
) -> Any:
    """A function without arguments.  Initializers take (shape, dtype, partition_info), or as
    many of these as they name."""
    sizes = list(as_dims(shape) or ())
    try:
        names = set(inspect.signature(initializer).parameters)
    except (TypeError, ValueError):
        names = {"dtype"}
    if not names:
        return initializer
    more: dict[str, Any] = {"dtype": dtype} if names & {"dtype", "kwargs"} else {}
    if place is not None and "partition_info" in names:
        more["partition_info"] = place
    return lambda: initializer(sizes, **more)


def _default_initializer(name: str, dtype: dtypes.DType) -> Any:
    from graphflow.ops.initializers import glorot_uniform_initializer, zeros_initializer

    if dtype.is_floating:
        return glorot_uniform_initializer()
    if dtype.is_integer or dtype.is_bool or dtype is dtypes.string:
        return zeros_initializer()
    raise GraphError(f"variable {name!r}: variables of {dtype.name} need an initializer")

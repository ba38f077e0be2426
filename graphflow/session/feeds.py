"""Fed values become arrays of the dtype and shape that their tensors have."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from graphflow.base import dtypes
from graphflow.base.errors import DTypeError, GraphError, ShapeError
from graphflow.base.shapes import Dims, format_dims
from graphflow.build import Graph, Tensor
from graphflow.build.convert import is_symbolic, to_numpy
from graphflow.session.fetches import value_of


def expand(feeds: Mapping[Any, Any]) -> dict[Any, Any]:
    """Feeds with keys that are tuples, or things of several parts, taken apart.

    Raises:
      ValueError: a key and its value have different numbers of parts.
    """
    flat: dict[Any, Any] = {}
    for key, value in feeds.items():
        if hasattr(key, "as_feeds"):  # IndexedSlices and their like
            flat |= expand(key.as_feeds(value))
        elif isinstance(key, (tuple, list)):
            if len(key) != len(value):
                raise GraphError(f"feed of {len(key)} tensors with {len(value)} values")
            flat |= expand(dict(zip(key, value, strict=True)))
        else:
            flat[key] = value
    return flat


def is_plain(feeds: Mapping[Any, Any]) -> bool:
    """Does `expand` leave it as it is?"""
    return not any(isinstance(key, (tuple, list)) or hasattr(key, "as_feeds") for key in feeds)


def fed_tensor(graph: Graph, key: Any) -> Tensor:
    """The tensor that a key of a feed_dict stands for.

    Raises:
      TypeError: it stands for no tensor.
      ValueError: there is none of that name, or it is of another graph.
    """
    try:
        tensor = graph.as_graph_element(key, allow_operation=False)
    except TypeError as error:
        raise TypeError(
            f"feed_dict key {key!r} of type {type(key).__name__} is no tensor, variable or name of "
            "a tensor"
        ) from error
    except KeyError as error:
        raise GraphError(f"feed_dict key {key!r} is not in the graph: {error.args[0]}") from error
    tensor = value_of(tensor)
    if tensor.dtype in (dtypes.resource, dtypes.variant):
        raise TypeError(f"{tensor!r} cannot be fed: it has no value outside the graph")
    return tensor


def converter(tensor: Tensor, keep: bool) -> Callable[[Any], Any]:
    """A function from what the user gives for a tensor to the array that is fed.

    Args:
      tensor: what is fed.
      keep: the run keeps the array, so it must be a copy of the user's.
    """
    dtype, dims = tensor.dtype, tensor.dims
    wanted = dtype.np
    free = dims is None or None in dims
    plain = dtype is not dtypes.string

    def convert(value: Any) -> Any:
        if plain and type(value) is np.ndarray and value.dtype == wanted:
            array = value
        else:
            array = _to_array(tensor, value)
        if free:
            if dims is not None and not _fits(array.shape, dims):
                raise _wrong_shape(tensor, array.shape)
        elif array.shape != dims:
            raise _wrong_shape(tensor, array.shape)
        return array.copy() if keep and array is value else array

    return convert


def _to_array(tensor: Tensor, value: Any) -> Any:
    if is_symbolic(value):
        raise TypeError(
            f"{tensor.name!r} is fed with {value!r}: a feed is a number, string, list or array; "
            "fetch the tensor first"
        )
    try:
        if tensor.dtype is not dtypes.string and not hasattr(value, "dtype"):
            given = np.asarray(value)  # a Python value is as good as the array of it
            value = given if given.dtype.kind in "biufc" else value
        return to_numpy(value, tensor.dtype)
    except (TypeError, ValueError) as error:
        kind = DTypeError if isinstance(error, TypeError) else ShapeError
        failure = kind(f"cannot feed {tensor.name!r}: {error}")
        failure.add_note(f"{tensor.name!r} built at {tensor.op.site}")
        raise failure from error


def _fits(shape: tuple[int, ...], dims: Dims) -> bool:
    assert dims is not None
    return len(shape) == len(dims) and all(
        n is None or m == n for m, n in zip(shape, dims, strict=True)
    )


def _wrong_shape(tensor: Tensor, shape: tuple[int, ...]) -> ShapeError:
    error = ShapeError(
        f"Cannot feed value of shape {shape} for Tensor {tensor.name!r}, which has shape "
        f"{format_dims(tensor.dims)}"
    )
    error.add_note(f"{tensor.name!r} built at {tensor.op.site}")
    return error

"""`map_fn`, `scan`, `foldl` and `foldr`: loops over the first axis, written with while_loop."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from graphflow.base import nest
from graphflow.base.dtypes import DType, as_dtype
from graphflow.base.errors import DTypeError, GraphError, ShapeError
from graphflow.base.shapes import CLASH, format_dims, merged
from graphflow.build import Tensor, as_tensor
from graphflow.build.defaults import get_default_graph
from graphflow.build.opdef import OPS
from graphflow.ops.bodies import noted
from graphflow.ops.tensor_array import TensorArray
from graphflow.ops.while_loop import while_loop


def map_fn(
    fn: Callable[[Any], Any],
    elems: Any,
    dtype: Any = None,
    parallel_iterations: int | None = None,
    back_prop: bool = True,
    swap_memory: bool = False,
    infer_shape: bool = True,
    name: str | None = None,
) -> Any:
    """Apply a function to each slice along the first axis, and stack what it gives.

    Args:
      fn: takes an element of the form of `elems`; returns one of the form of `dtype`.
      elems: a tensor, or a nested structure of tensors with the same first size.
      dtype: dtypes of what `fn` returns; by default those of `elems`.
      parallel_iterations, swap_memory: accepted for TensorFlow's sake.
      back_prop: False: no gradient flows through.
      infer_shape: every call returns the same shape.

    Raises:
      TypeError: `fn` is no function, or returns another form or dtype.
      ValueError: an element is a scalar, or their first sizes differ.
    """
    _check_function(fn)
    with get_default_graph().name_scope(name or "map"):
        items, count, static = _unstacked(elems)
        form = elems if dtype is None else dtype
        wanted = (
            [t.dtype for t in items]
            if dtype is None
            else [as_dtype(d) for d in nest.flatten(dtype)]
        )
        results = [TensorArray(d, size=count, infer_shape=infer_shape) for d in wanted]

        def step(i: Tensor, arrays: list[TensorArray]) -> Any:
            value = fn(_packed(elems, [t.read(i) for t in items]))
            after = _converted(_same(form, value), wanted)
            for given, expected in zip(after, wanted, strict=True):
                if given.dtype is not expected:
                    raise noted(
                        DTypeError(
                            f"fn returns {given.dtype.name} where dtype says {expected.name}"
                        )
                    )
            return i + 1, _written(arrays, i, after)

        _, results = while_loop(
            lambda i, _: i < count,
            step,
            (0, results),
            back_prop=back_prop,
            maximum_iterations=static,
        )
        return _packed(form, _stacked(results, static))


def scan(
    fn: Callable[[Any, Any], Any],
    elems: Any,
    initializer: Any = None,
    parallel_iterations: int = 10,
    back_prop: bool = True,
    swap_memory: bool = False,
    infer_shape: bool = True,
    reverse: bool = False,
    name: str | None = None,
) -> Any:
    """All intermediate results of a fold along the first axis, stacked.

    Args:
      fn: takes the accumulator and an element; returns the next accumulator.
      elems: a tensor, or a nested structure of tensors with the same first size.
      initializer: the first accumulator; by default the first element, which is then the first
        result.
      reverse: go from the last element to the first; results stay at their elements' places.
      others: as `map_fn`.

    Raises:
      As `map_fn`.
    """
    _check_function(fn)
    with get_default_graph().name_scope(name or "scan"):
        items, count, static = _unstacked(elems)
        first = count - 1 if reverse else as_tensor(0)
        form, start, state = _start(elems, items, initializer, first)
        arrays = [
            TensorArray(a.dtype, size=count, infer_shape=infer_shape, element_shape=a.dims)
            if infer_shape
            else TensorArray(a.dtype, size=count, infer_shape=False)
            for a in state
        ]
        if initializer is None:
            arrays = _written(arrays, first, state)

        def step(i: Tensor, before: list[Tensor], arrays: list[TensorArray]) -> Any:
            element = _packed(elems, [t.read(i) for t in items])
            result = _same(form, fn(_packed(form, before), element))
            after = _converted(result, [a.dtype for a in before])
            return (i - 1 if reverse else i + 1), after, _written(arrays, i, after)

        _, _, arrays = while_loop(
            (lambda i, *_: i >= 0) if reverse else (lambda i, *_: i < count),
            step,
            (count - 1 - start if reverse else start, state, arrays),
            back_prop=back_prop,
            maximum_iterations=static,
        )
        return _packed(form, _stacked(arrays, static))


def foldl(
    fn: Callable[[Any, Any], Any],
    elems: Any,
    initializer: Any = None,
    parallel_iterations: int = 10,
    back_prop: bool = True,
    swap_memory: bool = False,
    name: str | None = None,
) -> Any:
    """Combine the elements along the first axis from the first to the last.

    Args:
      fn: takes the accumulator and an element; returns the next accumulator.
      initializer: the first accumulator; by default the first element.
      others: as `map_fn`.

    Raises:
      As `map_fn`.
    """
    return _fold(fn, elems, initializer, back_prop, name or "foldl", reverse=False)


def foldr(
    fn: Callable[[Any, Any], Any],
    elems: Any,
    initializer: Any = None,
    parallel_iterations: int = 10,
    back_prop: bool = True,
    swap_memory: bool = False,
    name: str | None = None,
) -> Any:
    """Combine the elements along the first axis from the last to the first; see `foldl`."""
    return _fold(fn, elems, initializer, back_prop, name or "foldr", reverse=True)


def _fold(fn: Any, elems: Any, initializer: Any, back_prop: bool, name: str, reverse: bool) -> Any:
    _check_function(fn)
    with get_default_graph().name_scope(name):
        items, count, static = _unstacked(elems)
        first = count - 1 if reverse else as_tensor(0)
        form, start, state = _start(elems, items, initializer, first)

        def step(i: Tensor, before: list[Tensor]) -> Any:
            at = count - 1 - i if reverse else i
            element = _packed(elems, [t.read(at) for t in items])
            result = _same(form, fn(_packed(form, before), element))
            return i + 1, _converted(result, [a.dtype for a in before])

        _, state = while_loop(
            lambda i, _: i < count,
            step,
            (start, state),
            back_prop=back_prop,
            maximum_iterations=static,
        )
        return _packed(form, state)


def _check_function(fn: Any) -> None:
    if not callable(fn):
        raise TypeError(f"fn must be callable, not {fn!r}")


def _packed(structure: Any, leaves: Sequence[Any]) -> Any:
    return nest.pack_sequence_as(structure, leaves)


def _same(form: Any, value: Any) -> list[Any]:
    """The leaves of what a function returned."""
    try:
        nest.assert_same_structure(form, value)
    except (ValueError, TypeError) as error:
        raise noted(type(error)(f"fn returns another structure: {error}")) from None
    return nest.flatten(value)


def _converted(leaves: Sequence[Any], wanted: Sequence[DType]) -> list[Tensor]:
    """The tensors; Python numbers take the dtype that is wanted."""
    pairs = zip(leaves, wanted, strict=True)
    return [as_tensor(x, None if hasattr(x, "dtype") else dtype) for x, dtype in pairs]


def _start(
    elems: Any, items: Sequence[TensorArray], initializer: Any, first: Tensor
) -> tuple[Any, Tensor, list[Tensor]]:
    """Form of the accumulator, number of elements used up, and its first value."""
    if initializer is None:
        return elems, as_tensor(1), [t.read(first) for t in items]
    return initializer, as_tensor(0), [as_tensor(x) for x in nest.flatten(initializer)]


def _unstacked(elems: Any) -> tuple[list[TensorArray], Tensor, int | None]:
    """The elements as lists, their number, and that as an int where it is known."""
    tensors = [as_tensor(x, name="elem") for x in nest.flatten(elems)]
    if not tensors:
        raise GraphError("elems holds no tensor")
    size: Any = (None,)
    for tensor in tensors:
        if tensor.dims is not None and not tensor.dims:
            raise noted(ShapeError(f"elems must have a first axis, {tensor!r} is a scalar"))
        size = merged(size, None if tensor.dims is None else tensor.dims[:1])
        if size is CLASH:
            shapes = ", ".join(format_dims(t.dims) for t in tensors)
            raise noted(ShapeError(f"elems differ in their first size: {shapes}"))
    static = size[0]
    count = as_tensor(static) if static is not None else OPS["Shape"](tensors[0])[0]
    items = [TensorArray(t.dtype, size=count).unstack(t) for t in tensors]
    return items, count, static


def _written(arrays: Sequence[TensorArray], i: Any, values: Sequence[Any]) -> list[TensorArray]:
    return [array.write(i, value) for array, value in zip(arrays, values, strict=True)]


def _stacked(arrays: Sequence[TensorArray], static: int | None) -> list[Tensor]:
    results = []
    for array in arrays:
        tensor = array.stack()
        if static is not None and tensor.dims is not None:
            tensor.set_shape((static, *tensor.dims[1:]))
        results.append(tensor)
    return results

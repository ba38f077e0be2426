"""`py_func`: a Python function as an operation."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from typing import Any

import numpy as np

from graphflow.base import errors
from graphflow.base.dtypes import as_dtype
from graphflow.build import op
from graphflow.build.convert import to_numpy
from graphflow.build.opdef import Array, Each, Specs
from graphflow.build.tensor import Operation, Tensor
from graphflow.ops.shape_ops import no_cost

# What TensorFlow raises for the errors of a Python function.
_CLASSES: tuple[tuple[Any, type[errors.OpError]], ...] = (
    (StopIteration, errors.OutOfRangeError),
    (MemoryError, errors.ResourceExhaustedError),
    (NotImplementedError, errors.UnimplementedError),
    ((TypeError, ValueError), errors.InvalidArgumentError),
)


def _declared(*inputs: Tensor, types: Any, **_: Any) -> Specs:
    return [(None, t) for t in types]


def _call(function: Callable[..., Any], inputs: tuple[Any, ...], types: Any) -> tuple[Array, ...]:
    """The function's results as arrays of the declared dtypes.

    Raises:
      OpError: the function failed, or its results are not what was declared.
    """
    # copies: a function may keep or change its arguments
    given = [np.array(x if isinstance(x, np.ndarray) else _fetched(x)) for x in inputs]
    try:
        result = function(*[x[()] if x.dtype == object and not x.ndim else x for x in given])
    except errors.OpError:
        raise
    except Exception as error:
        kind = next((k for of, k in _CLASSES if isinstance(error, of)), errors.UnknownError)
        trace = "".join(traceback.format_exception(error))
        raise kind(None, None, f"{type(error).__name__}: {error}\n{trace}") from error
    if not types:
        return ()
    parts = list(result) if isinstance(result, (list, tuple)) else [result]
    if len(parts) != len(types):
        raise errors.InvalidArgumentError(
            None, None, f"the function returned {len(parts)} values, {len(types)} were declared"
        )
    return tuple([_converted(p, t, i) for i, (p, t) in enumerate(zip(parts, types, strict=True))])


def _fetched(x: Any) -> Any:
    """An array of a device in host memory; scalars of NumPy are in it."""
    return x.get() if hasattr(x, "get") else x


def _converted(value: Any, dtype: Any, index: int) -> Any:
    """Python numbers take the declared dtype; arrays must have it, as in TensorFlow."""
    try:
        if isinstance(value, (np.ndarray, np.generic)) and value.dtype.kind not in "OSU":
            if as_dtype(value.dtype) is dtype:
                return np.array(value)
            raise TypeError(f"an array of {value.dtype.name}")
        return np.array(to_numpy(value, dtype))
    except (TypeError, ValueError) as error:
        raise errors.InvalidArgumentError(
            None, None, f"value {index} of the function is no {dtype.name}: {error}"
        ) from None


@op("PyFunc", infer=_declared, grad=None, effect="input", cost=no_cost)
def _py_func(xp: Any, ctx: Any, *inputs: Each, function: Any, types: Any) -> Array:
    """Results of a Python function, called at least once in each run; runs that are tried again
    take what it has returned for the same arguments."""
    given = tuple([x if isinstance(x, np.ndarray) else _fetched(x) for x in inputs])
    return _placed(xp, ctx.input(lambda: _call(function, given, types), of=given))


@op("PyFuncStateless", infer=_declared, grad=None, cost=no_cost)
def _stateless(xp: Any, *inputs: Each, function: Any, types: Any) -> Array:
    """Results of a Python function of its inputs alone, which may be called once for many uses."""
    return _placed(xp, _call(function, inputs, types))


def _placed(xp: Any, found: tuple[Any, ...]) -> Array:
    arrays = tuple([x if x.dtype == object else xp.asarray(x) for x in found])
    return arrays[0] if len(arrays) == 1 else arrays


def py_func(
    func: Callable[..., Any],
    inp: Any,
    Tout: Any,
    stateful: bool = True,
    name: str | None = None,
) -> Any:
    """Call a Python function on the values of tensors.

    It runs at least once in each run that needs it.  A run that is tried again, for another one
    has changed what it read, takes the first results again where the arguments are the same, to
    the last bit; else it calls the function anew, and may keep other runs from committing
    meanwhile: a function must not wait for these.  No gradient flows through it unless one is put
    in its place, by `Graph.gradient_override_map({"PyFunc": ...})`.

    Args:
      func: takes an array per input; returns an array or number, or a list of them.
      inp: tensors.
      Tout: the dtype of the result, or a list of dtypes, as many as there are results.
      stateful: False promises that equal inputs give equal results.
      name: its name.

    Returns:
      A tensor of unknown shape, a list of them where Tout is one, or the operation where there
      are no results.

    Raises:
      InvalidArgumentError, UnknownError and others: when run, with the traceback of an error of
        the function.
    """
    several = isinstance(Tout, (list, tuple))
    types = tuple([as_dtype(t) for t in (Tout if several else [Tout])])
    entry = _py_func if stateful else _stateless
    inputs = inp if isinstance(inp, (list, tuple)) else [inp]
    result = entry(*inputs, function=func, types=types, name=name or "PyFunc")
    if not several or isinstance(result, Operation):
        return result
    return list(result) if isinstance(result, tuple) else [result]


def numpy_function(func: Callable[..., Any], inp: Any, Tout: Any, name: str | None = None) -> Any:
    """`py_func` under TensorFlow 2's name; see there."""
    return py_func(func, inp, Tout, name=name)

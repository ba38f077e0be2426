"""What the layers share: their functions, conditions on training, sizes of windows."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from graphflow.base.errors import GraphError
from graphflow.build import Tensor, as_tensor
from graphflow.nn.layer import Layer, snake_case
from graphflow.ops.cond import cond
from graphflow.ops.known import constant_value


def function_of(layer: type[Layer], makes_variables: bool = True) -> Callable[..., Tensor]:
    """The function that makes a layer and applies it.

    It takes the inputs, then what the class takes.  Where there are variables, they are in the
    scope `name`, and a last argument `reuse` says that they must, or with AUTO_REUSE may, exist.
    """
    kinds = inspect.Parameter
    parameters = [kinds("inputs", kinds.POSITIONAL_OR_KEYWORD)]
    for parameter in inspect.signature(layer).parameters.values():
        if parameter.kind is not kinds.VAR_KEYWORD:
            parameters.append(parameter)
    if makes_variables:
        parameters.append(kinds("reuse", kinds.POSITIONAL_OR_KEYWORD, default=None))
    signature = inspect.Signature(parameters)

    def call(*args: Any, **kwargs: Any) -> Tensor:
        given = signature.bind(*args, **kwargs).arguments
        inputs, reuse = given.pop("inputs"), given.pop("reuse", None)
        if makes_variables:
            given |= {"_scope": given.get("name"), "_reuse": reuse}
        return layer(**given)(inputs)

    call.__signature__ = signature  # type: ignore[attr-defined]
    call.__name__ = call.__qualname__ = snake_case(layer.__name__)
    call.__module__ = layer.__module__
    call.__doc__ = f"Apply a new `{layer.__name__}`, which takes the same arguments."
    return call


def decided(training: Any) -> bool | None:
    """Whether it is training, or None where only a run can tell."""
    known = training if isinstance(training, (bool, int)) else constant_value(as_tensor(training))
    return None if known is None else bool(known)


def where_training(training: Any, true_fn: Callable[[], Any], false_fn: Callable[[], Any]) -> Any:
    """What one of the functions gives: chosen now where `training` is known, else in each run."""
    known = decided(training)
    if known is None:
        return cond(training, true_fn, false_fn)
    return true_fn() if known else false_fn()


def sizes(value: Any, rank: int, what: str) -> tuple[int, ...]:
    """One size for each axis of a window.

    Raises:
      ValueError: there are more or fewer, or one is not positive.
    """
    found = (value,) * rank if isinstance(value, int) else tuple(value)
    if len(found) != rank or any(not isinstance(n, int) or n < 1 for n in found):
        raise GraphError(f"{what} must be a positive int or {rank} of them, not {value!r}")
    return found


def padding_named(padding: Any) -> str:
    """VALID or SAME.

    Raises:
      ValueError: it is neither.
    """
    name = str(padding).upper()
    if name not in ("VALID", "SAME"):
        raise GraphError(f"padding must be 'valid' or 'same', not {padding!r}")
    return name


def channels_come_first(data_format: str) -> bool:
    """Raises:
    ValueError: it is neither "channels_first" nor "channels_last".
    """
    if data_format not in ("channels_first", "channels_last"):
        raise GraphError(
            f"data_format must be 'channels_first' or 'channels_last', not {data_format!r}"
        )
    return data_format == "channels_first"


def on_axes(values: tuple[int, ...], first: bool) -> list[int]:
    """Values for the axes of a window, with 1 for the batch and the channels."""
    return [1, 1, *values] if first else [1, *values, 1]


def format_of(rank: int, first: bool) -> str:
    """The format that operations call NHWC, NCHW and the like."""
    axes = "DHW"[3 - rank :]
    return f"NC{axes}" if first else f"N{axes}C"

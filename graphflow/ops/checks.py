"""Ops that look at values: assertions, numeric checks, printing."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from graphflow.base.errors import InvalidArgumentError, ShapeError
from graphflow.base.shapes import CLASH, Dims, as_dims, format_dims, merged
from graphflow.build import op
from graphflow.build.defaults import get_default_graph
from graphflow.build.opdef import Array, Bool, Each, Float, Specs, T
from graphflow.build.tensor import Operation, Tensor
from graphflow.ops.cases import Case, unary
from graphflow.ops.public import composite
from graphflow.ops.rules import nothing, same
from graphflow.ops.shape_ops import no_cost
from graphflow.ops.sources import identity


@op("Assert", infer=nothing, grad=None, effect="output", cost=no_cost)
def _assert(xp: Any, condition: Bool, *data: Each, summarize: Any = 3) -> tuple[()]:
    """Fails the run where the condition is false, and shows the data."""
    if not bool(condition.all()):
        shown = " ".join(f"[{summary(d, summarize)}]" for d in data)
        raise InvalidArgumentError(None, None, f"assertion failed: {shown}")
    return ()


def summary(value: Any, count: int | None) -> str:
    """The first elements of an array as text, as TensorFlow prints them."""
    flat = value.reshape(-1)
    n = flat.size if count is None or count < 0 else count
    parts = [
        v.decode(errors="replace") if isinstance(v, bytes) else str(v) for v in flat[:n].tolist()
    ]
    return " ".join(parts) + ("..." if flat.size > n else "")


def _checked_grad(g: Tensor, y: Tensor, x: Tensor, *, message: str) -> Tensor:
    return _check_numerics(g, message=f"in the gradient of {message}")


@op(
    "CheckNumerics",
    infer=same,
    grad=_checked_grad,
    alias="x",
    cases=unary(message="x"),
)
def _check_numerics(xp: Any, x: Float, *, message: Any) -> Array:
    """x, if it holds neither NaN nor infinity; else the run fails with the message."""
    if not bool(xp.isfinite(x).all()):
        found = "NaN" if bool(xp.isnan(x).any()) else "Inf"
        raise InvalidArgumentError(None, None, f"{message} : Tensor had {found} values")
    return x


def _ensured_spec(x: Tensor, *, dims: Dims) -> Specs:
    found = merged(x.dims, dims)
    if found is CLASH:
        raise ShapeError(f"shape {format_dims(x.dims)} is not {format_dims(dims)}")
    return [(found, x.dtype)]


@op(
    "EnsureShape",
    infer=_ensured_spec,
    grad=lambda g, y, x, **_: g,
    alias="x",
    cost=no_cost,
    cases=lambda s: [Case((s.uniform(2, 3),), {"dims": (None, 3)})],
)
def _ensure_shape(xp: Any, x: T, *, dims: Any) -> Array:
    """x, if it has that shape; else the run fails."""
    if merged(x.shape, dims) is CLASH:
        raise InvalidArgumentError(None, None, f"shape {x.shape} is not {format_dims(dims)}")
    return x


@dataclass(frozen=True)
class Text:
    """What a run prints when it commits.

    Attributes:
      text: with the end of the line.
      where: "stdout" or "stderr".
      anywhere: on a cluster the driver prints it, which is where the user looks, and which knows
        whether it has.
    """

    text: str
    where: str
    anywhere: ClassVar[bool] = True

    def __call__(self) -> None:
        print(self.text, file=getattr(sys, self.where), end="", flush=True)


def _print_spec(x: Tensor, *_: Tensor, **__: Any) -> Specs:
    return [(x.dims, x.dtype)]


@op(
    "Print",
    infer=_print_spec,
    grad=lambda g, y, x, *data, **_: (g, *[None] * len(data)),
    effect="output",
    alias="x",
    cost=no_cost,
)
def _print(
    xp: Any, ctx: Any, x: T, *data: Each, message: Any, first_n: Any, summarize: Any, stream: Any
) -> Array:
    """x; writes the message and the data to the standard error when the run commits."""
    if first_n < 0 or ctx.counter(stream, 1) < first_n:
        line = message + "".join(f"[{summary(d, summarize)}]" for d in data)
        ctx.output(Text(line + "\n", "stderr"))
    return x


@op("PrintV2", infer=nothing, grad=None, effect="output", cost=no_cost)
def _print_parts(
    xp: Any, ctx: Any, *data: Each, parts: Any, summarize: Any, where: Any
) -> tuple[()]:
    """Writes text with the data in between to a standard stream when the run commits."""
    text = "".join(
        a + b for a, b in zip(parts, [*[_bracketed(d, summarize) for d in data], ""], strict=True)
    )
    ctx.output(Text(text, where))
    return ()


def _bracketed(value: Any, count: int) -> str:
    """An array as text; of each axis the first and last `count` entries."""
    if value.dtype == object:
        return summary(value, None)
    if not value.ndim:
        return str(value.item())
    edge = value.size if count < 0 else count
    text = np.array2string(
        value if isinstance(value, np.ndarray) else value.get(),
        separator=" ",
        threshold=0 if count >= 0 else sys.maxsize,
        edgeitems=edge,
    )
    return text


# ---- TensorFlow's functions


def Assert(
    condition: Any, data: Any, summarize: int | None = None, name: str | None = None
) -> Operation:
    """An operation that fails where a condition does not hold.

    Args:
      condition: a bool; of more than one all must be True.
      data: tensors that are shown then.
      summarize: how many elements of each; 3 by default.
      name: its name.
    """
    return _assert(condition, *data, summarize=3 if summarize is None else summarize, name=name)


def check_numerics(tensor: Any, message: str, name: str | None = None) -> Tensor:
    """The tensor; a run fails where it holds NaN or infinity.

    Raises:
      InvalidArgumentError: when run.
    """
    return _check_numerics(tensor, message=message, name=name)


def ensure_shape(x: Any, shape: Any, name: str | None = None) -> Tensor:
    """The tensor with a shape that is stated now and checked when it is run.

    Raises:
      ValueError, InvalidArgumentError: it has another one.
    """
    return _ensure_shape(x, dims=as_dims(shape), name=name)


def Print(
    input_: Any,
    data: Any,
    message: str | None = None,
    first_n: int | None = None,
    summarize: int | None = None,
    name: str | None = None,
) -> Tensor:
    """The tensor; each run prints the data to the standard error.

    Args:
      input_: what is passed on.
      data: a list of tensors to print.
      message: printed before them.
      first_n: print the first n times only.
      summarize: how many elements of each; 3 by default.
      name: its name.
    """
    return _print(
        input_,
        *data,
        message=message or "",
        first_n=-1 if first_n is None else first_n,
        summarize=3 if summarize is None else summarize,
        stream=get_default_graph().root.next_id,
        name=name,
    )


def print_(*inputs: Any, **options: Any) -> Operation:
    """An operation that prints its inputs, text and tensors, to a standard stream.

    Args:
      *inputs: what to print.
      **options: output_stream (sys.stderr by default, or sys.stdout), summarize (3), sep (" "),
        end, name.
    """
    known = {"output_stream", "summarize", "sep", "end", "name"}
    if set(options) - known:
        raise ValueError(f"print has no options {sorted(set(options) - known)}")
    stream = options.get("output_stream", sys.stderr)
    where = "stdout" if stream is sys.stdout or "stdout" in str(stream) else "stderr"
    sep = options.get("sep", " ")
    parts, data = [""], []
    for i, item in enumerate(inputs):
        parts[-1] += sep if i else ""
        if isinstance(item, Tensor) or hasattr(item, "as_graph_tensor"):
            data.append(item)
            parts.append("")
        else:
            parts[-1] += str(item)
    parts[-1] += options.get("end", "\n")
    limit = options.get("summarize")
    return _print_parts(
        *data,
        parts=tuple(parts),
        summarize=3 if limit is None else limit,
        where=where,
        name=options.get("name"),
    )


def identity_n(input: Any, name: str | None = None) -> list[Tensor]:
    """The tensors of a list, each passed on."""
    with composite(name, "IdentityN", *input):
        return [identity(x) for x in input]


def guarantee_const(input: Any, name: str | None = None) -> Tensor:
    """The tensor; a promise that it does not change."""
    return identity(input, name=name or "GuaranteeConst")

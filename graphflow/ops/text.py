"""Strings: arrays of bytes, element by element, in host memory."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np

from graphflow.base import dtypes
from graphflow.base.dtypes import DType, as_dtype
from graphflow.base.errors import DTypeError, GraphError, InvalidArgumentError
from graphflow.base.shapes import Dims
from graphflow.build import as_tensor, op
from graphflow.build.opdef import Array, Each, Index, Specs, String
from graphflow.build.tensor import Tensor
from graphflow.ops.cases import Case, Sampler
from graphflow.ops.fingerprint import fingerprint64
from graphflow.ops.known import static_ints
from graphflow.ops.public import composite, renamed
from graphflow.ops.rules import axes_in, broadcast_dims, same
from graphflow.ops.shape_ops import no_cost
from graphflow.ops.sparse import SparseTensor


def _texts(s: Sampler, *attrs: dict[str, Any]) -> list[Case]:
    arrays = [
        np.array([[b"a b", b"", b"Cd-e "], [b"12", b" x", b"zz top"]], object),
        np.array(b"one", object),
        np.zeros((0, 2), object),
    ]
    return [Case((a,), attr) for a in arrays for attr in attrs or ({},)]


def _cases(*attrs: dict[str, Any]) -> Callable[[Sampler], list[Case]]:
    return lambda s: _texts(s, *attrs)


def _mapped(array: Any, function: Callable[[bytes], Any], kind: Any = object) -> Any:
    """The function of each element."""
    given: Any = np.asarray(array, object)
    result = np.empty(given.size, kind)
    for i, element in enumerate(given.reshape(-1)):
        result[i] = function(element)
    return result.reshape(given.shape)


def _as(dtype: DType) -> Callable[..., Specs]:
    return lambda x, **_: [(x.dims, dtype)]


def _like(x: Tensor, **_: Any) -> Specs:
    return [(x.dims, dtypes.string)]


def _regex(pattern: str) -> re.Pattern[bytes]:
    if not isinstance(pattern, str):
        raise DTypeError(f"a regular expression must be a string, not {pattern!r}")
    try:
        return re.compile(pattern.encode())
    except re.error as error:
        raise GraphError(f"{pattern!r} is no regular expression: {error}") from None


# ---- one string each


@op("StringLower", infer=same, grad=None, cost=no_cost, cases=_cases())
def _lower(xp: Any, input: String) -> Array:
    """Each string with the ASCII letters in lower case."""
    return _mapped(input, bytes.lower)


@op("StringUpper", infer=same, grad=None, cost=no_cost, cases=_cases())
def _upper(xp: Any, input: String) -> Array:
    """Each string with the ASCII letters in upper case."""
    return _mapped(input, bytes.upper)


@op("StringStrip", infer=same, grad=None, cost=no_cost, cases=_cases())
def _strip(xp: Any, input: String) -> Array:
    """Each string without white space at its ends."""
    return _mapped(input, bytes.strip)


@op(
    "StringLength",
    infer=_as(dtypes.int32),
    grad=None,
    cost=no_cost,
    cases=_cases({"unit": "BYTE"}, {"unit": "UTF8_CHAR"}),
)
def _length(xp: Any, input: String, *, unit: Any = "BYTE") -> Array:
    """The number of bytes, or of characters of UTF-8, of each string."""
    if unit == "BYTE":
        return xp.asarray(_mapped(input, len, np.int32))
    return xp.asarray(_mapped(input, lambda b: len(b.decode(errors="replace")), np.int32))


@op(
    "RegexReplace",
    infer=same,
    grad=None,
    cost=no_cost,
    cases=_cases({"pattern": "[a-z]", "rewrite": "<\\0>"}),
)
def _replace(
    xp: Any, input: String, *, pattern: Any, rewrite: Any, replace_global: Any = True
) -> Array:
    """Each string with the matches of a pattern, or the first one, rewritten."""
    found = _regex(pattern)
    new = re.sub(rb"\\(\d)", rb"\\g<\1>", rewrite.encode())
    return _mapped(input, lambda b: found.sub(new, b, count=0 if replace_global else 1))


@op(
    "RegexFullMatch",
    infer=_as(dtypes.bool_),
    grad=None,
    cost=no_cost,
    cases=_cases({"pattern": "[a-z]+"}),
)
def _full_match(xp: Any, input: String, *, pattern: Any) -> Array:
    """Does a pattern match the whole of each string?"""
    found = _regex(pattern)
    return xp.asarray(_mapped(input, lambda b: found.fullmatch(b) is not None, bool))


@op(
    "StringToHashBucketFast",
    infer=_as(dtypes.int64),
    grad=None,
    cost=no_cost,
    cases=_cases({"num_buckets": 7}),
)
def _bucket(xp: Any, input: String, *, num_buckets: Any) -> Array:
    """The farmhash fingerprint of each string modulo a number of buckets."""
    return xp.asarray(_mapped(input, lambda b: fingerprint64(b) % num_buckets, np.int64))


# ---- numbers


def _number_spec(x: Tensor, *, out_type: DType) -> Specs:
    return [(x.dims, out_type)]


@op(
    "StringToNumber",
    infer=_number_spec,
    grad=None,
    cost=no_cost,
    cases=lambda s: [
        Case((np.array([b"1", b" -2 "], object),), {"out_type": t})
        for t in (dtypes.float32, dtypes.int64)
    ],
)
def _to_number(xp: Any, input: String, *, out_type: Any = dtypes.float32) -> Array:
    """Each string as a number."""
    kind = out_type.np.type

    def number(text: bytes) -> Any:
        try:
            if b"_" in text:
                raise ValueError("an underscore")
            if out_type.is_floating:
                return kind(float(text))
            value = int(text)
            if not out_type.min <= value <= out_type.max:
                raise ValueError("out of range")
            return kind(value)
        except ValueError:
            raise InvalidArgumentError(
                None, None, f"StringToNumberOp could not correctly convert string: {text!r}"
            ) from None

    return xp.asarray(_mapped(input, number, out_type.np))


@op(
    "AsString",
    infer=_like,
    grad=None,
    cost=no_cost,
    cases=lambda s: [
        Case((x,), {"form": form}, grad=False)
        for x, form in [
            (s.normal(2, 3), "%.3f"),
            (s.integers(9, 3), "%5d"),
            (s.booleans(3), "%s"),
            (s.normal(2) + 1j, "%f"),
        ]
    ],
)
def _as_string(xp: Any, x: Each, *, form: Any) -> Array:
    """Each number as text, in the format of C."""
    array: Any = x if isinstance(x, np.ndarray) else np.asarray(x.get() if hasattr(x, "get") else x)
    result = np.empty(array.size, object)
    for i, value in enumerate(array.reshape(-1).tolist()):
        if isinstance(value, bool):
            text = "true" if value else "false"
        elif isinstance(value, complex):
            text = f"({form % value.real},{form % value.imag})"
        elif isinstance(value, bytes):
            text = value.decode()
        else:
            text = form % value
        result[i] = text.encode()
    return result.reshape(array.shape)


# ---- several strings


def _join_spec(*inputs: Tensor, **_: Any) -> Specs:
    dims: Dims = ()
    for x in inputs:
        dims = broadcast_dims(dims, x.dims)
    return [(dims, dtypes.string)]


@op(
    "StringJoin",
    infer=_join_spec,
    grad=None,
    cost=no_cost,
    cases=lambda s: [
        Case((np.array([b"a", b"b"], object), np.array(b"c", object)), {"separator": "-"})
    ],
)
def _join(xp: Any, *inputs: String, separator: Any = "") -> Array:
    """Strings of the same place put together, a separator in between."""
    arrays = np.broadcast_arrays(*[np.asarray(x, object) for x in inputs])
    flat = [a.reshape(-1) for a in arrays]
    result = np.empty(flat[0].size, object)
    for i, parts in enumerate(zip(*flat, strict=True)):
        result[i] = separator.encode().join(parts)
    return result.reshape(arrays[0].shape)


def _reduced_spec(x: Tensor, *, axis: Any, keepdims: bool, separator: str) -> Specs:
    if x.dims is None:
        return [(None, dtypes.string)]
    axes = axes_in(axis, len(x.dims)) or ()
    if keepdims:
        return [(tuple([1 if i in axes else n for i, n in enumerate(x.dims)]), dtypes.string)]
    return [(tuple([n for i, n in enumerate(x.dims) if i not in axes]), dtypes.string)]


@op(
    "ReduceJoin",
    infer=_reduced_spec,
    grad=None,
    cost=no_cost,
    cases=_cases(
        {"axis": None, "keepdims": False, "separator": ""},
        {"axis": (), "keepdims": True, "separator": "-"},
    ),
)
def _reduce_join(xp: Any, x: String, *, axis: Any, keepdims: Any, separator: Any) -> Array:
    """Strings along axes put together; the first of the axes goes fastest."""
    array: Any = np.asarray(x, object)
    chosen = range(array.ndim)[::-1] if axis is None else [a % array.ndim for a in axis]
    kept = [a for a in range(array.ndim) if a not in chosen]
    moved = array.transpose(*kept, *list(chosen)[::-1])
    sizes = [array.shape[a] for a in kept]
    rows = moved.reshape(int(np.prod(sizes)), int(np.prod([array.shape[a] for a in chosen])))
    result = np.empty(len(rows), object)
    for i, row in enumerate(rows):
        result[i] = separator.encode().join(row)
    whole = [1 if a in chosen else array.shape[a] for a in range(array.ndim)]
    return result.reshape(whole if keepdims else sizes)


def _substr_spec(x: Tensor, pos: Tensor, len: Tensor) -> Specs:
    return [(broadcast_dims(x.dims, broadcast_dims(pos.dims, len.dims)), dtypes.string)]


@op(
    "Substr",
    infer=_substr_spec,
    grad=None,
    host=("pos", "len"),
    cost=no_cost,
    cases=lambda s: [
        Case((np.array([b"abc", b"defg"], object), np.array(p, np.int32), np.array(n, np.int32)))
        for p, n in ((1, 2), (-2, 1), ([0, 3], [3, 1]))
    ],
)
def _substr(xp: Any, input: String, pos: Index, len: Index) -> Array:
    """The `len` bytes of each string from `pos` on, which may count from the end."""
    arrays = np.broadcast_arrays(np.asarray(input, object), np.asarray(pos), np.asarray(len))
    result = np.empty(arrays[0].size, object)
    for i, (text, start, count) in enumerate(
        zip(*[a.reshape(-1).tolist() for a in arrays], strict=True)
    ):
        size = text.__len__()
        if not -size <= start <= size:
            raise InvalidArgumentError(None, None, f"pos {start} out of range for string {text!r}")
        first = start % size if start < 0 else start
        result[i] = text[first : first + max(count, 0)]
    return result.reshape(arrays[0].shape)


def _split_spec(x: Tensor, **_: Any) -> Specs:
    return [((None, 2), dtypes.int64), ((None,), dtypes.string), ((2,), dtypes.int64)]


@op(
    "StringSplit",
    infer=_split_spec,
    grad=None,
    dynamic=True,
    cost=no_cost,
    cases=lambda s: [
        Case((np.array([b"a b", b"", b"c  d"], object),), {"delimiter": d, "skip_empty": skip})
        for d, skip in ((" ", True), ("b ", False), ("", True))
    ],
)
def _split(xp: Any, input: String, *, delimiter: Any, skip_empty: Any) -> tuple[Array, ...]:
    """The parts of strings [n] between any of the delimiter's bytes: a sparse matrix's parts."""
    marks = re.compile(b"[" + re.escape(delimiter.encode()) + b"]") if delimiter else None
    places, values, width = [], [], 0
    for row, text in enumerate(input.reshape(-1)):
        if not text:
            continue  # no parts, whatever skip_empty says
        parts = marks.split(text) if marks else [text[i : i + 1] for i in range(len(text))]
        parts = [p for p in parts if p] if skip_empty else parts
        places += [(row, column) for column in range(len(parts))]
        values += parts
        width = max(width, len(parts))
    found = np.empty(len(values), object)
    found[:] = values
    indices = np.array(places, np.int64).reshape(-1, 2)
    return xp.asarray(indices), found, xp.asarray(np.array([input.size, width], np.int64))


# ---- TensorFlow's functions


def string_lower(input: Any, encoding: str = "", name: str | None = None) -> Tensor:
    """Strings with the ASCII letters in lower case."""
    return _lower(input, name=name)


def string_upper(input: Any, encoding: str = "", name: str | None = None) -> Tensor:
    """Strings with the ASCII letters in upper case."""
    return _upper(input, name=name)


def string_strip(input: Any, name: str | None = None) -> Tensor:
    """Strings without white space at their ends."""
    return _strip(input, name=name)


def string_length(input: Any, name: str | None = None, unit: str = "BYTE") -> Tensor:
    """int32: the length of strings in bytes, or, with "UTF8_CHAR", in characters."""
    if unit not in ("BYTE", "UTF8_CHAR"):
        raise GraphError(f'unit must be "BYTE" or "UTF8_CHAR", not {unit!r}')
    return _length(input, unit=unit, name=name)


def regex_replace(
    input: Any, pattern: str, rewrite: str, replace_global: bool = True, name: str | None = None
) -> Tensor:
    """Strings with the matches of a regular expression rewritten.

    Args:
      input: strings.
      pattern: a regular expression, in Python's syntax.
      rewrite: what to put in their place; \\1 is the first group, \\0 the match.
      replace_global: all matches, not just the first.
    """
    _regex(pattern)
    return _replace(
        input, pattern=pattern, rewrite=rewrite, replace_global=replace_global, name=name
    )


def regex_full_match(input: Any, pattern: str, name: str | None = None) -> Tensor:
    """bool: does a regular expression match whole strings?"""
    _regex(pattern)
    return _full_match(input, pattern=pattern, name=name)


def string_to_hash_bucket_fast(input: Any, num_buckets: int, name: str | None = None) -> Tensor:
    """int64: a hash of strings in [0, num_buckets), the same as TensorFlow's.

    Raises:
      ValueError: there are no buckets.
    """
    if num_buckets < 1:
        raise GraphError(f"num_buckets must be >= 1, not {num_buckets}")
    return _bucket(input, num_buckets=num_buckets, name=name)


def string_to_number(
    string_tensor: Any = None,
    out_type: Any = dtypes.float32,
    name: str | None = None,
    input: Any = None,
) -> Tensor:
    """Strings as numbers.

    Args:
      string_tensor: strings; `input` is another name for it.
      out_type: float32, float64, int32 or int64.

    Raises:
      InvalidArgumentError: when run, a string is no number.
    """
    kind = as_dtype(out_type)
    if kind.name not in ("float32", "float64", "int32", "int64"):
        raise DTypeError(f"strings become float32, float64, int32 or int64, not {kind.name}")
    return _to_number(input if string_tensor is None else string_tensor, out_type=kind, name=name)


def as_string(
    input: Any,
    precision: int = -1,
    scientific: bool = False,
    shortest: bool = False,
    width: int = -1,
    fill: str = "",
    name: str | None = None,
) -> Tensor:
    """Numbers as text.

    Args:
      input: numbers or bools.
      precision: digits after the point, of floating numbers.
      scientific, shortest: with an exponent, or as short as possible.
      width: fill up to it, at the left.
      fill: what to fill with: " ", "0", "-" (at the right) or "+".

    Raises:
      ValueError: precision and the like are given for integers.
    """
    x = as_tensor(input)
    floating = x.dtype.is_floating or x.dtype.is_complex
    if (scientific or shortest or precision >= 0) and not floating:
        raise GraphError(f"precision and form are for floating numbers, not {x.dtype.name}")
    if scientific and shortest:
        raise GraphError("scientific and shortest exclude each other")
    form = "%" + fill + (str(width) if width >= 0 else "")
    if floating:
        form += f".{precision}" if precision >= 0 else ""
        form += "e" if scientific else "g" if shortest else "f"
    else:
        form += "d"
    return _as_string(x, form=form, name=name)


def string_join(inputs: Any, separator: str = "", name: str | None = None) -> Tensor:
    """Strings of several tensors, of one shape or scalars, put together place by place."""
    return _join(*inputs, separator=separator, name=name)


def reduce_join(
    inputs: Any,
    axis: Any = None,
    keep_dims: Any = None,
    separator: str = "",
    name: str | None = None,
    reduction_indices: Any = None,
    keepdims: Any = None,
) -> Tensor:
    """Strings along axes put together.

    Args:
      inputs: strings.
      axis: a number or a list; of several the first goes fastest. None: all, in reading order.
      keep_dims, keepdims: keep the axes with size 1.
      separator: what comes in between.
    """
    axis = renamed(axis, reduction_indices, "axis", "reduction_indices")
    kept = bool(renamed(keepdims, keep_dims, "keepdims", "keep_dims", False))
    axes = None if axis is None else static_ints(axis, "axis")
    axes = (axes,) if isinstance(axes, int) else axes if axes is None else tuple(axes)
    return _reduce_join(inputs, axis=axes, keepdims=kept, separator=separator, name=name)


def substr(input: Any, pos: Any, len: Any, name: str | None = None, unit: str = "BYTE") -> Tensor:
    """Parts of strings.

    Args:
      input: strings.
      pos: where they begin, in bytes; negative: from the end.
      len: how long they are at most.

    Raises:
      InvalidArgumentError: when run, a part begins outside of its string.
    """
    if unit != "BYTE":
        raise GraphError(f'substr has unit="BYTE" only, not {unit!r}')
    return _substr(input, as_tensor(pos), as_tensor(len), name=name)


def string_split(
    source: Any = None,
    sep: Any = None,
    skip_empty: bool = True,
    delimiter: Any = None,
    result_type: str = "SparseTensor",
    input: Any = None,
    name: str | None = None,
) -> SparseTensor:
    """The parts of strings as a sparse matrix of a row per string.

    Args:
      source: strings [n]; `input` is its other name.
      sep: bytes, each of which separates, " " by default; "" splits into bytes. `delimiter` is
        its old name.
      skip_empty: leave out empty parts.
    """
    if result_type != "SparseTensor":
        raise GraphError(f"string_split returns a SparseTensor, no {result_type}")
    marks = renamed(sep, delimiter, "sep", "delimiter", " ")
    texts = as_tensor(input if source is None else source)
    if texts.dims is not None and len(texts.dims) != 1:
        raise GraphError(f"string_split takes strings of rank 1, not {len(texts.dims)}")
    with composite(name, "StringSplit", texts):
        return SparseTensor(*_split(texts, delimiter=marks, skip_empty=skip_empty))

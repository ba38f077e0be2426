"""Strings: arrays of bytes, element by element, in host memory."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np

from graphflow.base import dtypes
from graphflow.base.dtypes import DType, as_dtype
from graphflow.base.errors import DTypeError, GraphError, InvalidArgumentError
from graphflow.build import as_tensor, op
from graphflow.build.opdef import Array, Each, Specs, String
from graphflow.build.tensor import Tensor
from graphflow.ops.cases import Case, Sampler
from graphflow.ops.fingerprint import fingerprint64
from graphflow.ops.rules import same
from graphflow.ops.shape_ops import no_cost


def strings() -> list[Any]:
    """Arrays of strings, for cases."""
    return [
        np.array([[b"a b", b"", b"Cd-e "], [b"12", b" x", b"zz top"]], object),
        np.array(b"one", object),
        np.zeros((0, 2), object),
    ]


def _cases(*attrs: dict[str, Any]) -> Callable[[Sampler], list[Case]]:
    return lambda s: [Case((a,), attr) for a in strings() for attr in attrs or ({},)]


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

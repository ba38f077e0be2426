"""Static shapes: tuples whose entries may be unknown, and TensorFlow's classes over them.

Inside graphflow a shape is a `Dims`: a tuple of int or None, or None where even the rank is
unknown.  `TensorShape` and `Dimension` are what `tensor.shape` shows to users.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from graphflow.base.errors import ShapeError

Dims = tuple[int | None, ...] | None


class Dimension:
    """One size of a `TensorShape`; `.value` is None where it is unknown.

    Arithmetic with an unknown dimension gives an unknown one; so does comparison, which then
    returns None, as in TensorFlow 1.
    """

    __slots__ = ("_value",)

    def __init__(self, value: Any):
        if isinstance(value, Dimension):
            value = value._value
        if value is not None:
            value = value.__index__()
            if value < 0:
                raise ValueError(f"a dimension must be >= 0, not {value}")
        self._value: int | None = value

    @property
    def value(self) -> int | None:
        return self._value

    def is_compatible_with(self, other: Any) -> bool:
        theirs = Dimension(other)._value
        return self._value is None or theirs is None or self._value == theirs

    def assert_is_compatible_with(self, other: Any) -> None:
        if not self.is_compatible_with(other):
            raise ValueError(f"dimensions {self} and {other} are not compatible")

    def merge_with(self, other: Any) -> Dimension:
        self.assert_is_compatible_with(other)
        return Dimension(Dimension(other)._value if self._value is None else self._value)

    def _apply(self, other: Any, function: Any) -> Any:
        try:
            theirs = Dimension(other)._value
        except (TypeError, AttributeError, ValueError):
            return NotImplemented
        known = self._value is not None and theirs is not None
        return function(self._value, theirs) if known else None

    def _number(self, other: Any, function: Any) -> Any:
        result = self._apply(other, function)
        return result if result is NotImplemented else Dimension(result)

    def __add__(self, other: Any) -> Any:
        return self._number(other, lambda a, b: a + b)

    __radd__ = __add__

    def __sub__(self, other: Any) -> Any:
        return self._number(other, lambda a, b: a - b)

    def __rsub__(self, other: Any) -> Any:
        return self._number(other, lambda a, b: b - a)

    def __mul__(self, other: Any) -> Any:
        return self._number(other, lambda a, b: a * b)

    __rmul__ = __mul__

    def __floordiv__(self, other: Any) -> Any:
        return self._number(other, lambda a, b: a // b)

    def __rfloordiv__(self, other: Any) -> Any:
        return self._number(other, lambda a, b: b // a)

    __div__ = __floordiv__

    def __truediv__(self, other: Any) -> Any:  # programs of Python 2 divide dimensions
        return self._number(other, lambda a, b: a // b)

    def __rtruediv__(self, other: Any) -> Any:
        return self._number(other, lambda a, b: b // a)

    def __mod__(self, other: Any) -> Any:
        return self._number(other, lambda a, b: a % b)

    def __rmod__(self, other: Any) -> Any:
        return self._number(other, lambda a, b: b % a)

    def __eq__(self, other: object) -> Any:
        return self._apply(other, lambda a, b: a == b)

    def __ne__(self, other: object) -> Any:
        return self._apply(other, lambda a, b: a != b)

    def __lt__(self, other: Any) -> Any:
        return self._apply(other, lambda a, b: a < b)

    def __le__(self, other: Any) -> Any:
        return self._apply(other, lambda a, b: a <= b)

    def __gt__(self, other: Any) -> Any:
        return self._apply(other, lambda a, b: a > b)

    def __ge__(self, other: Any) -> Any:
        return self._apply(other, lambda a, b: a >= b)

    def __hash__(self) -> int:
        return hash(self._value)

    def __index__(self) -> int:
        if self._value is None:
            raise TypeError("the dimension is unknown until the graph runs; use tf.shape")
        return self._value

    __int__ = __index__

    def __bool__(self) -> bool:
        return bool(self._value)

    def __str__(self) -> str:
        return "?" if self._value is None else str(self._value)

    def __repr__(self) -> str:
        return f"Dimension({self._value})"

    def __reduce__(self) -> Any:
        return Dimension, (self._value,)


class TensorShape:
    """The static shape of a tensor, as users see it."""

    __slots__ = ("_dims",)

    def __init__(self, dims: Any):
        self._dims: Dims = as_dims(dims)

    @property
    def dims(self) -> list[Dimension] | None:
        return None if self._dims is None else [Dimension(n) for n in self._dims]

    @property
    def ndims(self) -> int | None:
        return None if self._dims is None else len(self._dims)

    @property
    def rank(self) -> int | None:
        return self.ndims

    def as_list(self) -> list[int | None]:
        if self._dims is None:
            raise ValueError("as_list() of a shape of unknown rank")
        return list(self._dims)

    def is_fully_defined(self) -> bool:
        return is_known(self._dims)

    def num_elements(self) -> int | None:
        return size_of(self._dims)

    def is_compatible_with(self, other: Any) -> bool:
        return merged(self._dims, as_dims(other)) is not CLASH

    def assert_is_compatible_with(self, other: Any) -> None:
        if not self.is_compatible_with(other):
            raise ShapeError(f"shapes {self} and {TensorShape(other)} are not compatible")

    def merge_with(self, other: Any) -> TensorShape:
        self.assert_is_compatible_with(other)
        return TensorShape(merged(self._dims, as_dims(other)))

    def concatenate(self, other: Any) -> TensorShape:
        theirs = as_dims(other)
        known = self._dims is not None and theirs is not None
        return TensorShape((*self._dims, *theirs) if known else None)  # type: ignore[misc]

    def with_rank(self, rank: int) -> TensorShape:
        if self._dims is None:
            return TensorShape([None] * rank)
        if len(self._dims) != rank:
            raise ShapeError(f"shape {self} must have rank {rank}")
        return self

    def with_rank_at_least(self, rank: int) -> TensorShape:
        if self._dims is not None and len(self._dims) < rank:
            raise ShapeError(f"shape {self} must have rank at least {rank}")
        return self

    def assert_has_rank(self, rank: int) -> None:
        self.with_rank(rank)

    def assert_same_rank(self, other: Any) -> None:
        theirs = as_dims(other)
        if self._dims is not None and theirs is not None and len(self._dims) != len(theirs):
            raise ShapeError(f"shapes {self} and {TensorShape(other)} must have the same rank")

    def assert_is_fully_defined(self) -> None:
        if not self.is_fully_defined():
            raise ShapeError(f"shape {self} is not fully defined")

    def __len__(self) -> int:
        if self._dims is None:
            raise ValueError("len() of a shape of unknown rank")
        return len(self._dims)

    def __bool__(self) -> bool:
        return self._dims is not None

    def __iter__(self) -> Iterator[Dimension]:
        if self._dims is None:
            raise ValueError("iteration over a shape of unknown rank")
        return iter([Dimension(n) for n in self._dims])

    def __getitem__(self, key: Any) -> Any:
        if self._dims is None:
            return TensorShape(None) if isinstance(key, slice) else Dimension(None)
        part = self._dims[key]
        return TensorShape(part) if isinstance(key, slice) else Dimension(part)

    def __eq__(self, other: object) -> bool:
        try:
            return self._dims == as_dims(other)
        except TypeError:
            return NotImplemented

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return hash(self._dims)

    def __str__(self) -> str:
        return format_dims(self._dims)

    def __repr__(self) -> str:
        dims = None if self._dims is None else [Dimension(n) for n in self._dims]
        return f"TensorShape({dims})"

    def __reduce__(self) -> Any:
        return TensorShape, (self._dims,)


class _Clash:
    """What `merged` returns where two shapes contradict each other."""


CLASH: Any = _Clash()


def as_dims(value: Any) -> Dims:
    """The tuple for a TensorShape, a sequence of sizes (None or -1: unknown), an int, or None.

    Raises:
      TypeError: the value describes no shape.
      ValueError: a size is negative.
    """
    if value is None:
        return None
    if isinstance(value, TensorShape):
        return value._dims
    if isinstance(value, (int, Dimension)):
        return (_size(value),)
    if isinstance(value, str):
        raise TypeError(f"{value!r} is no shape")
    return tuple([_size(n) for n in value])


def _size(value: Any) -> int | None:
    if isinstance(value, Dimension):
        return value.value
    if value is None:
        return None
    try:
        size: int = value.__index__()
    except (AttributeError, TypeError):
        raise TypeError(f"{value!r} is no size of a shape: an int or None is needed") from None
    if size == -1:
        return None
    if size < 0:
        raise ValueError(f"a size of a shape must be >= 0, not {size}")
    return size


def is_known(dims: Dims) -> bool:
    """Is every size known?"""
    return dims is not None and None not in dims


def size_of(dims: Dims) -> int | None:
    """Number of elements, or None where it is unknown."""
    if dims is None:
        return None
    if 0 in dims:
        return 0
    total = 1
    for n in dims:
        if n is None:
            return None
        total *= n
    return total


ADDRESS_SPACE = 1 << 47  # bytes that a process can name at all


def holds(dims: Dims, itemsize: int) -> bool:
    """Could any memory hold elements of so many bytes in that shape, as far as it is known?"""
    size = size_of(dims)
    return size is None or size * itemsize <= ADDRESS_SPACE


def merged(a: Dims, b: Dims) -> Any:
    """The shape that both describe, or CLASH."""
    if a is None or a == b:
        return b
    if b is None:
        return a
    if len(a) != len(b):
        return CLASH
    result = []
    for m, n in zip(a, b, strict=True):
        if m is not None and n is not None and m != n:
            return CLASH
        result.append(n if m is None else m)
    return tuple(result)


def broadcast(a: Dims, b: Dims) -> Any:
    """NumPy's broadcast of two static shapes, or CLASH.

    An unknown size against n > 1 gives n (anything else would fail when run); against 1 or
    unknown it stays unknown.
    """
    if a == b and a is not None and None not in a:
        return a
    if a is None or b is None:
        return None
    if len(a) < len(b):
        a, b = b, a
    result = list(a)
    offset = len(a) - len(b)
    for i, n in enumerate(b, offset):
        m = a[i]
        if m == n or n == 1:
            continue
        if m == 1 or (m is None and n is not None):
            result[i] = n
        elif n is not None:
            return CLASH
    return tuple(result)


def format_dims(dims: Dims) -> str:
    """TensorFlow's way to print a shape: "(2, ?)", "(3,)", "<unknown>"."""
    if dims is None:
        return "<unknown>"
    sizes = ["?" if n is None else str(n) for n in dims]
    return f"({sizes[0]},)" if len(sizes) == 1 else f"({', '.join(sizes)})"

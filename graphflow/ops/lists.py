"""Lists of arrays as values: what loops save for their gradients, and what a TensorArray holds.

A tensor of dtype variant holds an `Items`: a persistent list whose entries may be missing.  The
gradient of a list is a list: an entry that is missing there counts as zeros.  So these ops are
closed under differentiation, and loops have gradients of any order.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from graphflow.base import dtypes
from graphflow.base.dtypes import DType
from graphflow.base.errors import InvalidArgumentError, ShapeError
from graphflow.base.shapes import Dims, format_dims, is_known
from graphflow.build import op
from graphflow.build.opdef import OPS, Array, Each, Index, Specs
from graphflow.build.tensor import Tensor
from graphflow.ops.cases import Case, Sampler

_CHUNK = 64
_NONE: tuple[Any, ...] = (None,) * _CHUNK


class Items:
    """An immutable list; a changed copy shares what did not change.

    Entries lie in chunks of 64, so that writing one entry of n copies 64 + n / 64 pointers: a
    loop that fills a list of 10,000 costs milliseconds, where copying the list takes seconds.
    """

    __slots__ = ("_chunks", "size")

    def __init__(self, chunks: tuple[tuple[Any, ...], ...] = (), size: int = 0):
        self._chunks = chunks
        self.size = size

    @staticmethod
    def of(entries: Iterable[Any]) -> Items:
        flat = tuple(entries)
        padded = flat + (None,) * (-len(flat) % _CHUNK)
        chunks = [padded[i : i + _CHUNK] for i in range(0, len(padded), _CHUNK)]
        return Items(tuple(chunks), len(flat))

    @staticmethod
    def reserved(size: int) -> Items:
        return Items((_NONE,) * -(-size // _CHUNK), size)

    def get(self, index: int) -> Any:
        """The entry, or None where it is missing."""
        if not 0 <= index < self.size:
            return None
        return self._chunks[index // _CHUNK][index % _CHUNK]

    def put(self, index: int, value: Any) -> Items:
        """A list with another entry; it grows where the index is behind its end."""
        block, offset = divmod(index, _CHUNK)
        chunks = self._chunks
        if block >= len(chunks):
            chunks += (_NONE,) * (block + 1 - len(chunks))
        old = chunks[block]
        new = (*old[:offset], value, *old[offset + 1 :])
        size = max(self.size, index + 1)
        return Items((*chunks[:block], new, *chunks[block + 1 :]), size)

    def present(self) -> Iterator[tuple[int, Any]]:
        """The entries that are not missing, with their indices."""
        for block, chunk in enumerate(self._chunks):
            if chunk is not _NONE:
                for offset, value in enumerate(chunk):
                    if value is not None:
                        yield block * _CHUNK + offset, value

    def __add__(self, other: Items) -> Items:
        """Entry by entry; a missing one counts as zeros."""
        result = self if self.size >= other.size else Items(self._chunks, other.size)
        for index, value in other.present():
            mine = result.get(index) if index // _CHUNK < len(result._chunks) else None
            result = result.put(index, value if mine is None else mine + value)
        return result

    def __len__(self) -> int:
        return self.size

    def __iter__(self) -> Iterator[Any]:
        return iter([self.get(i) for i in range(self.size)])

    def __reduce__(self) -> Any:
        return Items.of, (tuple(self),)

    def __repr__(self) -> str:
        return f"<list of {self.size}>"


def _is_list(*_: Any, **__: Any) -> Specs:
    return [((), dtypes.variant)]


def _at(index: Any) -> Any:
    """The index as an int, or the indices as a list of ints."""
    return np.asarray(index).tolist() if isinstance(index, np.ndarray) else index.tolist()


def _present(items: Items, index: int) -> Any:
    value = items.get(index)
    if value is None:
        if not 0 <= index < items.size:
            raise InvalidArgumentError(None, None, f"index {index} is outside of {items!r}")
        raise InvalidArgumentError(None, None, f"entry {index} of {items!r} was not written")
    return value


def _stacked(xp: Any, values: list[Any], dims: Dims, dtype: DType) -> Array:
    if values:
        if any(v.shape != values[0].shape for v in values):
            shapes = ", ".join(str(s) for s in sorted({v.shape for v in values}))
            raise InvalidArgumentError(None, None, f"entries of different shapes: {shapes}")
        return xp.stack(values)
    if dims is None or None in dims:
        raise InvalidArgumentError(
            None, None, f"stacking no entries of shape {format_dims(dims)}: it must be known"
        )
    return xp.zeros((0, *dims), dtype.np)


# ---- entries


@op("EmptyList", infer=_is_list, grad=None)
def empty_list(xp: Any) -> Items:
    """A list of no entries; as a gradient: zeros."""
    return Items()


@op("ListReserve", infer=_is_list, grad=None, host=("size",))
def list_reserve(xp: Any, size: Index) -> Items:
    """A list of `size` entries, all missing."""
    if int(size) < 0:
        raise InvalidArgumentError(None, None, f"a list cannot have size {int(size)}")
    return Items.reserved(int(size))


@op("ListLength", infer=lambda items: [((), dtypes.int32)], grad=None)
def list_length(xp: Any, items: Each) -> Array:
    """Number of entries, missing ones included."""
    return xp.asarray(items.size, np.int32)


def _entry_spec(items: Tensor, index: Tensor, *, dims: Dims, dtype: DType) -> Specs:
    return [(_rows(index, dims), dtype)]


def _rows(index: Tensor, dims: Dims) -> Dims:
    """Shape of what is read: the index's shape, then the entry's."""
    if index.dims is None or dims is None:
        return None
    if len(index.dims) > 1:
        raise ShapeError(f"an index of a list has rank 0 or 1, not {format_dims(index.dims)}")
    return (*index.dims, *dims)


def _get_grad(g: Any, y: Any, items: Any, index: Any, **_: Any) -> Any:
    return list_add_at(empty_list(), index, g), None


@op("ListGet", infer=_entry_spec, grad=_get_grad, host=("index",), alias="items")
def list_get(xp: Any, items: Each, index: Index, *, dims: Any, dtype: Any) -> Array:
    """The entry at an index; with a vector of indices, these entries stacked.

    In a stack, a missing entry counts as zeros of the static shape `dims`, as in TensorFlow.
    Raises InvalidArgumentError where there is no such entry, or where it is missing otherwise.
    """
    where = _at(index)
    if isinstance(where, int):
        return _present(items, where)
    rows = [items.get(i) for i in where]
    if is_known(dims) and any(r is None for r in rows):
        inside = [0 <= i < items.size for i in where]
        rows = [
            xp.zeros(dims, dtype.np) if r is None and there else r
            for r, there in zip(rows, inside, strict=True)
        ]
    rows = [_present(items, i) if r is None else r for i, r in zip(where, rows, strict=True)]
    return _stacked(xp, rows, dims, dtype)


def _or_grad(g: Any, y: Any, items: Any, index: Any, like: Any) -> Any:
    return list_add_at(empty_list(), index, g), None, None


@op(
    "ListGetOr",
    infer=lambda items, index, like: [(like.dims, like.dtype)],
    grad=_or_grad,
    host=("index",),
)
def list_get_or(xp: Any, items: Each, index: Index, like: Each) -> Array:
    """As ListGet; a missing entry gives zeros of the shape of `like`, or of its row."""
    where = _at(index)
    if isinstance(where, int):
        value = items.get(where)
        return _zeros(xp, like) if value is None else value
    rows = [items.get(i) for i in where]
    rows = [_zeros(xp, like[j]) if r is None else r for j, r in enumerate(rows)]
    return xp.stack(rows) if rows else _zeros(xp, like)


def _zeros(xp: Any, like: Any) -> Any:
    return Items() if isinstance(like, Items) else xp.zeros_like(like)


def _set_grad(g: Any, y: Any, items: Any, index: Any, value: Any, **_: Any) -> Any:
    return list_drop(g, index), None, list_get_or(g, index, value)


@op("ListSet", infer=_is_list, grad=_set_grad, host=("index",))
def list_set(xp: Any, items: Each, index: Index, value: Each, *, grows: Any = True) -> Items:
    """The list with another entry at an index; with a vector of indices, the rows of `value`.

    Raises InvalidArgumentError where an index is negative, given twice, or behind the end of a
    list that does not grow.
    """
    where = _at(index)
    if isinstance(where, int):
        return items.put(_checked(where, items, grows), value)
    if len(where) != len(value):
        raise InvalidArgumentError(
            None, None, f"{len(where)} indices were given for {len(value)} rows"
        )
    if len(set(where)) != len(where):
        raise InvalidArgumentError(None, None, "an index of a list is written twice")
    for i, row in zip(where, value, strict=True):
        _checked(i, items, grows)
        items = items.put(i, xp.asarray(row))  # a row of a vector is a NumPy scalar
    return items


def _checked(index: int, items: Items, grows: bool) -> int:
    if index < 0 or (index >= items.size and not grows):
        more = "" if index < 0 else ": it grows only with dynamic_size=True"
        raise InvalidArgumentError(None, None, f"index {index} is outside of {items!r}{more}")
    return index


def _drop_grad(g: Any, y: Any, items: Any, index: Any) -> Any:
    return list_drop(g, index), None


@op("ListDrop", infer=_is_list, grad=_drop_grad, host=("index",))
def list_drop(xp: Any, items: Each, index: Index) -> Items:
    """The list without the entries at an index or a vector of them: they are missing then."""
    where = _at(index)
    for i in [where] if isinstance(where, int) else where:
        if items.get(i) is not None:
            items = items.put(i, None)
    return items


# ---- sums


@op("ListAdd", infer=_is_list, grad=lambda g, y, a, b: (g, g))
def list_add(xp: Any, a: Each, b: Each) -> Items:
    """Sum of two lists entry by entry, in which a missing entry counts as zeros."""
    return a + b


@op(
    "ListAddAt",
    infer=_is_list,
    grad=lambda g, y, items, index, value: (g, None, list_get_or(g, index, value)),
    host=("index",),
)
def list_add_at(xp: Any, items: Each, index: Index, value: Each) -> Items:
    """Add to the entry at an index; with a vector of indices, the rows of `value`."""
    where = _at(index)
    pairs = [(where, value)] if isinstance(where, int) else zip(where, value, strict=True)
    for i, row in pairs:
        old = items.get(i)
        row = row if isinstance(row, Items) else xp.asarray(row)
        items = items.put(i, row if old is None else old + row)
    return items


# ---- concatenation


def _concat_grad(g: Any, y: Any, items: Any, **_: Any) -> Any:
    return list_split(g, list_lengths(items))


@op(
    "ListConcat",
    infer=lambda items, *, dims, dtype: [(dims, dtype)],
    grad=_concat_grad,
)
def list_concat(xp: Any, items: Each, *, dims: Any, dtype: Any) -> Array:
    """All entries joined along their first axis.  `dims` is the static shape of the result."""
    values = [_present(items, i) for i in range(items.size)]
    if not values:
        if dims is None or None in dims[1:]:
            raise InvalidArgumentError(None, None, "joining no entries of unknown shape")
        return xp.zeros((0, *dims[1:]), dtype.np)
    return xp.concatenate(values)


@op("ListLengths", infer=lambda items: [((None,), dtypes.int64)], grad=None)
def list_lengths(xp: Any, items: Each) -> Array:
    """First size of each entry."""
    lengths = [len(_present(items, i)) for i in range(items.size)]
    return xp.asarray(np.asarray(lengths, np.int64))


def _split_grad(g: Any, y: Any, value: Any, lengths: Any) -> Any:
    return list_concat_or(g, value, lengths), None


@op("ListSplit", infer=_is_list, grad=_split_grad, host=("lengths",))
def list_split(xp: Any, value: Each, lengths: Index) -> Items:
    """Cut along the first axis into pieces of the given lengths."""
    sizes = _at(lengths)
    if sum(sizes) != len(value):
        raise InvalidArgumentError(
            None, None, f"lengths add up to {sum(sizes)}, the value has {len(value)} rows"
        )
    ends = np.cumsum(sizes).tolist()
    return Items.of(value[end - n : end] for n, end in zip(sizes, ends, strict=True))


@op(
    "ListConcatOr",
    infer=lambda items, like, lengths: [(like.dims, like.dtype)],
    grad=lambda g, y, items, like, lengths: (list_split(g, lengths), None, None),
    host=("lengths",),
)
def list_concat_or(xp: Any, items: Each, like: Each, lengths: Index) -> Array:
    """Entries joined along the first axis; a missing one gives zeros of its length."""
    parts = []
    end = 0
    for i, n in enumerate(_at(lengths)):
        end += n
        value = items.get(i)
        parts.append(xp.zeros_like(like[end - n : end]) if value is None else value)
    return xp.concatenate(parts) if parts else xp.zeros_like(like)


# ---- zeros, for gradients


def _no_cases(_: Sampler) -> list[Case]:
    return [Case((), {"dims": (2, 3), "dtype": dtypes.float64})]


@op("Zeros", infer=lambda *, dims, dtype: [(dims, dtype)], grad=None, cases=_no_cases)
def zeros(xp: Any, *, dims: Any, dtype: Any) -> Array:
    """Zeros of a static shape; a size that is unknown is 0."""
    if dtype is dtypes.variant:
        return Items()
    return xp.zeros([n or 0 for n in dims or ()], dtype.np)


def zeros_for(tensor: Tensor, dims: Dims, dtype: DType) -> Tensor:
    """What stands for no gradient of a tensor whose gradient has that shape and dtype."""
    if dtype is dtypes.variant:
        return empty_list()
    if dims is not None and None not in dims:
        return zeros(dims=dims, dtype=dtype)
    if tensor.dtype is dtypes.resource:
        tensor = OPS["ReadVariable"](tensor)
    return OPS["ZerosLike"](tensor)


def add_gradients(a: Tensor, b: Tensor) -> Tensor:
    """Sum of two gradients of one tensor."""
    return list_add(a, b) if a.dtype is dtypes.variant else OPS["Add"](a, b)

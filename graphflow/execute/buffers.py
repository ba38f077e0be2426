"""Arrays that native steps hand out: used again only when nobody holds them any more."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

_ALIGNED = 64
_KEPT = 4  # arrays of one kind at most; who holds more results than that gets fresh ones


class Ring:
    """Arrays of one shape and dtype.

    An array is free when its reference count, and that of the memory below it (which views of
    views refer to), is what this ring alone accounts for.
    """

    def __init__(self, shape: tuple[int, ...], dtype: np.dtype[Any]):
        self._shape = shape
        self._dtype = dtype
        self._arrays: list[tuple[Any, Any, int]] = []  # what was taken last stands last

    def take(self) -> tuple[Any, int]:
        """An array that nobody holds, and its address."""
        arrays = self._arrays
        for i, (array, memory, address) in enumerate(arrays):
            # held by: the tuple, the loop's name, the argument (and for memory: array.base)
            if sys.getrefcount(array) == 3 and sys.getrefcount(memory) == 4:
                arrays.append(arrays.pop(i))
                return array, address
        array, memory, address = aligned(self._shape, self._dtype)
        if len(arrays) >= _KEPT:
            arrays.pop(0)
        arrays.append((array, memory, address))
        return array, address


def aligned(shape: tuple[int, ...], dtype: np.dtype[Any]) -> tuple[Any, Any, int]:
    """An array whose first element lies on a cache line, the memory below it, its address."""
    size = dtype.itemsize
    for n in shape:
        size *= n
    memory = np.empty(size + _ALIGNED, np.uint8)
    start = memory.ctypes.data
    skip = -start % _ALIGNED
    array = memory[skip : skip + size].view(dtype).reshape(shape)
    return array, memory, start + skip

"""Variables in parts along one axis: partitioners say how many, and `get_variable` makes them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from graphflow.base import dtypes
from graphflow.base.dtypes import DType
from graphflow.base.errors import DTypeError, GraphError, ShapeError
from graphflow.base.shapes import Dims, TensorShape, format_dims, is_known
from graphflow.build import as_tensor
from graphflow.build.defaults import get_default_graph
from graphflow.build.operators import Operators
from graphflow.build.tensor import Tensor
from graphflow.ops.joining import concat, split
from graphflow.ops.sources import identity
from graphflow.ops.variables import Variable

Partitioner = Callable[..., Sequence[int]]


@dataclass(frozen=True)
class SaveSliceInfo:
    """Which part of a larger tensor a variable is; checkpoints hold the larger one.

    Attributes:
      full_name, full_shape: of the larger tensor.
      var_offset, var_shape: where the part lies in it.
    """

    full_name: str
    full_shape: tuple[int, ...]
    var_offset: tuple[int, ...]
    var_shape: tuple[int, ...]

    @property
    def spec(self) -> str:
        """The text with which TensorFlow names such a slice: "4 3 0,2:0,3"."""
        sizes = " ".join(str(n) for n in self.full_shape)
        pairs = zip(self.var_offset, self.var_shape, strict=True)
        return f"{sizes} {':'.join(f'{start},{n}' for start, n in pairs)}"

    @property
    def region(self) -> tuple[slice, ...]:
        """The NumPy index of the part."""
        pairs = zip(self.var_offset, self.var_shape, strict=True)
        return tuple([slice(start, start + n) for start, n in pairs])

    def of_slot(self, name: str) -> SaveSliceInfo:
        """The same part of a tensor that belongs to the larger one, such as its moments."""
        whole = f"{self.full_name}/{name}"
        return SaveSliceInfo(whole, self.full_shape, self.var_offset, self.var_shape)


class PartitionedVariable(Operators):
    """A variable in parts along one axis.  As a tensor it is all of them, one after the other.

    Attributes:
      name: that of the whole; its parts are called "<name>/part_<i>".
    """

    def __init__(
        self, name: str, shape: Any, dtype: Any, variable_list: Any, partitions: Sequence[int]
    ):
        """Args:
          variable_list: the parts, each with the `SaveSliceInfo` of its place.
          partitions: number of parts along each axis.

        Raises:
          TypeError: the parts are no list of variables.
          ValueError: there are none, or they are parts of something else.
        """
        if not isinstance(variable_list, (list, tuple)):
            raise TypeError(f"variable_list must be a list of variables, not {variable_list!r}")
        self.name = name
        self._dims = tuple(TensorShape(shape).as_list())
        if not variable_list or any(n < 1 for n in partitions):
            raise GraphError(f"{len(variable_list)} variables make no partition {partitions}")
        for part in variable_list:
            if part.slice_info is None or part.slice_info.full_shape != self._dims:
                raise GraphError(f"{part!r} is no part of {name!r}, {format_dims(self._dims)}")
        self.dtype: DType = dtypes.as_dtype(dtype)
        self._parts = sorted(variable_list, key=lambda v: v.slice_info.var_offset)
        self._partitions = list(partitions)
        several = [axis for axis, n in enumerate(partitions) if n > 1] or [0]
        if len(several) > 1:
            raise GraphError(f"{name!r} can be parted along one axis only, not by {partitions}")
        self._axis = several[0]

    @property
    def dims(self) -> Dims:
        return self._dims

    @property
    def shape(self) -> TensorShape:
        return TensorShape(self._dims)

    def get_shape(self) -> TensorShape:
        return TensorShape(self._dims)

    def __iter__(self) -> Iterator[Variable]:
        return iter(self._parts)

    def __len__(self) -> int:
        return len(self._parts)

    def as_tensor(self) -> Tensor:
        """The whole, read independently of the control dependencies in force."""
        graph = get_default_graph()
        with graph.control_dependencies(None):
            if len(self._parts) == 1:
                whole = self._parts[0].value()
            else:
                with graph.name_scope(f"{self.name}/ConcatPartitions/"):
                    whole = concat(self._parts, self._axis)
            with graph.name_scope(None):
                return identity(whole, name=self.name)

    def as_graph_tensor(self, dtype: Any = None) -> Tensor:
        return self.as_tensor()

    def assign(
        self, value: Any, use_locking: bool = False, name: str | None = None,
        read_value: bool = True,
    ) -> list[Any]:  # fmt: skip
        """Give every part its share of a value, or of a list with one entry per part.

        Returns:
          The new values of the parts, or the operations where `read_value` is False.
        """
        return self._each(Variable.assign, value, name, read_value)

    def assign_add(
        self, value: Any, use_locking: bool = False, name: str | None = None,
        read_value: bool = True,
    ) -> list[Any]:  # fmt: skip
        """Add to the parts; takes and returns what `assign` does."""
        return self._each(Variable.assign_add, value, name, read_value)

    def assign_sub(
        self, value: Any, use_locking: bool = False, name: str | None = None,
        read_value: bool = True,
    ) -> list[Any]:  # fmt: skip
        """Subtract from the parts; takes and returns what `assign` does."""
        return self._each(Variable.assign_sub, value, name, read_value)

    def _each(self, change: Any, value: Any, name: str | None, read_value: bool) -> list[Any]:
        if isinstance(value, (list, PartitionedVariable)):
            values = list(value)
        else:
            sizes = [part.slice_info.var_shape[self._axis] for part in self._parts]
            values = split(as_tensor(value, self.dtype), sizes, axis=self._axis)
        if len(values) != len(self._parts):
            raise GraphError(f"{len(values)} values for the {len(self)} parts of {self.name!r}")
        pairs = zip(self._parts, values, strict=True)
        return [change(part, v, name=name, read_value=read_value) for part, v in pairs]

    def __repr__(self) -> str:
        shape = format_dims(self._dims)
        return f"<tf.PartitionedVariable {self.name!r} {shape} in {self._partitions} parts>"


def parts_of(variable: Any) -> list[Variable]:
    """The variables that hold state: the parts, or the variable itself."""
    return list(variable) if isinstance(variable, PartitionedVariable) else [variable]


def slices(name: str, dims: Any, counts: Sequence[int]) -> Iterator[SaveSliceInfo]:
    """The place of each part; the first ones get what does not divide evenly."""
    axis = next((i for i, n in enumerate(counts) if n > 1), 0)
    least, more = divmod(dims[axis], counts[axis])
    start = 0
    for i in range(counts[axis]):
        size = least + (i < more)
        offset = tuple([start if a == axis else 0 for a in range(len(dims))])
        shape = tuple([size if a == axis else n for a, n in enumerate(dims)])
        yield SaveSliceInfo(name, tuple(dims), offset, shape)
        start += size


def counts_of(partitioner: Partitioner, name: str, dims: Dims, dtype: DType) -> list[int]:
    """How many parts along each axis.

    Raises:
      ValueError: the shape is not known, or the partitioner gives no such numbers.
      TypeError: it is no function.
    """
    if not callable(partitioner):
        raise DTypeError(f"variable {name!r}: the partitioner {partitioner!r} is no function")
    if dims is None or not dims or not is_known(dims):
        raise ShapeError(
            f"variable {name!r} of shape {format_dims(dims)} cannot be parted: that needs a known "
            "shape of at least one axis"
        )
    counts = partitioner(shape=TensorShape(dims), dtype=dtype)
    fits = isinstance(counts, (list, tuple)) and len(counts) == len(dims) and min(counts) >= 1
    if not fits or sum(n > 1 for n in counts) > 1:
        raise GraphError(
            f"variable {name!r}: a partitioner gives a number of parts for each axis of "
            f"{format_dims(dims)}, one of them above 1 at most, not {counts}"
        )
    return [int(n) for n in counts]


# ---- partitioners


def fixed_size_partitioner(num_shards: int, axis: int = 0) -> Partitioner:
    """Parts an axis into `num_shards`, or as many as it is long."""

    def partitioner(shape: Any, dtype: Any = None, **_: Any) -> list[int]:
        sizes = _sizes(shape, axis)
        return _along(sizes, axis, min(num_shards, sizes[axis]))

    return partitioner


def variable_axis_size_partitioner(
    max_shard_bytes: int,
    axis: int = 0,
    bytes_per_string_element: int = 16,
    max_shards: int | None = None,
) -> Partitioner:
    """Parts an axis so that no part has more than `max_shard_bytes`, but one slice at least.

    Args:
      bytes_per_string_element: what an element counts where the variable holds strings.
      max_shards: at most so many parts, whatever their size.

    Raises:
      ValueError: one of the numbers is below 1.
    """
    if min(max_shard_bytes, bytes_per_string_element, max_shards or 1) < 1:
        raise GraphError("bytes and numbers of parts must be at least 1")

    def partitioner(shape: Any, dtype: Any, **_: Any) -> list[int]:
        sizes = _sizes(shape, axis)
        each = math.prod(sizes) / max(sizes[axis], 1) * _bytes(dtype, bytes_per_string_element)
        slices_each = max(1, math.floor(max_shard_bytes / max(each, 1)))
        count = math.ceil(sizes[axis] / slices_each)
        return _along(sizes, axis, min(max_shards or count, count))

    return partitioner


def min_max_variable_partitioner(
    max_partitions: int = 1,
    axis: int = 0,
    min_slice_size: int = 256 << 10,
    bytes_per_string_element: int = 16,
) -> Partitioner:
    """Parts an axis into at most `max_partitions` of at least `min_slice_size` bytes each.

    Raises:
      ValueError: the variable has no such axis.
    """

    def partitioner(shape: Any, dtype: Any, **_: Any) -> list[int]:
        sizes = _sizes(shape, axis)
        total = math.prod(sizes) * _bytes(dtype, bytes_per_string_element)
        wanted = math.ceil(total / min_slice_size)
        return _along(sizes, axis, max(1, min(sizes[axis], max_partitions, wanted)))

    return partitioner


def _sizes(shape: Any, axis: int) -> Any:
    sizes: Any = TensorShape(shape).as_list()
    if not -len(sizes) <= axis < len(sizes):
        raise GraphError(f"a variable of shape {sizes} has no axis {axis} to be parted along")
    return sizes


def _along(sizes: list[int], axis: int, count: int) -> list[int]:
    return [max(count, 1) if i == axis % len(sizes) else 1 for i in range(len(sizes))]


def _bytes(dtype: Any, of_string: int) -> int:
    kind = dtypes.as_dtype(dtype)
    return of_string if kind is dtypes.string else kind.size

"""What all ways to unroll a recurrent cell share: sizes, first states, lengths of sequences."""

from __future__ import annotations

from typing import Any

from graphflow.base import dtypes, nest
from graphflow.base.dtypes import DType
from graphflow.base.errors import DTypeError, GraphError, ShapeError
from graphflow.base.shapes import CLASH, format_dims, merged
from graphflow.build import OPS, Tensor, as_tensor
from graphflow.build.convert import is_symbolic
from graphflow.ops.casting import cast
from graphflow.ops.checks import Assert
from graphflow.ops.conditions import where
from graphflow.ops.reordering import reverse, reverse_sequence
from graphflow.ops.shape_ops import shape
from graphflow.ops.sources import identity


def batch_of(tensors: list[Tensor], axis: int) -> Any:
    """The size of the batch: an int where one of the tensors knows it, else a tensor.

    Raises:
      ShapeError: they know different ones.
    """
    known = {t.dims[axis] for t in tensors if t.dims is not None} - {None}
    if len(known) > 1:
        raise ShapeError(f"inputs of different batch sizes: {sorted(n for n in known if n)}")
    return known.pop() if known else shape(tensors[0])[axis]


def first_state(cell: Any, given: Any, batch_size: Any, dtype: Any) -> Any:
    """The given state, as tensors, or zeros.

    Raises:
      ValueError: there is neither a state nor a dtype, or the state has another form than the
        cell's.
    """
    if given is not None:
        nest.assert_same_structure(cell.state_size, given, check_types=False)
        return nest.map_structure(
            lambda x: x if hasattr(x, "with_flow") else as_tensor(x, _wanted(x, dtype)), given
        )
    if dtype is None:
        raise GraphError("an RNN needs initial_state or dtype")
    if hasattr(cell, "get_initial_state"):
        return cell.get_initial_state(inputs=None, batch_size=batch_size, dtype=dtype)
    return cell.zero_state(batch_size, dtype)


def _wanted(value: Any, dtype: Any) -> Any:
    """Plain numbers take the dtype of the RNN."""
    return None if is_symbolic(value) or hasattr(value, "dtype") else dtype


def output_dtype(dtype: Any, state: Any) -> DType:
    """The dtype of the outputs: the one given, else that of the state.

    Raises:
      DTypeError: none is given, and the state has several or none.
    """
    if dtype is not None:
        return dtypes.as_dtype(dtype)
    found = {leaf.dtype for leaf in nest.flatten(state)}
    if len(found) != 1:
        names = sorted(d.name for d in found)
        raise DTypeError(f"an RNN whose state has the dtypes {names} needs dtype")
    return found.pop()


def checked_lengths(sequence_length: Any, batch_size: Any) -> Tensor:
    """The lengths as an int32 vector, of which a run checks that there is one for each entry.

    Raises:
      ShapeError: they are no vector, or not as many as the batch has entries.
    """
    lengths = cast(sequence_length, dtypes.int32)
    lengths = identity(lengths, name="sequence_length")
    wanted = (None if isinstance(batch_size, Tensor) else batch_size,)
    if merged(lengths.dims, wanted) is CLASH:
        raise ShapeError(
            f"sequence_length must be a vector of one length for each of the {wanted[0] or ''} "
            f"entries of the batch, not of shape {format_dims(lengths.dims)}"
        )
    if lengths.dims is not None and lengths.dims == wanted and wanted[0] is not None:
        return lengths
    found, expected = shape(lengths), as_tensor([batch_size])
    check = Assert(
        OPS["Equal"](found, expected),
        [f"{lengths.name} must have shape", expected, "but has", found],
    )
    with lengths.graph.control_dependencies([check]):
        return identity(lengths, name="CheckSeqLen")


def past_end(finished: Tensor, old: Any, new: Any) -> Any:
    """Rows of `old` where a sequence has ended, of `new` elsewhere, for each part of a structure.

    TensorArrays and scalars are taken from `new`.

    Raises:
      ValueError, TypeError: the structures differ.
    """

    def pick(before: Any, after: Any) -> Any:
        if hasattr(after, "with_flow") or after.dims == ():
            return after
        result = where(finished, before, after)
        result.set_shape(before.dims)
        return result

    return nest.map_structure(pick, old, new)


def reversed_in_time(value: Any, lengths: Any, time: int, batch: int) -> Any:
    """Each sequence reversed within its length; whole where there are no lengths."""
    if lengths is None:
        return nest.map_structure(lambda x: reverse(x, [time]), value)
    return nest.map_structure(
        lambda x: reverse_sequence(x, lengths, seq_axis=time, batch_axis=batch), value
    )

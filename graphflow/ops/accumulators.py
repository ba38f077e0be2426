"""`tf.ConditionalAccumulator`: collects gradients of many runs until there are enough."""

from __future__ import annotations

from typing import Any

import numpy as np

from graphflow.base import dtypes
from graphflow.base.devices import parse
from graphflow.base.dtypes import as_dtype
from graphflow.base.errors import DTypeError, GraphError, InvalidArgumentError
from graphflow.base.shapes import CLASH, as_dims, format_dims, merged
from graphflow.base.state import StateKey, object_of
from graphflow.build import Operation, Tensor, as_tensor, op
from graphflow.build.defaults import get_default_graph
from graphflow.build.opdef import Array, Each, Handle, Index, Specs
from graphflow.ops.accumulator_state import AccumulatorState, Rows, SparseAccumulatorState
from graphflow.ops.casting import cast
from graphflow.ops.rules import nothing
from graphflow.ops.slices import IndexedSlices

REDUCTIONS = ("MEAN", "SUM")


@op("AccumulatorHandle", infer=lambda **_: [((), dtypes.resource)], grad=None, effect="state")
def accumulator_handle(
    xp: Any, ctx: Any, *, container: Any = "", shared_name: Any, sparse: Any, reduction: Any
) -> StateKey:
    """The name of an accumulator, which is made where there is none."""
    key, name = object_of("accumulator", container, shared_name)
    kind = SparseAccumulatorState if sparse else AccumulatorState
    ctx.resource(key, lambda: kind(name, reduction == "MEAN"))
    return key


def _found(ctx: Any, handle: StateKey) -> AccumulatorState:
    def missing() -> AccumulatorState:
        raise InvalidArgumentError(None, None, f"there is no accumulator {handle.name!r}")

    found: AccumulatorState = ctx.resource(handle, missing)
    return found


def _check(accumulator: AccumulatorState, dims: Any, given: Any) -> None:
    if merged(dims, given) is CLASH:
        raise InvalidArgumentError(
            None,
            None,
            f"a gradient of shape {tuple(given)} is given to {accumulator.name!r}, which takes "
            f"{format_dims(dims)}",
        )


@op("AccumulatorApplyGradient", infer=nothing, grad=None, effect="input")
def accumulator_apply(
    xp: Any, ctx: Any, handle: Handle, gradient: Each, step: Index, *, dims: Any, rank: Any
) -> tuple[()]:
    """Give a gradient; one of an older step than the accumulator's is dropped."""
    found = _found(ctx, handle)
    _check(found, dims, gradient.shape)
    given = np.asarray(gradient)
    ctx.take(handle, lambda numbers: found.give(given, int(step), rank, numbers))
    return ()


@op("AccumulatorApplyRows", infer=nothing, grad=None, effect="input")
def accumulator_apply_rows(
    xp: Any,
    ctx: Any,
    handle: Handle,
    indices: Index,
    values: Each,
    shape: Index,
    step: Index,
    *,
    dims: Any,
    rank: Any,
) -> tuple[()]:
    """Give a gradient of some rows."""
    found = _found(ctx, handle)
    if len(indices) != len(values):
        raise InvalidArgumentError(
            None, None, f"{len(indices)} indices do not belong to {len(values)} rows"
        )
    known = None if dims is None else dims[1:]
    _check(found, known, values.shape[1:])
    rows = Rows(np.asarray(indices), np.asarray(values), np.asarray(shape))
    ctx.take(handle, lambda numbers: found.give(rows, int(step), rank, numbers))
    return ()


def _average(handle: Tensor, count: Tensor, *, dims: Any, dtype: Any) -> Specs:
    return [(dims, dtype)]


@op("AccumulatorTakeGradient", infer=_average, grad=None, effect="input")
def accumulator_take(
    xp: Any, ctx: Any, handle: Handle, count: Index, *, dims: Any, dtype: Any
) -> Array:
    """Wait for so many gradients, and take the mean or sum of all that are there."""
    found = _found(ctx, handle)
    taken = ctx.take(handle, lambda numbers: found.take(int(count), ctx.cancelled, numbers))
    return taken.value


def _rows(handle: Tensor, count: Tensor, *, dims: Any, dtype: Any) -> Specs:
    rest = None if dims is None else (None, *dims[1:])
    rank = None if dims is None else len(dims)
    return [((None,), dtypes.int64), (rest, dtype), ((rank,), dtypes.int64)]


@op("AccumulatorTakeRows", infer=_rows, grad=None, effect="input", dynamic=True)
def accumulator_take_rows(
    xp: Any, ctx: Any, handle: Handle, count: Index, *, dims: Any, dtype: Any
) -> Any:
    """As `accumulator_take`, of rows: their indices ascending, the values, the whole shape."""
    found = _found(ctx, handle)
    taken = ctx.take(handle, lambda numbers: found.take(int(count), ctx.cancelled, numbers))
    return tuple(taken.value)


@op("AccumulatorCount", infer=lambda h: [((), dtypes.int32)], grad=None, effect="input")
def accumulator_count(xp: Any, ctx: Any, handle: Handle) -> Array:
    """How many gradients are there."""
    return np.asarray(ctx.input(_found(ctx, handle).count), np.int32)


@op("AccumulatorSetStep", infer=nothing, grad=None, effect="output")
def accumulator_set_step(xp: Any, ctx: Any, handle: Handle, step: Index) -> tuple[()]:
    """Drop what is older than a step, from the commit of the run on."""
    found, number = _found(ctx, handle), int(step)
    ctx.output(lambda: found.advance(number), own=True)
    return ()


@op("AccumulatorWithdraw", infer=nothing, grad=None, effect="output")
def accumulator_withdraw(xp: Any, ctx: Any, handle: Handle, *, rank: Any) -> tuple[()]:
    """Forget what a worker has given since the last mean, when the run commits."""
    found = _found(ctx, handle)
    ctx.output(lambda: found.withdraw(rank), own=True)
    return ()


class ConditionalAccumulatorBase:
    """What both kinds share.

    Attributes:
      accumulator_ref: the tensor that names it.
      dtype: of the gradients.
    """

    _sparse = False

    def __init__(
        self,
        dtype: Any,
        shape: Any = None,
        shared_name: str | None = None,
        name: str = "conditional_accumulator",
        reduction_type: str = "MEAN",
    ):
        """Args:
        dtype, shape: of the gradients; the shape may be partly known.
        shared_name: accumulators of one shared name are one.
        reduction_type: "MEAN" or "SUM".

        Raises:
          ValueError: the reduction is neither.
        """
        if reduction_type not in REDUCTIONS:
            raise GraphError(f"reduction_type={reduction_type!r}: it must be MEAN or SUM")
        self.dtype = as_dtype(dtype)
        self._dims = as_dims(shape)
        graph = get_default_graph().root
        with graph.as_default(), graph.control_dependencies(None):
            unique = graph.unique_name(name)
            self.accumulator_ref: Tensor = accumulator_handle(
                container=graph.scopes.container, shared_name=shared_name or unique,
                sparse=self._sparse, reduction=reduction_type, name=f"{unique}/",
            )  # fmt: skip

    @property
    def name(self) -> str:
        return self.accumulator_ref.op.name

    def num_accumulated(self, name: str | None = None) -> Tensor:
        """How many gradients are there: int32 []."""
        return accumulator_count(self.accumulator_ref, name=name or f"{self.name}_count")

    def set_global_step(self, new_global_step: Any, name: str | None = None) -> Operation:
        """Drop gradients of steps before this one."""
        step = _int64(new_global_step)
        return accumulator_set_step(self.accumulator_ref, step, name=name)

    def withdraw(self, rank: int, name: str | None = None) -> Operation:
        """Forget what the worker of that number has given since the last mean: it was started
        again, and will give that anew.  (Not of TensorFlow.)"""
        return accumulator_withdraw(self.accumulator_ref, rank=rank, name=name)

    def _rank(self, gradient: Tensor, rank: int | None) -> int:
        """The number of the worker that computes it: sums are in that order."""
        return (parse(gradient.op.device).task or 0) if rank is None else rank

    def _check_dtype(self, gradient: Tensor) -> None:
        if gradient.dtype is not self.dtype:
            raise DTypeError(
                f"{self.name!r} takes gradients of {self.dtype.name}, not {gradient.dtype.name}"
            )


class ConditionalAccumulator(ConditionalAccumulatorBase):
    """Collects dense gradients."""

    def apply_grad(
        self, grad: Any, local_step: Any = 0, name: str | None = None, *, rank: int | None = None
    ) -> Operation:
        """An operation that gives a gradient of the step at which it was computed.

        It counts as soon as the operation has run.  A step lower than the accumulator's: the
        gradient is dropped.

        Args:
          rank: gradients add up in the order of their ranks; by default the number of the task
            that `grad` asks for.
        """
        grad = as_tensor(grad, self.dtype)
        self._check_dtype(grad)
        step = _int64(local_step)
        return accumulator_apply(
            self.accumulator_ref, grad, step, dims=self._dims, rank=self._rank(grad, rank),
            name=name,
        )  # fmt: skip

    def take_grad(self, num_required: Any, name: str | None = None) -> Tensor:
        """The mean or sum of the gradients, once there are `num_required`; its step then is one
        higher."""
        count = as_tensor(num_required, dtypes.int32)
        return accumulator_take(
            self.accumulator_ref, count, dims=self._dims, dtype=self.dtype, name=name
        )


class SparseConditionalAccumulator(ConditionalAccumulatorBase):
    """Collects gradients of rows.  The mean of a row is over the gradients that have it."""

    _sparse = True

    def apply_indexed_slices_grad(
        self,
        grad: IndexedSlices,
        local_step: Any = 0,
        name: str | None = None,
        *,
        rank: int | None = None,
    ) -> Operation:
        """As `ConditionalAccumulator.apply_grad`, for `IndexedSlices`."""
        return self.apply_grad(
            grad.indices, grad.values, grad.dense_shape, local_step, name, rank=rank
        )

    def apply_grad(
        self,
        grad_indices: Any,
        grad_values: Any,
        grad_shape: Any = None,
        local_step: Any = 0,
        name: str | None = None,
        *,
        rank: int | None = None,
    ) -> Operation:
        """Give values [n, ...] for rows int64 [n]."""
        values = as_tensor(grad_values, self.dtype)
        self._check_dtype(values)
        shape = np.zeros(0, np.int64) if grad_shape is None else grad_shape
        return accumulator_apply_rows(
            self.accumulator_ref, _int64(grad_indices), values, _int64(shape),
            _int64(local_step), dims=self._dims, rank=self._rank(values, rank),
            name=name,
        )  # fmt: skip

    def take_indexed_slices_grad(self, num_required: Any, name: str | None = None) -> IndexedSlices:
        """The mean or sum of the gradients as `IndexedSlices`, rows ascending."""
        indices, values, shape = self.take_grad(num_required, name)
        return IndexedSlices(values, indices, shape)

    def take_grad(self, num_required: Any, name: str | None = None) -> Any:
        """Indices int64 [n], values [n, ...] and shape int64 [rank]."""
        count = as_tensor(num_required, dtypes.int32)
        return accumulator_take_rows(
            self.accumulator_ref, count, dims=self._dims, dtype=self.dtype, name=name
        )


def _int64(value: Any) -> Tensor:
    return cast(as_tensor(value), dtypes.int64)

"""Sums over replicas: what data-parallel training is made of.

    total_0, total_1 = all_reduce([gradient_0, gradient_1])

One operation has the values of all replicas as inputs, and gives each replica its sum: to
gradients, passes and interpreters it is an op like any other.  Where its inputs are made on
several devices, `partition` cuts it: each device sums with its peers, and nothing goes through
one place.

The order of summation is part of what the op means.  An array is cut into as many chunks as there
are replicas; chunk c is x[c] + x[c + 1] + ... + x[c - 1], which is the order that a ring arrives at
(Patarasuk and Yuan, Bandwidth optimal all-reduce, 2009).  So sums have the same bits in one
process, in shared memory and over sockets, and whichever workers carry the replicas.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from graphflow.base.errors import GraphError
from graphflow.build import as_tensor, op
from graphflow.build.opdef import Array, Num, Specs
from graphflow.build.tensor import Tensor
from graphflow.ops.cases import Case
from graphflow.ops.joining import filled
from graphflow.ops.rules import merge_dims


def chunk(size: int, world: int, index: int) -> slice:
    """The index-th of `world` nearly equal parts of a flat array; the last ones may be empty."""
    length = -(-size // world)
    start = min(size, index * length)
    return slice(start, min(size, start + length))


def ordered_sum(xp: Any, arrays: Sequence[Array]) -> Array:
    """The sum of one array per replica, of one shape, in the order that an all-reduce keeps."""
    world = len(arrays)
    total = xp.empty_like(arrays[0])
    flat, parts = total.reshape(-1), [x.reshape(-1) for x in arrays]
    for index in range(world):
        at = chunk(flat.size, world, index)
        into = flat[at]
        into[...] = parts[index][at]
        for step in range(1, world):
            into += parts[(index + step) % world][at]
    return total


def _bucket_size(inputs: Sequence[Any], world: int) -> int:
    if world < 1 or len(inputs) % world:
        raise GraphError(f"{len(inputs)} tensors are not as many for each of {world} replicas")
    return len(inputs) // world


def _reduced_spec(*inputs: Tensor, world: int) -> Specs:
    size = _bucket_size(inputs, world)
    specs: Specs = []
    for t in range(size):
        dims = inputs[t].dims
        for x in inputs[t + size :: size]:
            dims = merge_dims(dims, x.dims, "shapes of what replicas sum")
        specs.append((dims, inputs[t].dtype))
    return specs * world


def _reduced_grad(g: Any, out: Any, *inputs: Tensor, world: int) -> Any:
    return all_reduce_entry(*filled(g, out), world=world)


@op(
    "AllReduce",
    infer=_reduced_spec,
    grad=_reduced_grad,
    cost=lambda *inputs, world: float(sum(x.size for x in inputs)),
    cases=lambda s: [
        Case((s.normal(5), s.normal(5)), {"world": 2}),
        Case((s.normal(2, 2), s.normal(3), s.normal(2, 2), s.normal(3)), {"world": 2}),
        Case(tuple(s.normal(7) for _ in range(3)), {"world": 3}),
        Case((s.normal(), s.normal()), {"world": 2}),
        Case((s.normal(0, 3), s.normal(0, 3)), {"world": 2}),
    ],
)
def all_reduce_entry(xp: Any, *inputs: Num, world: Any) -> tuple[Array, ...]:
    """Sums over replicas of a bucket of tensors, once for each replica.

    The inputs are the bucket of replica 0, then that of replica 1, and so on; the outputs, too.
    """
    size = _bucket_size(inputs, world)
    sums = [ordered_sum(xp, [xp.asarray(x) for x in inputs[t::size]]) for t in range(size)]
    # Copies, as someone may write into what he fetched of one of them.
    return (*sums, *[total.copy() for _ in range(world - 1) for total in sums])


def all_reduce(
    values: Sequence[Any] | Sequence[Sequence[Any]], name: str | None = None
) -> list[Any]:
    """Sums over replicas; each replica gets them where its own values are.

    Args:
      values: a tensor per replica, all of one shape and dtype; or a list of tensors per replica, a
        bucket: as many for each, tensor by tensor of one shape, and all of one dtype.  A bucket
        travels as one message; how tensors are put into buckets makes no difference to the sums.
      name: of the operation.

    Returns:
      A sum per replica; or a list of sums per replica.

    Raises:
      GraphError: no replicas, no tensors, or not as many for each.
      ShapeError: shapes differ.
      DTypeError: dtypes differ, or are not numeric.
    """
    if not len(values):
        raise GraphError("all_reduce needs the values of at least one replica")
    buckets: list[list[Tensor]]
    single = not isinstance(values[0], (list, tuple))
    buckets = [[as_tensor(t) for t in ([b] if single else b)] for b in values]
    size, world = len(buckets[0]), len(buckets)
    if not size or any(len(b) != size for b in buckets):
        raise GraphError(
            f"replicas give {', '.join(str(len(b)) for b in buckets)} tensors: each must give as "
            "many, and at least one"
        )
    if world > 1:
        flat = [t for b in buckets for t in b]
        sums = list(all_reduce_entry(*flat, world=world, name=name))
        buckets = [sums[i : i + size] for i in range(0, len(sums), size)]
    return [b[0] for b in buckets] if single else buckets

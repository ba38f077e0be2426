"""Sums of the gradients that meet at one tensor."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from typing import Any

from graphflow.base.dtypes import int64, variant
from graphflow.build import OPS, Graph, Tensor, as_tensor
from graphflow.build.tensor import Operation


class AggregationMethod:
    """How `gradients` adds the terms of a gradient, under TensorFlow's names.

    ADD_N adds all in one op.  EXPERIMENTAL_TREE adds in pairs, so that a term may be freed before
    the next one exists; EXPERIMENTAL_ACCUMULATE_N is another name for it.
    """

    ADD_N = 0
    DEFAULT = ADD_N
    EXPERIMENTAL_TREE = 1
    EXPERIMENTAL_ACCUMULATE_N = 2


METHODS = (0, 1, 2)


def is_sparse(gradient: Any) -> bool:
    """Is it an `IndexedSlices`?"""
    return not isinstance(gradient, Tensor)


def is_list(gradient: Any) -> bool:
    """Is it the gradient of a list of tensors?"""
    return isinstance(gradient, Tensor) and gradient.dtype is variant


def total(terms: Sequence[Any], graph: Graph, operation: Operation, method: int) -> Any:
    """The sum of the gradients of one output of `operation`.

    Terms are added in the order in which they came.  Slices alone stay slices: they are
    concatenated, and repeated indices count as a sum.  One dense term makes the sum dense.
    """
    if len(terms) == 1:
        return terms[0]
    if is_list(terms[0]):
        return reduce(OPS["ListAdd"], terms)
    if all(is_sparse(g) for g in terms):
        return _concatenated(terms)
    dense = [as_tensor(g) for g in terms]
    if method == AggregationMethod.ADD_N:
        return OPS["AddN"](*dense)
    with graph.name_scope(f"{operation.name}_gradient_sum"):
        result = dense[0]
        for term in dense[1:]:
            result = OPS["AddN"](result, term)
    return result


def _concatenated(terms: Sequence[Any]) -> Any:
    """One `IndexedSlices` of many.  Indices of differing integer types become int64."""
    indices = [as_tensor(g.indices) for g in terms]
    if len({i.dtype for i in indices}) > 1:
        indices = [i if i.dtype is int64 else OPS["Cast"](i, dtype=int64) for i in indices]
    first = terms[0]
    values = OPS["ConcatV2"](*[g.values for g in terms], axis=0)
    return type(first)(values, OPS["ConcatV2"](*indices, axis=0), first.dense_shape)

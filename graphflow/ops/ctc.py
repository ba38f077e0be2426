"""Connectionist temporal classification: the loss over all alignments, and greedy decoding.

Source: Graves, Fernandez, Gomez and Schmidhuber, "Connectionist temporal classification", ICML
2006; computed in logarithms, with the last class as the blank.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import numpy as np

from graphflow.base import dtypes
from graphflow.base.errors import InvalidArgumentError
from graphflow.build import as_tensor, op
from graphflow.build.opdef import OPS, Array, Index, RealFloat, Specs
from graphflow.build.tensor import Tensor
from graphflow.ops.cases import Case, Sampler
from graphflow.ops.casting import cast
from graphflow.ops.public import composite
from graphflow.ops.rules import rank_is
from graphflow.ops.shape_ops import reshape, transpose
from graphflow.ops.sparse import SparseTensor


def _loss_spec(inputs: Tensor, *_: Tensor, **__: Any) -> Specs:
    return [((_dims(inputs)[1],), inputs.dtype)]


def _slope_spec(inputs: Tensor, *_: Tensor, **__: Any) -> Specs:
    return [(_dims(inputs), inputs.dtype)]


def _dims(inputs: Tensor) -> tuple[int | None, ...]:
    return rank_is(inputs, 3, "the inputs of a CTC loss, [time, batch, classes],")


def _grad(g: Any, y: Any, inputs: Any, *table: Any, **attrs: Any) -> Any:
    slope = OPS["PreventGradient"](
        _slope(inputs, *table, **attrs), message="a CTC loss is differentiated once only"
    )
    return slope * reshape(g, [1, -1, 1]), None, None, None


def _cases(s: Sampler) -> list[Case]:
    places = np.array([[0, 0], [0, 1], [1, 0], [1, 1], [1, 2]], np.int64)
    labels = np.array([1, 2, 0, 0, 3], np.int32)
    inputs = (s.normal(6, 3, 5), places, labels, np.array([5, 6, 2], np.int32))
    # as in TensorFlow, there is no second order
    return [Case(inputs, attrs, second=False) for attrs in ({}, {"merge_repeated": False})]


def _cost(inputs: Any, *_: Any, **__: Any) -> float:
    return 50.0 * math.prod([n or 1 for n in inputs.dims or (1,)])


@op(
    "CTCLoss",
    infer=_loss_spec,
    grad=_grad,
    host=("places", "labels", "lengths"),
    cost=_cost,
    cases=_cases,
)
def _ctc_loss(
    xp: Any,
    inputs: RealFloat,
    places: Index,
    labels: Index,
    lengths: Index,
    *,
    collapse_repeated: Any = False,
    merge_repeated: Any = True,
    ignore_longer: Any = False,
) -> Array:
    """Minus the log probability of label sequences, [batch].

    inputs: [time, batch, classes], logits; places: [n, 2] and labels: [n], a sparse matrix of a
    row of labels per example; lengths: [batch].
    """
    options = (collapse_repeated, merge_repeated, ignore_longer)
    return _both(xp, inputs, places, labels, lengths, *options)[0]


@op(
    "CTCLossGrad",
    infer=_slope_spec,
    grad=None,
    host=("places", "labels", "lengths"),
    cost=_cost,
    cases=_cases,
)
def _slope(
    xp: Any,
    inputs: RealFloat,
    places: Index,
    labels: Index,
    lengths: Index,
    *,
    collapse_repeated: Any = False,
    merge_repeated: Any = True,
    ignore_longer: Any = False,
) -> Array:
    """The gradient of the sum of CTC losses by their inputs."""
    options = (collapse_repeated, merge_repeated, ignore_longer)
    return _both(xp, inputs, places, labels, lengths, *options)[1]


def _both(
    xp: Any,
    inputs: Array,
    places: Any,
    labels: Any,
    lengths: Any,
    collapse_repeated: bool,
    merge_repeated: bool,
    ignore_longer: bool,
) -> tuple[Array, Array]:
    """The losses and their gradient."""
    steps, batch, classes = inputs.shape
    if lengths.shape != (batch,) or (lengths.size and int(lengths.max()) > steps):
        raise InvalidArgumentError(
            None, None, f"sequence lengths {lengths.tolist()} for inputs of shape {inputs.shape}"
        )
    if labels.size and not (int(labels.min()) >= 0 and int(labels.max()) < classes - 1):
        raise InvalidArgumentError(
            None, None, f"labels must be in [0, {classes - 1}): {labels.tolist()}"
        )
    losses, gradient = xp.zeros(batch, inputs.dtype), xp.zeros(inputs.shape, inputs.dtype)
    for b in range(batch):
        row = labels[places[:, 0] == b].tolist()
        if collapse_repeated:
            row = [k for i, k in enumerate(row) if not i or k != row[i - 1]]
        time = int(lengths[b])
        needed = len(row) + sum(a == c for a, c in pairwise(row))
        if (needed if merge_repeated else len(row)) > time:
            if ignore_longer:
                continue
            raise InvalidArgumentError(
                None, None, f"Not enough time for target transition sequence: {needed} > {time}"
            )
        if time:
            loss, slope = _example(xp, inputs[:time, b], row, merge_repeated)
            losses[b] = loss
            gradient[:time, b] = slope
    return losses, gradient


def _example(xp: Any, logits: Array, row: list[int], merge: bool) -> tuple[Array, Array]:
    """Loss and gradient of one example."""
    time, classes = logits.shape
    blank = classes - 1
    shifted = logits.astype(np.float64) - xp.max(logits, axis=1, keepdims=True)
    logs = shifted - xp.log(xp.sum(xp.exp(shifted), axis=1, keepdims=True))
    path = [blank] * (2 * len(row) + 1)
    path[1::2] = row
    skips = [s >= 2 and k != blank and (not merge or k != path[s - 2]) for s, k in enumerate(path)]
    emitted = logs[:, xp.asarray(np.array(path))]
    ahead = _sums(xp, emitted, skips, merge)
    # Backwards it is the same sum; a skip to s is one from s - 2.
    mirrored = [s >= 2 and skips[len(path) + 1 - s] for s in range(len(path))]
    back = _sums(xp, emitted[::-1, ::-1], mirrored, merge)[::-1, ::-1]
    total = ahead[-1, -1]
    if len(path) > 1:
        total = xp.logaddexp(total, ahead[-1, -2])
    share = xp.exp(ahead + back - emitted - total)
    expected = xp.zeros((time, classes))
    xp.add.at(expected, (slice(None), xp.asarray(np.array(path))), share)
    return -total, xp.exp(logs) - expected


def _sums(xp: Any, emitted: Array, skips: list[bool], merge: bool) -> Array:
    """Log probabilities of all beginnings that end in each state: [time, states].

    Args:
      skips: may a state follow the one two before it?
      merge: may a label, every other state, follow itself?
    """
    time, states = emitted.shape
    nothing = xp.full(states, -math.inf)
    closed = xp.asarray(np.where(skips, 0.0, -math.inf))
    stay = np.zeros(states)
    stay[1::2] = 0.0 if merge else -math.inf
    stay = xp.asarray(stay)
    first = nothing.copy()
    first[:2] = emitted[0, :2]
    rows = [first]
    for t in range(1, time):
        before = rows[-1]
        one = xp.concatenate([nothing[:1], before[:-1]])
        two = xp.concatenate([nothing[:2], before[:-2]])[:states] + closed
        rows.append(xp.logaddexp(xp.logaddexp(before + stay, one), two) + emitted[t])
    return xp.stack(rows)


def ctc_loss(
    labels: Any,
    inputs: Any = None,
    sequence_length: Any = None,
    preprocess_collapse_repeated: bool = False,
    ctc_merge_repeated: bool = True,
    ignore_longer_outputs_than_inputs: bool = False,
    time_major: bool = True,
    logits: Any = None,
) -> Tensor:
    """Minus the log probability of label sequences without their alignment.

    Args:
      labels: int32 `SparseTensor` [batch, max labels].
      inputs: logits [time, batch, classes], the last class being the blank; or `logits`.
      sequence_length: int32 [batch].
      preprocess_collapse_repeated: drop labels that repeat the one before.
      ctc_merge_repeated: outputs that repeat count once; where a label repeats, a blank must come
        between.
      ignore_longer_outputs_than_inputs: such examples have loss 0 instead of failing.
      time_major: False: the inputs are [batch, time, classes].

    Returns:
      [batch].

    Raises:
      InvalidArgumentError: when run, labels do not fit into the time, or are out of range.
    """
    with composite(None, "CTCLoss", inputs if inputs is not None else logits):
        x = as_tensor(inputs if inputs is not None else logits)
        x = x if time_major else transpose(x, [1, 0, 2])
        table = SparseTensor.from_value(labels)
        loss: Tensor = _ctc_loss(
            x,
            table.indices,
            table.values,
            cast(as_tensor(sequence_length), dtypes.int32),
            collapse_repeated=preprocess_collapse_repeated,
            merge_repeated=ctc_merge_repeated,
            ignore_longer=ignore_longer_outputs_than_inputs,
        )
        return loss

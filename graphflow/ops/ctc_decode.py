"""Decoding of connectionist temporal classification: greedy, and by beam search over prefixes.

Source of the search: Hwang and Sung, "Character-level incremental speech recognition with
recurrent neural networks", ICASSP 2016, without a language model; ties and pruning as TensorFlow
has them.  Decoding runs in host memory: it is bookkeeping of sequences.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from graphflow.base import dtypes
from graphflow.base.errors import GraphError, InvalidArgumentError
from graphflow.build import as_tensor, op
from graphflow.build.opdef import Array, Index, RealFloat, Specs
from graphflow.build.tensor import Tensor
from graphflow.ops.cases import Case, Sampler
from graphflow.ops.casting import cast
from graphflow.ops.rules import output_count, rank_is
from graphflow.ops.sparse import SparseTensor

NOTHING = -math.inf  # the logarithm of probability 0


def _decoded_specs(batch: int | None, inputs: Tensor, paths: int) -> Specs:
    """Indices, values and shape of each decoded matrix, and a number per path."""
    parts: Specs = [((None, 2), dtypes.int64)] * paths
    parts += [((None,), dtypes.int64)] * paths
    parts += [((2,), dtypes.int64)] * paths
    return [*parts, ((batch, paths), inputs.dtype)]


def _greedy_spec(inputs: Tensor, lengths: Tensor, **_: Any) -> Specs:
    dims = rank_is(inputs, 3, "the inputs of a CTC decoder, [time, batch, classes],")
    rank_is(lengths, 1, "the sequence lengths of a CTC decoder")
    return _decoded_specs(dims[1], inputs, 1)


def _beam_spec(inputs: Tensor, lengths: Tensor, *, beam_width: Any, top_paths: Any,
               merge_repeated: Any) -> Specs:  # fmt: skip
    dims = rank_is(inputs, 3, "the inputs of a CTC decoder, [time, batch, classes],")
    rank_is(lengths, 1, "the sequence lengths of a CTC decoder")
    if not 1 <= output_count(top_paths) <= output_count(beam_width):
        raise GraphError(f"{top_paths} paths cannot be had of a beam of {beam_width}")
    return _decoded_specs(dims[1], inputs, top_paths)


def _checked(inputs: Any, lengths: Any) -> Any:
    """The inputs as float64 in host memory.

    Raises:
      InvalidArgumentError: lengths do not fit, or there are no classes.
    """
    steps, batch, classes = inputs.shape
    if lengths.shape != (batch,) or (
        batch and not (int(lengths.min()) >= 0 and int(lengths.max()) <= steps)
    ):
        raise InvalidArgumentError(
            None, None, f"sequence lengths {lengths.tolist()} for inputs of shape {inputs.shape}"
        )
    if not classes:
        raise InvalidArgumentError(None, None, "a CTC decoder needs a class for the blank")
    return np.asarray(inputs).astype(np.float64)


def _packed(xp: Any, rows: list[list[list[int]]], scores: Any) -> tuple[Array, ...]:
    """The outputs: for each path a sparse matrix of one row of labels per example."""
    parts: tuple[list[Any], ...] = ([], [], [])
    for path in rows:
        places = [(b, i) for b, labels in enumerate(path) for i in range(len(labels))]
        parts[0].append(np.array(places, np.int64).reshape(-1, 2))
        parts[1].append(np.array([k for labels in path for k in labels], np.int64))
        parts[2].append(np.array([len(path), max(map(len, path), default=0)], np.int64))
    return tuple([xp.asarray(x) for part in parts for x in part] + [xp.asarray(scores)])


def _cases(**attrs: Any) -> Any:
    def cases(s: Sampler) -> list[Case]:
        return [
            Case((s.normal(5, 3, 4) * 2, np.array([5, 3, 1], np.int32)), attrs, grad=False),
            Case((s.normal(2, 0, 3), np.zeros(0, np.int32)), attrs, grad=False),
        ]

    return cases


def _cost(inputs: Any, *_: Any, **__: Any) -> float:
    return 1000.0 * math.prod([n or 1 for n in inputs.dims or (1,)])


@op(
    "CTCGreedyDecoder",
    infer=_greedy_spec,
    grad=None,
    host=("inputs", "lengths"),
    dynamic=True,
    cost=_cost,
    cases=_cases(merge_repeated=True),
)
def _greedy(
    xp: Any,
    inputs: RealFloat,
    lengths: Index,
    *,
    merge_repeated: Any = False,
    blank_index: Any = -1,
) -> tuple[Array, ...]:
    """The most probable class of each step, without blanks: indices, values and shape of a sparse
    matrix [batch, longest], and [batch, 1] of minus the sum of the logits that were chosen."""
    logits = _checked(inputs, lengths)
    _, batch, classes = logits.shape
    if not -classes <= blank_index < classes:
        raise InvalidArgumentError(None, None, f"blank {blank_index} of {classes} classes")
    rows, scores = [], np.zeros((batch, 1), inputs.dtype)
    for b in range(batch):
        mine = logits[: int(lengths[b]), b]
        best = np.argmax(mine, axis=1).tolist()
        scores[b] = -mine.max(axis=1).sum() if best else 0.0
        kept = [k for t, k in enumerate(best) if not (merge_repeated and t and k == best[t - 1])]
        rows.append([k for k in kept if k != blank_index % classes])
    return _packed(xp, [rows], scores)


class _Prefix:
    """A sequence of labels in the beam, and log probabilities of the ways to have emitted it.

    Attributes:
      blank, label, total: of ways that end in a blank, in the last label, in either.
      before: the same three, one step ago.
    """

    __slots__ = ("before", "blank", "children", "label", "last", "parent", "total")

    def __init__(self, parent: _Prefix | None, last: int):
        self.parent, self.last = parent, last
        self.children: dict[int, _Prefix] = {}
        self.reset()
        self.before = (NOTHING, NOTHING, NOTHING)

    def reset(self) -> None:
        self.blank = self.label = self.total = NOTHING

    @property
    def active(self) -> bool:
        return self.total != NOTHING

    def labels(self, merge: bool) -> list[int]:
        found: list[int] = []
        at: _Prefix = self
        previous = -1
        while at.parent is not None:
            if not merge or at.last != previous:
                found.append(at.last)
            previous, at = at.last, at.parent
        return found[::-1]

    def stay(self, logs: list[float]) -> None:
        """One step without a new label: a blank, or the last label again."""
        if self.parent is not None:
            if self.parent.active:
                repeats = self.last == self.parent.last
                self.label = _added(self.label, self.parent.before[0 if repeats else 2])
            self.label += logs[self.last]
        self.blank = self.before[2] + logs[-1]
        self.total = _added(self.blank, self.label)


def _added(a: float, b: float) -> float:
    """log(exp(a) + exp(b))."""
    high, low = (a, b) if a > b else (b, a)
    return high if low == NOTHING else high + math.log1p(math.exp(low - high))


def _search(logs: list[list[float]], width: int) -> list[_Prefix]:
    """The most probable prefixes after all steps, best first."""
    root = _Prefix(None, -1)
    root.blank = root.total = 0.0
    beam = [root]
    for step in logs:
        branches = sorted(beam, key=lambda p: -p.total)
        for p in branches:
            p.before = (p.blank, p.label, p.total)
        for p in branches:
            p.stay(step)
        beam = list(branches)
        for p in branches:
            _grow(p, step, beam, width)
    return sorted(beam, key=lambda p: -p.total)


def _grow(p: _Prefix, logs: list[float], beam: list[_Prefix], width: int) -> None:
    """Put longer prefixes into the beam where it has room or they are better than its worst."""

    def fits(total: float) -> bool:
        return total > NOTHING and (len(beam) < width or total > min(q.total for q in beam))

    if not fits(p.before[2]):
        return
    for label, log in enumerate(logs[:-1]):
        child = p.children.setdefault(label, _Prefix(p, label))
        if child.active:
            continue
        child.blank = NOTHING
        child.label = child.total = log + p.before[0 if label == p.last else 2]
        if not fits(child.total):
            child.reset()
            child.before = (NOTHING, NOTHING, NOTHING)
            continue
        if len(beam) == width:
            worst = min(range(len(beam)), key=lambda i: beam[i].total)
            beam.pop(worst).reset()
        beam.append(child)


@op(
    "CTCBeamSearchDecoder",
    infer=_beam_spec,
    grad=None,
    host=("inputs", "lengths"),
    dynamic=True,
    cost=_cost,
    cases=_cases(beam_width=4, top_paths=2),
)
def _beam(
    xp: Any, inputs: RealFloat, lengths: Index, *, beam_width: Any, top_paths: Any,
    merge_repeated: Any = True,
) -> tuple[Array, ...]:  # fmt: skip
    """The most probable label sequences: `top_paths` times indices, values and shapes of sparse
    matrices [batch, longest], and their log probabilities [batch, top_paths]."""
    logits = _checked(inputs, lengths)
    _, batch, _ = logits.shape
    rows: list[list[list[int]]] = [[] for _ in range(top_paths)]
    scores = np.zeros((batch, top_paths), inputs.dtype)
    for b in range(batch):
        mine = logits[: int(lengths[b]), b]
        shifted = mine - mine.max(axis=1, keepdims=True)
        logs = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
        found = _search(logs.tolist(), beam_width)
        if len(found) < top_paths:
            raise InvalidArgumentError(
                None, None, f"the beam of example {b} ends with {len(found)} paths of {top_paths}"
            )
        for i, prefix in enumerate(found[:top_paths]):
            rows[i].append(prefix.labels(merge_repeated))
            scores[b, i] = prefix.total
    return _packed(xp, rows, scores)


# ---- TensorFlow's functions


def _matrices(parts: Any, count: int) -> list[SparseTensor]:
    return [SparseTensor(parts[i], parts[count + i], parts[2 * count + i]) for i in range(count)]


def ctc_greedy_decoder(
    inputs: Any, sequence_length: Any, merge_repeated: bool = True, blank_index: int | None = None
) -> tuple[list[SparseTensor], Tensor]:
    """The labels that the most probable class of each step gives.

    Args:
      inputs: logits [time, batch, classes].
      sequence_length: int32 [batch].
      merge_repeated: a class that repeats without a blank in between counts once.
      blank_index: the class of blanks, by default the last.

    Returns:
      A list of one `SparseTensor` of int64 [batch, longest]; [batch, 1] of minus the sum of the
      logits of the path.
    """
    parts = _greedy(
        inputs,
        cast(as_tensor(sequence_length), dtypes.int32),
        merge_repeated=merge_repeated,
        blank_index=-1 if blank_index is None else blank_index,
    )
    return _matrices(parts, 1), parts[-1]


def ctc_beam_search_decoder(
    inputs: Any,
    sequence_length: Any,
    beam_width: int = 100,
    top_paths: int = 1,
    merge_repeated: bool = True,
) -> tuple[list[SparseTensor], Tensor]:
    """The most probable label sequences, summed over their alignments as far as the beam reaches.

    Args:
      inputs: logits [time, batch, classes]; the last class is the blank.
      sequence_length: int32 [batch].
      beam_width: how many prefixes are kept in each step.
      top_paths: how many sequences to give, at most `beam_width`.
      merge_repeated: drop labels that repeat the one before from the results.

    Returns:
      `top_paths` `SparseTensor`s of int64 [batch, longest]; [batch, top_paths] of their log
      probabilities.

    Raises:
      InvalidArgumentError: when run, an example has fewer paths than asked for.
    """
    parts = _beam(
        inputs,
        cast(as_tensor(sequence_length), dtypes.int32),
        beam_width=beam_width,
        top_paths=top_paths,
        merge_repeated=merge_repeated,
    )
    return _matrices(parts, top_paths), parts[-1]


def ctc_beam_search_decoder_v2(
    inputs: Any, sequence_length: Any, beam_width: int = 100, top_paths: int = 1
) -> tuple[list[SparseTensor], Tensor]:
    """`ctc_beam_search_decoder` that keeps labels which repeat."""
    return ctc_beam_search_decoder(inputs, sequence_length, beam_width, top_paths, False)

"""Accumulators as objects: gradients of several workers, collected between runs.

What is summed does not depend on which gradient came first: they add up in the order of their
ranks, the numbers of the workers that computed them, where these are known.

A gradient that is given counts at once, and not when its run commits: the same run may wait for
what others do with it, as synchronous training does.  A run that is tried again does not give it
twice, since giving is logged as input is.
"""

from __future__ import annotations

import threading
from collections import Counter
from typing import Any, NamedTuple

import numpy as np

from graphflow.base.errors import CancelledError
from graphflow.base.waiting import waits

_POLL = 0.05  # seconds between looks at whether the run was cancelled; gradients wake at once


class Rows(NamedTuple):
    """A gradient of some rows: values[i] belongs to row indices[i]; shape is that of all."""

    indices: Any
    values: Any
    shape: Any


class _Given(NamedTuple):
    rank: int
    number: int  # of those of its rank
    step: int
    gradient: Any


class AccumulatorState:
    """Dense gradients.

    Attributes:
      step: gradients of older steps are dropped.
      decisions: what logs of which gradients a mean is made, or decides so by a log, see
        `distribute.decisions`; None: nobody does.
    """

    def __init__(self, name: str, mean: bool):
        self.name = name
        self.step = 0
        self.decisions: Any = None
        self._gifts: Counter[int] = Counter()  # by rank, those that were dropped, too
        self._mean = mean
        self._given: list[_Given] = []
        self._closed = False
        self._changed = threading.Condition()

    def give(self, gradient: Any, step: int, rank: int) -> bool:
        """Take a gradient, unless it is of an older step; was it taken?"""
        with self._changed:
            self._gifts[rank] += 1
            if step < self.step and self._wanted() is None:
                return False
            self._given.append(_Given(rank, self._gifts[rank], step, gradient))
            self._changed.notify_all()
            return True

    def take(self, count: int, cancelled: threading.Event) -> Any:
        """Wait for `count` gradients; the mean or sum of all that are there, which are then gone.

        The step is one higher afterwards.

        Raises:
          CancelledError: the run was cancelled while it waited.
        """
        with self._changed:
            while (chosen := self._chosen(count)) is None:
                if cancelled.is_set() or self._closed:
                    raise CancelledError(
                        None, None, f"the run was cancelled while it waited for {self.name!r}"
                    )
                waits()
                self._changed.wait(_POLL)
            taken = [(g.rank, g.number) for g in chosen]
            self._given = [
                g for g in self._given if g.step > self.step and (g.rank, g.number) not in taken
            ]
            self.step += 1
            if self.decisions is not None:
                self.decisions.taken(self.name, taken)
        return self._sum([g.gradient for g in chosen])

    def _wanted(self) -> Any:
        return None if self.decisions is None else self.decisions.wanted(self.name)

    def _chosen(self, count: int) -> list[_Given] | None:
        """What the next mean is made of, in order; None: that is not there yet."""
        wanted = self._wanted()
        given = [g for g in self._given if wanted is None or (g.rank, g.number) in wanted]
        if len(given) < (count if wanted is None else len(wanted)):
            return None
        return sorted(given, key=lambda g: (g.rank, g.number))

    def _sum(self, gradients: list[Any]) -> Any:
        total = gradients[0]
        for gradient in gradients[1:]:
            total = total + gradient
        return total / total.dtype.type(len(gradients)) if self._mean else total

    def count(self) -> int:
        """How many gradients are there."""
        with self._changed:
            return len(self._given)

    def advance(self, step: int) -> None:
        """Drop from now on what is older than `step`."""
        with self._changed:
            self.step = step

    def withdraw(self, rank: int) -> None:
        """Forget what a worker has given since the last mean."""
        with self._changed:
            self._given = [given for given in self._given if given.rank != rank]

    def cancel(self) -> None:
        """Wake whoever waits: what holds the accumulator ends."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()


class SparseAccumulatorState(AccumulatorState):
    """Gradients of rows; the mean of a row is over those gradients that have it."""

    def _sum(self, gradients: list[Any]) -> Any:
        rows = np.unique(np.concatenate([g.indices for g in gradients]))
        first = gradients[0].values
        total = np.zeros((len(rows), *first.shape[1:]), first.dtype)
        counts = np.zeros(len(rows), np.int64)
        for gradient in gradients:
            where = np.searchsorted(rows, gradient.indices)
            np.add.at(total, where, gradient.values)
            counts[np.unique(where)] += 1
        if self._mean:
            total /= counts.astype(total.dtype).reshape(-1, *[1] * (total.ndim - 1))
        return Rows(rows, total, gradients[0].shape)

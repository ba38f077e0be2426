"""Accumulators as objects: gradients of several workers, collected between runs.

What is summed does not depend on which gradient came first: they add up in the order of their
ranks, the numbers of the workers that computed them, where these are known.

A gradient that is given counts at once, and not when its run commits: the same run may wait for
what others do with it, as synchronous training does.  A run that is tried again does not give it
twice, since giving is logged as input is; one that fails takes it back, unless it is in a mean.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from graphflow.base.errors import CancelledError
from graphflow.base.waiting import waits
from graphflow.ops.waitable import Waitable

_POLL = 0.05  # seconds between looks at whether the run was cancelled; gradients wake at once


class Rows(NamedTuple):
    """A gradient of some rows: values[i] belongs to row indices[i]; shape is that of all."""

    indices: Any
    values: Any
    shape: Any


class Given(NamedTuple):
    """A gradient that is there.

    Attributes:
      rank: of who gave it.
      number: how many that one had given, and itself.
    """

    rank: int
    number: int
    step: int
    gradient: Any


class Gift(NamedTuple):
    """What a run has given.

    Attributes:
      numbers: its rank, its number there, and whether it was taken.
    """

    numbers: tuple[int, int, bool]


class Mean(NamedTuple):
    """What a run has taken.

    Attributes:
      value: the mean or sum.
      numbers: (rank, number) of the gradients that it is made of.
      gone: these, and those that were dropped then.
      step: the accumulator's before that.
    """

    value: Any
    numbers: tuple[tuple[int, int], ...]
    gone: tuple[Given, ...]
    step: int


class AccumulatorState(Waitable):
    """Dense gradients.

    Attributes:
      step: gradients of older steps are dropped.
    """

    def __init__(self, name: str, mean: bool):
        super().__init__(name)
        self.step = 0
        self._gifts: dict[int, int] = {}  # by rank, those that were dropped, too
        self._mean = mean
        self._given: list[Given] = []
        self._closed = False

    def give(
        self, gradient: Any, step: int, rank: int, numbers: Sequence[Any] | None = None
    ) -> Gift:
        """Take a gradient, unless it is of an older step.

        Args:
          numbers: those of the gift, where its run is done again.
        """
        with self._changed:
            before = self._gifts.get(rank, 0)
            if numbers is None:
                number, kept = before + 1, step >= self.step or self._logged() is not None
            else:
                _, number, kept = numbers
            self._gifts[rank] = max(before, number)
            if kept:
                self._given.append(Given(rank, number, step, gradient))
                self._changed.notify_all()
            return Gift((rank, number, kept))

    def take(
        self, count: int, cancelled: threading.Event, numbers: Sequence[Any] | None = None
    ) -> Mean:
        """Wait for `count` gradients; the mean or sum of all that are there, which are then gone.

        The step is one higher afterwards.

        Args:
          numbers: (rank, number) of those to wait for, where the run is done again.

        Raises:
          CancelledError: the run was cancelled while it waited.
        """
        with self._changed:
            while (chosen := self._chosen(count, numbers)) is None:
                if cancelled.is_set() or self._closed:
                    raise CancelledError(
                        None, None, f"the run was cancelled while it waited for {self.name!r}"
                    )
                waits()
                self._changed.wait(_POLL)
            taken = tuple([(g.rank, g.number) for g in chosen])
            given, step = self._given, self.step
            self._given = [g for g in given if g.step > step and (g.rank, g.number) not in taken]
            self.step += 1
            if self.decisions is not None:
                self.decisions.taken(self.name, taken)
        left = {(g.rank, g.number) for g in self._given}
        gone = tuple([g for g in given if (g.rank, g.number) not in left])
        return Mean(self._sum([g.gradient for g in chosen]), taken, gone, step)

    def give_back(self, value: Gift | Mean) -> None:
        """A run came to nothing: it takes back what it gave, or gives back what it took."""
        with self._changed:
            if isinstance(value, Gift):
                rank, number, _ = value.numbers
                self._given = [g for g in self._given if (g.rank, g.number) != (rank, number)]
                if self._gifts.get(rank) == number:
                    self._gifts[rank] = number - 1
            else:
                if self.step == value.step + 1:  # nobody has taken since
                    self.step = value.step
                self._given += [g for g in value.gone if g.step >= self.step]
            self._changed.notify_all()

    def _logged(self) -> Any:
        return None if self.decisions is None else self.decisions.wanted(self.name)

    def _chosen(self, count: int, numbers: Sequence[Any] | None) -> list[Given] | None:
        """What the next mean is made of, in order; None: that is not there yet."""
        wanted = self._logged() if numbers is None else [tuple(each) for each in numbers]
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

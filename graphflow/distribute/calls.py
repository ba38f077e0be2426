"""Calls of workers that are no steps, by one who waits for all of them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import Any

from graphflow.base.errors import (
    CancelledError,
    InvalidArgumentError,
    OpError,
    UnavailableError,
)
from graphflow.base.interrupts import uninterrupted
from graphflow.base.waiting import patiently
from graphflow.distribute import coordinator as machine
from graphflow.distribute.channel import Gone, Link
from graphflow.distribute.driver import FORKED, Driver
from graphflow.distribute.holdings import holdings
from graphflow.distribute.messages import Shapes
from graphflow.distribute.shipment import Shipment

CLOSING = 5.0  # seconds, at most, that closing waits for the workers


def gather(
    link: Link, method: str, arguments: Mapping[str, tuple[Any, ...]], patience: float
) -> tuple[dict[str, Any], set[str]]:
    """Call a method of several workers.

    Args:
      link: the way to them.
      method: its name.
      arguments: worker -> what it gets.
      patience: seconds to wait for the answers.

    Returns:
      Worker -> its answer, an error or `Gone`; and those that did not answer in time.
    """
    answers: dict[str, Any] = {}
    arrived = threading.Condition()

    def hears(worker: str) -> Callable[[Any], None]:
        def hear(answer: Any) -> None:
            with arrived:
                answers[worker] = answer
                arrived.notify_all()

        return hear

    for worker, each in arguments.items():
        link.call(worker, method, *each, hear=hears(worker))
    with arrived:
        patiently(partial(arrived.wait_for, lambda: len(answers) == len(arguments)), patience)
        found = dict(answers)
    late = arguments.keys() - found.keys()
    reason = f"it did not answer {method!r} within {patience:g} s"
    return {worker: found.get(worker, Gone(reason)) for worker in arguments}, late


class Calls(Driver):
    """What is done with a session beside running it."""

    @uninterrupted
    def open(self, seed: int, tier: str = "reference") -> None:
        """Make the session known to the workers.

        Args:
          seed: of its random ops that have none.
          tier: see `Tiers`, whose choice is fixed; where one worker has no compiler, all have the
            reference tier.

        Raises:
          OpError: one does not answer within the deadline.
        """
        told = self._replacements
        told.seed, told.tier = seed, tier
        terms: tuple[Any, ...] = (seed, self._deadline, {}, tier)
        told.numerics = self._call("open", dict.fromkeys(self.workers, terms))
        tiers = {each.tier for each in told.numerics.values() if each is not None}
        if len(tiers) > 1:
            self.open(seed, "reference")
            return
        for worker in self.workers:
            self._link.outlive(worker, self._hears(worker))

    def shapes(self, worker: str, plan: int) -> tuple[Shapes, ...]:
        """What a worker has told of its share in a plan, see `Shapes`."""
        with self._lock:
            return self._replacements.shapes(worker, plan)

    @uninterrupted
    def load(self, plan: int, shipments: Mapping[str, Shipment]) -> None:
        """Ship a plan.

        Raises:
          OpError: a worker cannot take it, or does not answer within the deadline.
        """
        if self._machine.recovers:
            held = {worker: holdings(shipment) for worker, shipment in shipments.items()}
            with self._lock:
                self._handle(machine.Loaded(plan, held))
        for worker, shipment in shipments.items():
            self._counts[worker]["loads"] += 1
            if self._machine.recovers:
                self._replacements.keep(worker, plan, shipment)
        self._call("load", {worker: (plan, s) for worker, s in shipments.items()})

    @uninterrupted
    def lose(self, worker: str, reason: str) -> None:
        """Replace a worker that was found to be gone; returns when its state is back.

        Raises:
          OpError: it cannot be replaced.
        """
        self._hears(worker)(Gone(reason))
        self._until(lambda: True)

    @uninterrupted
    def capture(self) -> Mapping[str, Any]:
        """Worker -> its state, as it is between two runs; none may be under way.

        Raises:
          OpError: the workers are lost, or their state cannot be copied.
        """
        self._until(lambda: not self._machine.saving)
        before = self._machine.archive
        while self._machine.archive == before:
            with self._lock:
                self._handle(machine.Capture())
            self._until(lambda: not self._machine.saving)
            if self._machine.unsaved is not None:
                raise self._machine.unsaved
        return self._machine.snapshots

    @uninterrupted
    def restore(self, snapshots: Mapping[str, Any]) -> None:
        """Go on from the state of an earlier session.

        Raises:
          InvalidArgumentError: it had other workers.
          OpError: the workers are lost.
        """
        if set(snapshots) != set(self.workers):
            raise InvalidArgumentError(
                None,
                None,
                f"the state is that of workers {', '.join(sorted(snapshots)) or 'none'}, these "
                f"are {', '.join(self.workers)}: give the session a cluster of as many as before",
            )
        with self._lock:
            self._handle(machine.Restore(snapshots))
        self._until(lambda: True)

    @uninterrupted
    def statistics(self) -> dict[str, dict[str, int]]:
        """See `ClusterTarget.statistics`."""
        answers = self._call("statistics", dict.fromkeys(self.workers, ()))
        with self._lock:
            return {w: dict(self._counts[w]) | answers[w] for w in self.workers}

    def _call(
        self, method: str, arguments: Mapping[str, tuple[Any, ...]], patience: float | None = None
    ) -> dict[str, Any]:
        """Call a method of several workers at once; their answers.

        Raises:
          OpError: one cannot do it, or is lost and not replaced.
        """
        if self._forked:
            raise CancelledError(None, None, FORKED)
        patience = self._deadline if patience is None else patience
        if method == "close":
            return self._answers(method, arguments, patience)
        while True:
            self._until(lambda: True)
            before = self._machine.generation
            try:
                return self._answers(method, arguments, patience)
            except OpError:
                # A worker in the place of a lost one knows the session and its plans; the others
                # take them twice.
                if self._machine.generation == before or self._machine.failure is not None:
                    raise

    def _answers(
        self, method: str, arguments: Mapping[str, tuple[Any, ...]], patience: float
    ) -> dict[str, Any]:
        answers, late = gather(self._link, method, arguments, patience)
        for worker, answer in answers.items():
            if isinstance(answer, OpError):
                raise answer
            if isinstance(answer, Gone):
                raise self._gave_no_answer(worker, method, answer, frozen=worker in late)
        return answers

    def _gave_no_answer(self, worker: str, method: str, gone: Gone, frozen: bool) -> OpError:
        if not gone.worker_lost:
            return UnavailableError(None, None, f"{worker} cannot {method}: {gone.reason}")
        with self._lock:
            self._handle(machine.Lost(worker, gone.reason, frozen))
            failure = self._machine.failure
            return failure or UnavailableError(None, None, f"{worker} was lost: {gone.reason}")

    @uninterrupted
    def close(self) -> None:
        """End the session: runs fail, and its state on the workers is dropped.

        Returns when the workers have answered, or within the deadline.
        """
        self._await_commits(min(CLOSING, self._deadline))
        if self.abandon():
            left: dict[str, tuple[Any, ...]] = {
                w: () for w in self.workers if w not in self._machine.lost
            }
            with suppress(OpError):  # gone or frozen: whoever owns the workers ends them
                self._call("close", left, min(CLOSING, self._deadline))

    def _await_commits(self, patience: float) -> None:
        """Let workers carry out what they have been told: a call may overtake that."""
        ends = self._clock() + patience
        with self._looking_on():
            while (left := ends - self._clock()) > 0:
                with self._lock:
                    self._take_up()
                    if self._closed or self._machine.lost or not self._machine.committing:
                        return
                    taken = self._taken
                self._await_news(taken, left)

    @uninterrupted
    def abandon(self) -> bool:
        """End the session without a word to the workers, which are about to be ended; was it
        open?"""
        with self._lock:
            if self._closed:
                return False
            self._closed = True
            self._take_up()
            self._handle(machine.Closed())
            return True

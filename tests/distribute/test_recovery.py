"""Sessions whose workers are killed or frozen: they go on, and not one bit is lost."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import graphflow as tf
from graphflow.distribute.messages import Notice, Rebuild, Save, Step
from tests.distribute.in_process import InProcess
from tests.distribute.programs import train

T0, T1 = "/job:worker/task:0", "/job:worker/task:1"
STEPS = 12


@pytest.fixture(scope="module")
def undisturbed() -> tuple[list[Any], list[Any]]:
    with tf.Graph().as_default():
        return train(None, STEPS)


@pytest.fixture
def cluster() -> Iterator[InProcess]:
    with InProcess(2, every=4) as cluster:
        yield cluster


class Killer:
    """Kills a worker when the n-th message of a kind is sent to one."""

    def __init__(self, cluster: InProcess, victim: int, kind: type, count: int, to: int):
        self.cluster, self.victim, self.kind = cluster, victim, kind
        self.count, self.to = count, cluster.names[to]
        cluster.before = self

    def __call__(self, worker: str, message: Any) -> None:
        if isinstance(message, self.kind) and worker == self.to:
            self.count -= 1
            if self.count == 0:
                self.cluster.kill(self.victim)


def same(found: tuple[list[Any], list[Any]], wanted: tuple[list[Any], list[Any]]) -> None:
    np.testing.assert_array_equal(found[0], wanted[0])
    for one, other in zip(found[1], wanted[1], strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("victim", [0, 1])
@pytest.mark.parametrize("step", [1, 2, 5, 6, 7, 13])
def test_training_goes_on_bit_for_bit_when_a_worker_is_killed(cluster, graph, undisturbed, victim,
                                                              step):  # fmt: skip
    killer = Killer(cluster, victim, Step, step, to=0)
    same(train(cluster, STEPS, scopes=(T0, T1)), undisturbed)
    assert killer.count <= 0
    assert sum(isinstance(m, Rebuild) for _, m in cluster.log) >= 2


def test_a_worker_that_dies_again_and_again(cluster, graph, undisturbed):
    steps = iter(range(1000))

    def now_and_then(session: Any) -> None:
        n = next(steps)
        cluster.kill(n % 2)

    same(train(cluster, STEPS, scopes=(T0, T1), on_step=now_and_then), undisturbed)


def test_all_workers_may_die_at_once(cluster, graph, undisturbed):
    steps = iter(range(1000))

    def both(session: Any) -> None:
        if next(steps) == 6:
            cluster.kill(0)
            cluster.kill(1)

    same(train(cluster, STEPS, scopes=(T0, T1), on_step=both), undisturbed)


@pytest.mark.parametrize("victim", [0, 1])
@pytest.mark.parametrize("kind", [Rebuild, Save, Notice])
def test_a_loss_in_the_middle_of_anything(cluster, graph, undisturbed, victim, kind):
    """During a recovery, and while copies of the state are made."""
    steps = iter(range(1000))

    def first(session: Any) -> None:
        if next(steps) == 6:
            cluster.kill(0)
            Killer(cluster, victim, kind, 1, to=1)

    same(train(cluster, STEPS, scopes=(T0, T1), on_step=first), undisturbed)


def test_a_frozen_worker_is_replaced_at_the_deadline(graph, undisturbed):
    steps = iter(range(1000))
    with InProcess(2, every=4, deadline=0.3) as cluster:

        def freeze(session: Any) -> None:
            if next(steps) == 6:
                cluster.freeze(1)

        same(train(cluster, STEPS, scopes=(T0, T1), on_step=freeze), undisturbed)

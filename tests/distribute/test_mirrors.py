"""Data-parallel workers that all keep all variables: same bits, and no state is lost with one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import graphflow as tf
from graphflow.base.state import StateKey
from graphflow.distribute.messages import Rebuild, Save, Step
from graphflow.place import Topology, assumed_device
from tests.distribute.in_process import InProcess
from tests.distribute.programs import same
from tests.train import test_data_parallel as replicas


def mirrored(inner: Any) -> Any:
    return tf.distribute.DataParallel(inner, 4, 2, mirrored=True)


@pytest.fixture(scope="module")
def undisturbed() -> tuple[list[Any], list[Any]]:
    return replicas.train(replicas.parallel(4))


@pytest.fixture
def cluster() -> Iterator[InProcess]:
    with InProcess(2, every=4, deadline=5.0) as cluster:
        yield cluster


def variables(cluster: InProcess) -> list[dict[str, Any]]:
    """Those of each worker."""
    stores = [cluster.host(i).store.entries for i in range(2)]
    return [{k.name: s[k].value for k in s if isinstance(k, StateKey)} for s in stores]


def test_all_workers_have_all_variables(cluster, undisturbed):
    """What is computed does not depend on that, and a step sends gradients and no weights."""
    found: list[Any] = []

    def look(step: int) -> None:
        cluster.targets[0].conductor._until(lambda: True)
        found[:] = [variables(cluster), cluster.host(0)._loaded]

    same(replicas.train(mirrored, cluster=cluster, on_step=look), undisturbed)
    (one, other), loaded = found
    assert one.keys() == other.keys() >= {"w", "b", "v", "w/Adam", "v/Adam_1", "beta1_power"}
    for name in one:
        np.testing.assert_array_equal(one[name], other[name])
    routes = [key for each in loaded.values() for key in each.shipment.routes]
    assert not [key for key in routes if "read" in key]


def sent(cluster: InProcess, kind: type) -> list[Any]:
    return [message for _, message in cluster.log if isinstance(message, kind)]


@pytest.mark.parametrize("victim", [0, 1])
def test_a_lost_workers_state_comes_from_the_other_one_and_nothing_is_done_again(
    cluster, undisturbed, victim
):
    """Random counters, of which there is one copy, included: there is dropout in the network."""

    counts: list[int] = []

    def kill(step: int) -> None:
        told = cluster.targets[0].statistics()
        counts.append(told[cluster.name(victim)].get("mirrored", 0))
        if step in (1, 3):
            cluster.kill(victim)

    same(replicas.train(mirrored, cluster=cluster, on_step=kill), undisturbed)
    assert counts == [0, 0, 1, 1, 2]
    rebuilds = sent(cluster, Rebuild)
    assert len(rebuilds) == 4
    assert all(message.staying for message in rebuilds)
    assert [m for m in sent(cluster, Step) if m.replay] == []


def test_a_worker_that_got_its_state_so_was_not_at_the_last_cut(cluster, undisturbed):
    """Worker 1 gets what worker 0 has; then both are lost before the next cut is complete."""
    both: list[Any] = []

    def kill(step: int) -> None:
        if step == 2:
            cluster.kill(1)

    def before(worker: str, message: Any) -> None:
        if isinstance(message, Save) and cluster.targets[0].conductor._machine._young and not both:
            both.append(message)
            cluster.kill(0)
            cluster.kill(1)

    cluster.before = before
    same(replicas.train(mirrored, cluster=cluster, on_step=kill), undisturbed)
    assert both
    assert [bool(m.staying) for m in sent(cluster, Rebuild)] == [True, True, False, False]
    assert [m for m in sent(cluster, Step) if m.replay]


def test_those_who_join_get_copies(cluster, undisturbed):
    sizes = {0: 1, 2: 2, 3: 1}

    def change(step: int) -> None:
        if step in sizes:
            cluster.resize(sizes[step])

    same(replicas.train(mirrored, cluster=cluster, on_step=change), undisturbed)


def test_a_variable_that_one_worker_has_is_done_again(cluster, undisturbed):
    """The other one has not all that was lost."""

    def and_more(inner: Any) -> Any:
        with tf.device("/job:worker/task:1"):
            seen = tf.get_variable("seen", [], initializer=tf.zeros_initializer(), trainable=False)
        with tf.control_dependencies([seen.assign_add(1.0)]):
            tf.identity(1.0)
        made = mirrored(inner)
        minimize = made.minimize
        made.minimize = lambda *a, **k: tf.group(minimize(*a, **k), seen.assign_add(1.0))
        return made

    def kill(step: int) -> None:
        if step == 2:
            cluster.kill(1)

    same(replicas.train(and_more, cluster=cluster, on_step=kill), undisturbed)
    assert not any(m.staying for m in sent(cluster, Rebuild))


def test_a_session_counts_the_memory_that_copies_take(cluster, caplog):
    """Of mirrors, and of the states that workers and their buddies keep; what does not fit is
    told."""
    one, other = (f"{name}/device:CPU:0" for name in cluster.names)
    cluster.topology = Topology(
        tuple([assumed_device(name, memory=7000) for name in (one, other)]),
        keepers=dict(zip(cluster.names, reversed(cluster.names), strict=True)),
    )
    with tf.Graph().as_default() as graph:
        with tf.device("/job:worker/task:0"):
            v = tf.Variable(np.zeros(250, np.float32))
        with tf.device("/job:worker/task:1"):
            up = v.assign_add(tf.zeros([250]) * 2.0).op
        graph.set_mirrors(v.handle.op, cluster.names)
        with tf.Session(cluster=cluster) as session:
            session.run(v.initializer)
            session.run(up)
            told = str(session.explain_placement(up))
            assert "copies of variables are 3.91 KiB of earlier steps" in told
            assert "copies of variables are 1000 B of other devices and 3.91 KiB of ear" in told
            assert not caplog.records
        cluster.topology = replace(
            cluster.topology,
            devices=tuple([replace(d, memory=4500) for d in cluster.topology.devices]),
        )
        with tf.Session(cluster=cluster) as session:
            session.run(v.initializer)
            session.run(up)
    (record,) = caplog.records
    assert "no plan was found that fits into memory" in record.message
    assert "copies of variables are" in record.message

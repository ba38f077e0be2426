"""Data-parallel workers that all keep all variables: same bits, and no state is lost with one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import graphflow as tf
from graphflow.base.state import StateKey
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

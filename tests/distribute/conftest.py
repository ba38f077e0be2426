"""One Ray cluster for all tests that want one, and clusters without Ray for most."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import pytest

import graphflow as tf
from graphflow.distribute import failpoints
from tests.distribute import evidence
from tests.distribute.in_process import InProcess
from tests.distribute.programs import train

MEMORY = 150 << 20
PATIENT = {"deadline": 60.0, "start_deadline": 200.0}  # with a busy machine


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Function, call: pytest.CallInfo[None]) -> Any:
    """Tell in the report of a failure how things stand with the test's clusters."""
    report = yield
    if call.when == "call" and report.failed:
        for name, cluster in item.funcargs.items():
            if isinstance(cluster, (tf.Cluster, InProcess)):
                report.sections.append((f"cluster {name!r}", evidence.standing(cluster)))
    if call.when == "teardown":
        evidence.forget()
    return report


@pytest.fixture(scope="session")
def ray_is_up() -> Iterator[None]:
    """A Ray of our own, with CPUs enough for several clusters at once."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what Ray itself does at its start
        from graphflow.distribute.cluster import _ray

        ray = _ray()
        ray.connect("local", cpus=8, gpus=2, object_store_memory=MEMORY)
    yield
    ray.disconnect()


@pytest.fixture(scope="session")
def shared(ray_is_up: None) -> Iterator[tf.Cluster]:
    """Two workers, which no test may harm."""
    with tf.Cluster(workers=2, **PATIENT) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def by_ray(ray_is_up: None) -> Iterator[tf.Cluster]:
    """The oracle of transports, which no test may harm."""
    with tf.Cluster(2, cpus_per_worker=0, **PATIENT, transport="ray") as cluster:
        yield cluster


@pytest.fixture(scope="session")
def by_sockets(ray_is_up: None) -> Iterator[tf.Cluster]:
    """As between machines, which no test may harm."""
    with tf.Cluster(2, cpus_per_worker=0, **PATIENT, transport="sockets", tls=True) as cluster:
        yield cluster


@pytest.fixture(scope="session", params=["shared", "by_sockets", "by_ray"])
def either(request: pytest.FixtureRequest) -> tf.Cluster:
    """Each transport."""
    cluster: tf.Cluster = request.getfixturevalue(request.param)
    return cluster


@pytest.fixture(autouse=True)
def nothing_stays_armed() -> Iterator[None]:
    """A test that fails does not fail the next one."""
    yield
    failpoints.disarm()


@pytest.fixture
def cluster(request: pytest.FixtureRequest) -> Iterator[InProcess]:
    """Workers in threads, which a test may harm as it likes: two that are not replaced, or what
    the module says in `CLUSTER`."""
    with InProcess(**{"workers": 2} | getattr(request.module, "CLUSTER", {})) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def undisturbed(request: pytest.FixtureRequest) -> tuple[list[Any], list[Any]]:
    """What `STEPS` of the module's steps of training give where nobody is harmed."""
    with tf.Graph().as_default():
        return train(None, request.module.STEPS)


@pytest.fixture
def graph() -> Iterator[tf.Graph]:
    with tf.Graph().as_default() as graph:
        yield graph

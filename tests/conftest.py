"""What all tests share: the leak check (`tests/leaks.py`), validated rewriting, as many threads of
BLAS, hypothesis' examples, Ray last."""

import gc
import os
import signal

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.internal.conjecture import providers

from graphflow.compile.native.blas import find_blas
from graphflow.execute.threads import limit_threads

os.environ.setdefault("GRAPHFLOW_VALIDATE", "1")  # a pass that changes results warns: an error here
os.environ.setdefault("GRAPHFLOW_LEARN", "0")  # plans must not depend on the machine
os.environ.setdefault("GRAPHFLOW_TIER", "reference")  # native code comes by the clock

# A shell that starts us in the background has us ignore it; tests of interrupts need Python's own.
signal.signal(signal.SIGINT, signal.default_int_handler)

# The same examples each time, so that no change is refused for a bug that it did not make; with the
# numbers that stand in the modules that are loaded hypothesis would try others after each change.
# GRAPHFLOW_EXAMPLES=1000 hunts, with new ones each time, or those of --hypothesis-seed.
settings.register_profile(
    "graphflow",
    derandomize="GRAPHFLOW_EXAMPLES" not in os.environ,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],  # by the clock
)
settings.load_profile("graphflow")
providers.is_local_module_file = lambda _: False

pytest_plugins = ["pytester", "tests.leaks"]

BLAS = find_blas()
BLAS_THREADS = BLAS.get_threads() if BLAS else 0


@pytest.fixture(autouse=True)
def blas_threads() -> None:
    """Each test begins with those that the process had: a session sets them for all of it.

    With 8 on 2 cores, which spin while they wait, the products of a later test took 40 s, not 0.2.
    """
    if BLAS and BLAS.get_threads() != BLAS_THREADS:
        limit_threads(BLAS_THREADS)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put tests marked `ray` last: once Ray is up, it opens descriptors at times of its own."""
    items.sort(key=lambda item: item.get_closest_marker("ray") is not None)


def pytest_collection_finish() -> None:
    """Leave what is there out of all collections to come: 9,000 tests and the modules behind them
    make a full one take 60 ms."""
    gc.collect()
    gc.freeze()

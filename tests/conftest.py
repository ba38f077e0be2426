"""What all tests share: the leak check (`tests/leaks.py`), validated rewriting, Ray last."""

import os
import signal

import pytest

os.environ.setdefault("GRAPHFLOW_VALIDATE", "1")  # a pass that changes results warns: an error here
os.environ.setdefault("GRAPHFLOW_LEARN", "0")  # plans must not depend on the machine
os.environ.setdefault("GRAPHFLOW_TIER", "reference")  # native code comes by the clock

# A shell that starts us in the background has us ignore it; tests of interrupts need Python's own.
signal.signal(signal.SIGINT, signal.default_int_handler)

pytest_plugins = ["pytester", "tests.leaks"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put tests marked `ray` last: once Ray is up, it opens descriptors at times of its own."""
    items.sort(key=lambda item: item.get_closest_marker("ray") is not None)

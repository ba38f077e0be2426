"""`tf.test`: unit tests in TensorFlow 1's way, and the numeric gradient checker."""

# ruff: noqa: PT009 - it is unittest's style

from __future__ import annotations

import atexit
import functools
import shutil
import tempfile
import unittest
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np

from graphflow.build import Graph
from graphflow.build.defaults import get_default_graph, reset_default_graph
from graphflow.differentiate import compute_gradient, compute_gradient_error
from graphflow.execute.devices import count_gpus
from graphflow.session import Session

__all__ = [
    "TestCase",
    "compute_gradient",
    "compute_gradient_error",
    "get_temp_dir",
    "gpu_device_name",
    "is_built_with_cuda",
    "is_gpu_available",
    "main",
]


class TestCase(unittest.TestCase):
    """A test with a fresh default graph, comparisons of arrays, and sessions."""

    def setUp(self) -> None:
        super().setUp()
        self._session: Session | None = None
        if get_default_graph() is get_default_graph().root:
            reset_default_graph()

    def tearDown(self) -> None:
        if self._session is not None:
            self._session.close()
        super().tearDown()

    def get_temp_dir(self) -> str:
        """A folder of the test's own."""
        return get_temp_dir()

    @contextmanager
    def session(
        self, graph: Graph | None = None, config: Any = None, use_gpu: bool = False,
        force_gpu: bool = False,
    ) -> Iterator[Session]:  # fmt: skip
        """A session that is closed at the end."""
        with Session(graph=graph, config=config) as session:
            yield session

    @contextmanager
    def cached_session(
        self, graph: Graph | None = None, config: Any = None, use_gpu: bool = False,
        force_gpu: bool = False,
    ) -> Iterator[Session]:  # fmt: skip
        """The test's session: the same one, with its variables, each time."""
        if self._session is None:
            self._session = Session(graph=graph, config=config)
        with self._session.graph.as_default(), self._session.as_default():
            yield self._session

    def test_session(self, *args: Any, **options: Any) -> Any:
        """As `cached_session`; its name makes unittest take it for a test, which is skipped."""
        if self.id().endswith(".test_session"):
            self.skipTest("not a test")
        return self.cached_session(*args, **options)

    def evaluate(self, tensors: Any) -> Any:
        """Values, in the default or the test's session."""
        with self.cached_session() as session:
            return session.run(tensors)

    def assertAllClose(
        self, a: Any, b: Any, rtol: float = 1e-6, atol: float = 1e-6, msg: str | None = None
    ) -> None:
        """Arrays, or structures of them, are equal within rtol * |b| + atol."""
        if isinstance(a, Mapping):
            self.assertEqual(set(a), set(b), msg)
            for key in a:
                self.assertAllClose(a[key], b[key], rtol, atol, msg)
        elif isinstance(a, (list, tuple)) and any(np.ndim(x) for x in a):
            self.assertEqual(len(a), len(b), msg)
            for x, y in zip(a, b, strict=True):
                self.assertAllClose(x, y, rtol, atol, msg)
        else:
            np.testing.assert_allclose(a, b, rtol, atol, err_msg=msg or "")

    assertArrayNear = assertAllClose

    def assertAllCloseAccordingToType(
        self, a: Any, b: Any, rtol: float = 1e-6, atol: float = 1e-6, **_: Any
    ) -> None:
        """As `assertAllClose`, with 1e-3 for half precision."""
        half = np.float16 in (np.asarray(a).dtype, np.asarray(b).dtype)
        self.assertAllClose(a, b, max(rtol, 1e-3 * half), max(atol, 1e-3 * half))

    def assertAllEqual(self, a: Any, b: Any, msg: str | None = None) -> None:
        """Arrays are equal, in shape, too."""
        a, b = np.asarray(a), np.asarray(b)
        self.assertEqual(a.shape, b.shape, msg)
        np.testing.assert_array_equal(a, b, err_msg=msg or "")

    def assertNear(self, f1: float, f2: float, err: float, msg: str | None = None) -> None:
        """Numbers differ by at most `err`."""
        self.assertTrue(abs(f1 - f2) <= err or f1 == f2, msg or f"{f1} != {f2} +/- {err}")

    def assertShapeEqual(self, np_array: Any, tf_tensor: Any, msg: str | None = None) -> None:
        """A tensor's static shape is that of an array."""
        self.assertEqual(np_array.shape, tf_tensor.dims, msg)


@functools.cache
def get_temp_dir() -> str:
    """A folder that lives as long as the process."""
    folder = tempfile.mkdtemp(prefix="graphflow-test-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def main(argv: Any = None) -> None:
    """Run the tests of the calling module."""
    unittest.main(argv=argv)


def is_gpu_available(*_: Any, **__: Any) -> bool:
    """Is there a GPU that CuPy can use?"""
    return count_gpus() > 0


def is_built_with_cuda() -> bool:
    """As `is_gpu_available`: nothing is built with CUDA, CuPy brings it."""
    return is_gpu_available()


def gpu_device_name() -> str:
    """Name of the first GPU, or ""."""
    return "/device:GPU:0" if is_gpu_available() else ""

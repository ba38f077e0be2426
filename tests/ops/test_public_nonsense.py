"""TensorFlow's functions, called with nonsense, refuse it with typed errors."""

from __future__ import annotations

import inspect
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import graphflow as tf
from graphflow.compat import namespaces
from graphflow.nn.layer import Layer
from tests.ops.nonsense import ATTRIBUTES, array

# They write files, print, take functions of the user, or change what other tests see.
EXCEPT = {
    "Print", "import_graph_def", "numpy_function", "print", "py_func", "read_file",
    "reset_default_graph", "tuple", "while_loop", "write_file",
}  # fmt: skip
MODULES = {"": tf.ops, "nn": tf.nn, "image": tf.image, "losses": tf.losses, "layers": tf.layers}
SPACES = ("bitwise", "linalg", "math", "random", "signal", "sparse", "strings")
TYPED = (TypeError, ValueError, tf.errors.OpError, NotImplementedError)


def functions() -> Iterator[tuple[str, Any]]:
    """The public functions by their names."""
    spaces = {name: namespaces.find(name) for name in SPACES}
    for prefix, module in {**MODULES, **spaces}.items():
        for name in getattr(module, "__all__", None) or dir(module):
            function = getattr(module, name)
            usable = callable(function) and not inspect.isclass(function)
            if usable and name not in EXCEPT and not name.startswith("_"):
                yield f"{prefix}.{name}".lstrip("."), function


FUNCTIONS = dict(functions())


def value(rng: Any) -> Any:
    """Something that an argument may be mistaken for; no number is large."""
    kind = rng.random()
    if kind < 0.55:
        return tf.constant(array(rng))
    if kind < 0.65:
        return tf.placeholder(tf.float32)
    if kind < 0.72:
        return [array(rng) for _ in range(int(rng.integers(3)))]
    if kind < 0.76:
        return tf.SparseTensor(np.zeros((2, 2), np.int64), [1.0, 2.0], [3, 3])
    found = ATTRIBUTES[int(rng.integers(len(ATTRIBUTES)))]
    return 7 if isinstance(found, int) and abs(found) > 100 else found


def arguments(rng: Any, function: Any) -> list[Any]:
    """All that it needs, and sometimes one more."""
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    given = [p for p in inspect.signature(function).parameters.values() if p.kind in kinds]
    needed = sum(p.default is p.empty for p in given)
    return [value(rng) for _ in range(min(len(given), needed + int(rng.integers(2))))]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_only_typed_errors_come_out(name: str) -> None:
    rng = np.random.default_rng([4, zlib.crc32(name.encode())])
    for _ in range(6):
        with tf.Graph().as_default(), np.errstate(all="ignore"):
            given = arguments(rng, FUNCTIONS[name])
            try:
                FUNCTIONS[name](*given)
            except TYPED:
                continue
            except Exception as error:
                error.add_note(f"tf.{name}{given!r}")
                raise


def test_there_are_functions_to_call() -> None:
    assert {"add", "nn.conv2d", "image.resize_images", "sparse.add", "math.log"} <= set(FUNCTIONS)
    assert len(FUNCTIONS) > 600
    assert not any(isinstance(f, type) and issubclass(f, Layer) for f in FUNCTIONS.values())

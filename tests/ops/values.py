"""Values and gradients without a session, for the tests of ops."""

from __future__ import annotations

from typing import Any

import numpy as np

from graphflow.build import Graph, as_tensor
from graphflow.differentiate import gradients
from graphflow.ops.evaluate import evaluate
from graphflow.ops.sources import placeholder


def value(build: Any, *inputs: Any) -> Any:
    """The value of `build(*tensors)` for arrays."""
    with Graph().as_default():
        return evaluate([build(*[as_tensor(x) for x in inputs])])[0]


def grads(build: Any, *inputs: Any) -> list[Any]:
    """The gradients of the sum of `build(*tensors)` with respect to each input."""
    with Graph().as_default():
        tensors = [as_tensor(x) for x in inputs]
        return evaluate(gradients(build(*tensors), tensors))


def fed(build: Any, *inputs: Any, dims: Any = None) -> Any:
    """The value where shapes are unknown until the run: `dims` of each input, None: no rank."""
    with Graph().as_default():
        arrays = [np.asarray(x) for x in inputs]
        shapes = dims or [None] * len(arrays)
        tensors = [placeholder(x.dtype, d) for x, d in zip(arrays, shapes, strict=True)]
        return evaluate([build(*tensors)], dict(zip(tensors, arrays, strict=True)))[0]

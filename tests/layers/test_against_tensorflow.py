"""`tf.layers` give TensorFlow's values, gradients and names of variables; see `record.py`."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

import graphflow as tf
from tests.layers.record import FILE
from tests.layers.table import PROGRAMS

# Gradients and what sequences become images for have other operations; TensorFlow 2's dropout, too.
OTHERWISE_NAMED = re.compile("gradients|Squeeze|SelectV2")

RECORDED = dict(np.load(FILE))


@pytest.mark.parametrize("name", PROGRAMS)
def test_values_and_names_are_those_of_tensorflow(name: str) -> None:
    with tf.Graph().as_default(), tf.Session() as session:
        tensors = PROGRAMS[name](tf)
        session.run(tf.global_variables_initializer())
        values: list[Any] = session.run(tensors)
        names = [v.name for v in tf.global_variables()]
    assert names == RECORDED[f"{name}/variables"].tolist()
    assert sum(key.startswith(f"{name}/") for key in RECORDED) == len(values) + 2
    for tensor, expected in zip(tensors, RECORDED[f"{name}/names"].tolist(), strict=True):
        assert tensor.name == expected or OTHERWISE_NAMED.search(expected)
    for i, value in enumerate(values):
        expected = RECORDED[f"{name}/{i}"]
        assert value.dtype == expected.dtype, i
        assert value.shape == expected.shape, i
        bound = 1e-12 if expected.dtype == np.float64 else 2e-5
        np.testing.assert_allclose(value, expected, rtol=bound, atol=bound, err_msg=str(i))

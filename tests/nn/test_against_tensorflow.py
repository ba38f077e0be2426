"""`tf.nn`, random numbers and initializers give TensorFlow's values; see `record.py`."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import graphflow as tf
import graphflow.nn
from tests.nn.record import FILE
from tests.nn.table import PROGRAMS

RECORDED = dict(np.load(FILE))


@pytest.mark.parametrize("name", PROGRAMS)
def test_values_are_those_of_tensorflow(name: str) -> None:
    with tf.Graph().as_default(), tf.Session() as session:
        values: list[Any] = session.run(PROGRAMS[name](tf))
    assert sum(key.startswith(f"{name}/") for key in RECORDED) == len(values)
    for i, value in enumerate(values):
        expected = RECORDED[f"{name}/{i}"]
        where = f"{name}/{i}"
        assert np.asarray(value).dtype == expected.dtype, where
        assert np.shape(value) == expected.shape, where
        bound = 1e-9 if expected.dtype == np.float64 else 2e-5
        np.testing.assert_allclose(value, expected, rtol=bound, atol=bound, err_msg=where)

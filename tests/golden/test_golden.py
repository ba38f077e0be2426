"""graphflow gives TensorFlow's values; see `record.py`."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest

import graphflow as tf
from tests.golden.record import TABLES, file_of, programs, values

CASES = [(table, name) for table in TABLES for name in programs(table)]


@cache
def recorded(table: str) -> dict[str, Any]:
    return dict(np.load(file_of(table)))


@pytest.mark.parametrize(("table", "name"), CASES, ids=lambda x: x)
def test_values_are_those_of_tensorflow(table: str, name: str) -> None:
    chosen = programs(table)
    found = values(tf, chosen[name], chosen.runs)
    data = recorded(table)
    assert sum(key.startswith(f"{name}/") for key in data) == len(found)
    for i, value in enumerate(found):
        expected, value = data[f"{name}/{i}"], np.asarray(value)
        where = f"{name}/{i}"
        assert value.shape == expected.shape, where
        if expected.dtype.kind == "S":
            assert value.astype("S").tolist() == expected.tolist(), where
            continue
        assert value.dtype == expected.dtype, where
        if expected.dtype.kind not in "fc":
            np.testing.assert_array_equal(value, expected, err_msg=where)
            continue
        bound = 1e-9 if expected.dtype in (np.float64, np.complex128) else 2e-5
        np.testing.assert_allclose(value, expected, rtol=bound, atol=bound, err_msg=where)

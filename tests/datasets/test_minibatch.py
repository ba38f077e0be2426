"""Mini-batches give each row once, in an order that the seed alone decides."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphflow.datasets import batches


@given(n=st.integers(0, 50), size=st.integers(1, 60), seed=st.none() | st.integers(0, 9))
def test_each_row_once_with_its_label(n, size, seed):
    x, y = np.arange(n) * 10, np.arange(n)
    got = list(batches(x, y, size=size, seed=seed))
    assert [len(xb) for xb, _ in got] == [size] * (n // size) + [n % size] * (n % size > 0)
    assert sorted(row for _, yb in got for row in yb) == list(range(n))
    assert all(np.array_equal(xb, yb * 10) for xb, yb in got)


def test_order_follows_the_seed():
    x = y = np.arange(100)
    order = [np.concatenate([b for b, _ in batches(x, y, size=7, seed=s)]) for s in (1, 1, 2)]
    assert np.array_equal(order[0], order[1])
    assert not np.array_equal(order[0], order[2])
    plain = np.concatenate([b for b, _ in batches(x, y, size=7)])
    assert np.array_equal(plain, x)


def test_bad_arguments_are_refused_by_the_call_itself():
    with pytest.raises(ValueError, match="3 examples and 4 labels"):
        batches(np.zeros(3), np.zeros(4), size=2)
    with pytest.raises(ValueError, match="size is 0"):
        batches(np.zeros(3), np.zeros(3), size=0)

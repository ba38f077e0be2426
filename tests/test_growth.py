"""The check of growth can fail."""

from __future__ import annotations

import pytest

from tests.growth import assert_linear


def test_linear_work_passes_and_quadratic_work_fails():
    assert_linear(lambda n: lambda: [abs(i) for i in range(n)], 1000)
    with pytest.raises(AssertionError, match="calls for 100"):
        assert_linear(lambda n: lambda: [abs(i) for i in range(n * n)], 100)

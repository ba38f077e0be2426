"""Against the placements of networks' authors."""

import pytest

from tests.place.experts import EXPERTS, ratio


@pytest.mark.parametrize("name", ["alexnet", "inception"])
def test_is_no_worse(name):
    assert ratio(name) <= 1.0 + 1e-9


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(set(EXPERTS) - {"alexnet", "inception"}))
def test_is_no_worse_for_large_ones(name):
    assert ratio(name) <= 1.0 + 1e-9

"""Large graphs take time in proportion, and end."""

from dataclasses import replace

import pytest

from graphflow.base.errors import InvalidArgumentError
from graphflow.place.place import search
from graphflow.place.problem import Problem
from tests.growth import assert_linear
from tests.place.problems import topology


def lanes(n, count=3):
    """Independent chains."""
    needs = [[i - count] if i >= count else [] for i in range(n)]
    return Problem(
        topology([1.0, 1.0]),
        ["task"] * n,
        [[1.0, 1.0]] * n,
        needs,
        list(range(n - count)),
        [1.0] * (n - count),
        list(range(n)),
        [[0, 1]] * n,
        {},
    )


def searching(n):
    problem = lanes(n)

    def work():
        assert search(problem)[1].makespan <= 0.67 * n + 1

    return work


def test_the_cost_is_linear():
    assert_linear(searching, 4000)
    searching(20_000)()


@pytest.mark.slow
@pytest.mark.timeout(300)  # 46 s measured: it ends
def test_a_million_ops():
    searching(1_000_000)()


def test_times_that_are_no_numbers_are_refused_at_once():
    problem = lanes(10)
    with pytest.raises(InvalidArgumentError, match="would take"):
        replace(problem, seconds=[[float("nan"), 1.0]] * 10)

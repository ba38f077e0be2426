"""Large graphs take time in proportion, and end."""

import time
from dataclasses import replace

import pytest

from graphflow.base.errors import InvalidArgumentError
from graphflow.place.place import search
from graphflow.place.problem import Problem
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


def seconds(n):
    start = time.perf_counter()
    schedule = search(lanes(n))[1]
    assert schedule.makespan <= 0.67 * n + 1
    return time.perf_counter() - start


def test_time_grows_with_the_graph():
    seconds(4000)
    small = min(seconds(8000) for _ in range(3))
    large = seconds(64_000)
    assert large < 8 * 3 * small  # three times what is proportional: a shared machine


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_million_ops():
    assert seconds(1_000_000) < 300  # 46 measured


def test_times_that_are_no_numbers_are_refused_at_once():
    problem = lanes(10)
    with pytest.raises(InvalidArgumentError, match="would take"):
        replace(problem, seconds=[[float("nan"), 1.0]] * 10)

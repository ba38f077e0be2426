"""What a search found is found again, by whoever asks the very same."""

from dataclasses import fields, replace

import pytest

from graphflow.place import found
from graphflow.place.copies import MIRROR, Copies
from graphflow.place.found import Found
from graphflow.place.place import search
from graphflow.place.problem import Problem
from tests.place.problems import problem, random_problem, topology


@pytest.fixture
def asked():
    return []


@pytest.fixture
def again(asked):
    def noted(problem, steps):
        asked.append(problem)
        return search(problem, steps)

    return Found(noted)


def fork(**sizes):
    return problem([1.0, 2.0, 3.0, 1.0], [(0, 1), (0, 2), (1, 3), (2, 3)], **sizes)


def test_the_same_problem_is_searched_once(again, asked):
    name, first = again(random_problem(5), 600)
    other = random_problem(5)
    again_name, second = again(other, 600)
    assert len(asked) == 1
    assert second.problem is other  # and the first one may go
    assert (name, first.where, first.order) == (again_name, second.where, second.order)
    assert (first.start, first.end, first.transfers) == (
        second.start,
        second.end,
        second.transfers,
    )


OTHER = {
    "topology": topology([1.0, 1.0], memory=1.0),
    "names": ["a", "b", "c", "d"],
    "seconds": [[1.0, 1.0], [2.0, 2.0], [3.0, 3.0], [1.0, 1.0 + 2**-52]],
    "needs": [[], [0], [0], [2]],
    "producer": [0, 1, 1],
    "sizes": [0.0, 0.0, 1.0],
    "group": [0, 1, 2, 2],
    "allowed": [[0, 1], [0, 1], [0, 1], [0]],
    "resident": {0: 1.0},
    "kept": frozenset([1]),
    "views": frozenset([1]),
    "work": [(1.0, 1.0)] * 4,
    "copies": [Copies(0, 1.0, MIRROR, [(1,), (0,)])],
}


@pytest.mark.parametrize("name", [f.name for f in fields(Problem)])
def test_any_difference_is_another_problem(again, asked, name):
    again(fork(), 0)
    again(replace(fork(), **{name: OTHER[name]}), 0)
    assert len(asked) == 2


def test_a_longer_search_is_another_one(again, asked):
    again(fork(), 0)
    again(fork(), 10)
    assert len(asked) == 2


def test_little_is_kept(again, asked, monkeypatch):
    monkeypatch.setattr(found, "KEPT", 2)
    monkeypatch.setattr(found, "TASKS", 12)
    for tasks in (3, 4, 3, 5, 3, 4):  # 4 is the one that was not asked for for the longest time
        again(random_problem(0, tasks), 0)
    assert [p.tasks for p in asked] == [3, 4, 5, 4]
    for _ in range(2):
        again(random_problem(0, 13), 0)
    assert [p.tasks for p in asked[4:]] == [13, 13]

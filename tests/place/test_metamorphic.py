"""What must not make a plan worse: faster devices and links, more devices, other names."""

from dataclasses import replace

import pytest

from graphflow.place.devices import Device, Link, Topology
from graphflow.place.place import search
from tests.place.problems import random_problem, topology

SEEDS = range(6)
STEPS = 6000
SLACK = 1.02  # a heuristic search may miss a little
TIGHT = 1 + 4e-4  # twice what counts as optimal


def best(problem, exact=False):
    return search(problem, STEPS, exact=exact)[1].makespan


def with_speeds(problem, speeds, link):
    """The same tasks on other devices."""
    first = problem.topology.devices[0].flops
    work = [row[0] * first for row in problem.seconds]
    n = len(speeds)
    return replace(
        problem,
        topology=topology(speeds, link),
        seconds=[[w / s for s in speeds] for w in work],
        allowed=[list(range(n))] * problem.tasks,
    )


def kinder(problem):
    """Worlds that are better in one respect."""
    link = Link(0.1, 1.0)
    return [
        with_speeds(problem, [1.0, 1.5], link),
        with_speeds(problem, [1.0, 1.0], Link(0.05, 2.0)),
        with_speeds(problem, [1.0, 1.0, 1.0], link),
    ]


@pytest.mark.parametrize("seed", SEEDS)
def test_faster_or_more(seed):
    problem = random_problem(seed, tasks=14)
    base = best(with_speeds(problem, [1.0, 1.0], Link(0.1, 1.0)))
    assert all(best(other) <= SLACK * base for other in kinder(problem))


@pytest.mark.parametrize("seed", SEEDS)
def test_faster_or_more_when_proven(seed):
    problem = random_problem(seed, tasks=9)
    base = best(with_speeds(problem, [1.0, 1.0], Link(0.1, 1.0)), exact=True)
    assert all(best(other, exact=True) <= TIGHT * base for other in kinder(problem))


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("exact", [False, True])
def test_other_names_give_the_same_plan(seed, exact):
    problem = random_problem(seed, tasks=10)
    renamed = replace(problem, names=[f"other/{n}" for n in reversed(problem.names)])
    found = search(renamed, STEPS, exact=exact), search(problem, STEPS, exact=exact)
    assert found[0][1].where == found[1][1].where


def test_zero_cost_tasks_are_placed():
    problem = random_problem(0)
    free = replace(problem, seconds=[[0.0, 0.0]] * problem.tasks)
    assert best(free, exact=True) == 0.0


def test_links_that_take_no_time():
    topology = Topology(
        tuple([Device(f"/job:w/replica:0/task:{i}/device:CPU:0", 1.0) for i in range(2)])
    )
    names = [d.name for d in topology.devices]
    fast = Link(0.0, float("inf"))
    links = {(names[0], names[1]): fast, (names[1], names[0]): fast}
    problem = replace(random_problem(3), topology=replace(topology, links=links))
    assert best(problem) <= min(sum(row[d] for row in problem.seconds) for d in (0, 1))

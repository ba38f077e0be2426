"""The proven optimum against all plans, one by one, and the search against the optimum."""

from dataclasses import replace
from itertools import permutations, product

import pytest

from graphflow.place.exact import solve
from graphflow.place.heuristics import single_devices, upward_rank
from graphflow.place.place import search
from graphflow.place.serial import routes_of, serial, serial_in_memory
from graphflow.place.simulate import simulate
from tests.place.problems import limited_problem, random_problem


def orders(problem):
    """All orders that keep the edges."""
    return [
        order
        for order in permutations(range(problem.tasks))
        if all(
            order.index(problem.producer[v]) < order.index(task)
            for task in order
            for v in problem.needs[task]
        )
    ]


def brute_force(problem):
    """The shortest makespan of all plans that fit into memory."""
    routes, all_orders = routes_of(problem), orders(problem)
    found = [
        serial_in_memory(problem, order, home, routes)
        for home in product(*problem.allowed)
        for order in all_orders
    ]
    return min(makespan for makespan, overflow in found if not overflow)


def one_device(problem):
    """The best plan that a user without a scheduler has."""
    rank = upward_rank(problem)
    return simulate(problem, single_devices(problem)[0][1], rank)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("devices", [2, 3])
def test_is_what_brute_force_finds(seed, devices):
    problem = random_problem(seed, tasks=6 if devices == 2 else 5, devices=devices)
    proof = solve(problem, one_device(problem))
    assert proof.proven
    assert proof.bound == pytest.approx(brute_force(problem), rel=2e-4)
    assert proof.schedule.makespan == pytest.approx(proof.bound, rel=2e-4)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("fetched", [False, True])
def test_is_what_brute_force_finds_where_memory_is_short(seed, fetched):
    problem = limited_problem(seed, tasks=6, devices=2)
    if fetched:  # values that stay, but are not there before they are made
        problem = replace(problem, kept=frozenset(range(0, len(problem.sizes), 2)))
    best = brute_force(problem)
    proof = solve(problem, search(problem, exact=False)[1])
    assert proof.proven
    assert proof.bound <= best * (1 + 2e-4)
    if proof.schedule is not None and not proof.schedule.overflow:
        assert proof.bound == pytest.approx(best, rel=2e-4)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_is_what_brute_force_finds_among_eight(seed):
    problem = random_problem(seed, tasks=8, devices=2)
    proof = solve(problem, one_device(problem))
    assert proof.bound == pytest.approx(brute_force(problem), rel=2e-4)


@pytest.mark.slow
def test_delays_are_no_way_out():
    problem = limited_problem(31)  # the program would wait here until there is room
    schedule = search(problem, exact=False)[1]
    assert solve(problem, schedule, None).bound == pytest.approx(schedule.makespan, rel=2e-4)


def test_memory_matters():
    free = limited_problem(3, tasks=6, devices=2)
    wide = tuple([replace(d, memory=1e9) for d in free.topology.devices])
    wide = replace(free, topology=replace(free.topology, devices=wide))
    assert brute_force(wide) < brute_force(free)


def test_groups_stay_together():
    problem = random_problem(3, tasks=7)
    tied = replace(problem, group=[0, 0, 1, 1, 2, 2, 2], allowed=[[0, 1], [0, 1], [1]])
    routes = routes_of(tied)
    best = min(
        serial(tied, order, home, routes)
        for home in product(*tied.allowed)
        for order in orders(tied)
    )
    proof = solve(tied, one_device(tied))
    assert proof.bound == pytest.approx(best, rel=2e-4)
    assert [proof.schedule.where[t] for t in (4, 5, 6)] == [1, 1, 1]


def test_the_same_values_in_both_serial_schedules():
    problem = random_problem(2, tasks=12, devices=3)
    routes = routes_of(problem)
    home = [t % 3 for t in range(12)]
    assert serial_in_memory(problem, range(12), home, routes)[0] >= serial(
        problem, range(12), home, routes
    ) * (1 - 1e-12)


@pytest.mark.parametrize("seed", range(8))
def test_overflow_in_the_search_is_that_of_the_simulator(seed):
    problem = limited_problem(seed)
    n = len(problem.topology.devices)
    home = [t % n for t in range(problem.tasks)]
    rank = [-float(t) for t in range(problem.tasks)]
    schedule = simulate(problem, home, rank, strict=True)
    makespan, overflow = serial_in_memory(problem, range(problem.tasks), home, routes_of(problem))
    assert schedule.overflow == pytest.approx(overflow)
    assert max(schedule.end) == pytest.approx(makespan)


@pytest.mark.parametrize("seed", range(4))
def test_the_search_without_it_is_near(seed):
    problem = limited_problem(seed, tasks=10)
    schedule = search(problem, exact=False)[1]
    proof = solve(problem, schedule)
    assert not schedule.overflow
    assert schedule.makespan <= 1.04 * proof.bound


@pytest.mark.parametrize("seed", [1007, 1044, 1056])
def test_what_lacks_memory_is_never_taken_for_the_best(seed):
    problem = limited_problem(seed)  # where plans that do not fit are much shorter
    schedule = search(problem, exact=False)[1]
    assert not schedule.overflow
    assert schedule.makespan <= 1.04 * solve(problem, schedule).bound


@pytest.mark.parametrize("seed", range(3))
def test_the_search_with_it_is_there(seed):
    problem = limited_problem(seed, tasks=10)
    name, schedule = search(problem)
    assert schedule.makespan <= solve(problem, schedule).bound * (1 + 2e-4), name

"""Schedules of parallel training against their formulas."""

from dataclasses import replace

import numpy as np
import pytest

from graphflow.base.errors import InvalidArgumentError
from graphflow.place.devices import Device, Link, Topology
from graphflow.place.problem import Problem
from graphflow.place.schedules import (
    parameter_servers,
    pipeline,
    ring_all_reduce,
    synchronous_steps,
)
from graphflow.place.simulate import simulate


class TestPipeline:
    @pytest.mark.parametrize("order", ["gpipe", "1f1b"])
    @pytest.mark.parametrize(("k", "m"), [(1, 1), (1, 4), (2, 2), (4, 8), (8, 3), (4, 1)])
    def test_the_bubble_of_equal_stages(self, order, k, m):
        result = pipeline([1.0] * k, m, backward=[2.0] * k, order=order)
        assert result.makespan == 3 * (m + k - 1)
        assert result.bubble == pytest.approx((k - 1) / (m + k - 1), abs=1e-15)

    @pytest.mark.parametrize(("k", "m"), [(1, 5), (3, 4), (5, 2)])
    def test_forward_alone(self, k, m):
        result = pipeline([1.0] * k, m)
        assert result.makespan == m + k - 1
        assert result.bubble == pytest.approx((k - 1) / (m + k - 1), abs=1e-15)

    def test_the_slowest_stage_sets_the_pace(self):
        assert pipeline([1.0, 3.0, 1.0], 10).makespan == 1 + 10 * 3 + 1

    def test_links_add_to_the_way_through(self):
        slow = pipeline([2.0] * 3, 5, link=Link(0.5, 4.0), size=2.0)
        assert slow.makespan == (5 + 3 - 1) * 2 + 2 * (0.5 + 2 / 4)

    def test_one_forward_one_backward_keeps_fewer_values(self):
        peak = {
            order: max(
                pipeline([1.0] * 4, 16, backward=[1.0] * 4, order=order, size=1.0).schedule.peak
            )
            for order in ("gpipe", "1f1b")
        }
        assert peak["gpipe"] >= 16
        assert peak["1f1b"] <= 4 + 3  # of 4 microbatches, and what is on the way

    @pytest.mark.parametrize(("stages", "m"), [([], 1), ([1.0], 0)])
    def test_nothing_to_do_is_an_error(self, stages, m):
        with pytest.raises(InvalidArgumentError, match="empty"):
            pipeline(stages, m)
        with pytest.raises(InvalidArgumentError, match="backward"):
            pipeline([1.0], 1, backward=[1.0, 2.0])


def ring_problem(n, size, links):
    """A ring all-reduce as tasks that take no time and values that travel."""
    names = [f"/job:w/replica:0/task:{i}/device:CPU:0" for i in range(n)]
    topology = Topology(
        tuple([Device(name) for name in names]),
        {(names[i], names[(i + 1) % n]): links[i] for i in range(n)},
    )
    rounds = 2 * (n - 1)
    tasks = [(r, i) for r in range(rounds + 1) for i in range(n)]
    number = {task: k for k, task in enumerate(tasks)}
    needs = [[number[r - 1, (i - 1) % n], number[r - 1, i]] if r else [] for r, i in tasks]
    return (
        Problem(
            topology,
            [f"{r}.{i}" for r, i in tasks],
            [[0.0] * n for _ in tasks],
            needs,
            range(len(tasks)),
            [size / n] * len(tasks),
            range(len(tasks)),
            [range(n)] * len(tasks),
            {},
        ),
        [i for _, i in tasks],
    )


class TestRing:
    @pytest.mark.parametrize("n", [1, 2, 3, 8, 1000])
    def test_takes_what_the_formula_says(self, n):
        alpha, beta, size = 0.25, 8.0, 64.0
        end = ring_all_reduce(size, Link(alpha, beta), np.zeros(n))
        expected = 2 * (n - 1) * alpha + 2 * (n - 1) / n * size / beta
        np.testing.assert_allclose(end, expected, rtol=1e-12)

    def test_agrees_with_the_simulator_on_uneven_links(self):
        n, size = 6, 12.0
        rng = np.random.default_rng(0)
        links = [Link(*rng.uniform(0.5, 2, 2)) for _ in range(n)]
        problem, where = ring_problem(n, size, links)
        schedule = simulate(problem, where, [-float(t) for t in range(problem.tasks)])
        end = ring_all_reduce(size, links, np.zeros(n))
        np.testing.assert_allclose(schedule.end[-n:], end, rtol=1e-12)

    def test_waits_for_the_last_one(self):
        link, size = Link(0.0, 1.0), 4.0
        ready = np.array([0.0, 0.0, 10.0, 0.0])
        end = ring_all_reduce(size, link, ready)
        assert end.max() == 10 + 6  # all 6 rounds still to come for what the last one has
        assert end.min() >= 10 + 3

    def test_needs_devices_and_links(self):
        with pytest.raises(InvalidArgumentError, match="at least one"):
            ring_all_reduce(1.0, Link(0, 1), [])
        with pytest.raises(InvalidArgumentError, match="links"):
            ring_all_reduce(1.0, [Link(0, 1)], [0.0, 0.0])


class TestParameterServers:
    @pytest.mark.parametrize(("n", "servers"), [(1, 1), (4, 1), (4, 2), (4, 4), (1000, 10)])
    def test_takes_what_the_formula_says(self, n, servers):
        link, size = Link(0.25, 8.0), 64.0
        step = parameter_servers(np.full(n, 3.0), size, link, servers=servers)
        assert step.makespan == pytest.approx(3 + 2 * n * (0.25 + size / (servers * 8.0)))

    def test_backup_workers_hide_stragglers(self):
        link = Link(0.0, 1e9)
        compute = [1.0, 1.0, 1.0, 50.0]
        assert parameter_servers(compute, 0.0, link).updated == 50
        step = parameter_servers(compute, 0.0, link, backups=1, update=0.5)
        assert step.updated == 1.5
        assert np.isinf(step.pushed[3])

    def test_needs_workers_and_servers(self):
        for options in ({"backups": 2}, {"servers": 0}, {"backups": -1}):
            with pytest.raises(InvalidArgumentError, match="no step"):
                parameter_servers([1.0, 1.0], 1.0, Link(0, 1), **options)


def test_synchronous_steps_take_the_slowest_that_is_waited_for():
    compute = np.array([[1.0, 5.0, 2.0], [4.0, 3.0, 9.0]])
    assert synchronous_steps(compute).tolist() == [5, 9]
    assert synchronous_steps(compute, backups=1).tolist() == [2, 4]
    # Exponential times: the mean of the maximum of n is the n-th harmonic number.
    times = np.random.default_rng(0).exponential(size=(20_000, 10))
    harmonic = sum(1 / k for k in range(1, 11))
    assert synchronous_steps(times).mean() == pytest.approx(harmonic, rel=0.02)
    assert synchronous_steps(times, backups=1).mean() == pytest.approx(harmonic - 1, rel=0.02)
    with pytest.raises(InvalidArgumentError, match="backup"):
        synchronous_steps(compute, backups=3)


def test_the_simulator_takes_a_thousand_devices():
    n = 1000
    names = [f"/job:w/replica:0/task:{i}/device:CPU:0" for i in range(n)]
    topology = Topology(tuple([Device(name) for name in names]))
    problem = Problem(
        topology,
        [f"t{i}" for i in range(2 * n)],
        _Ones(2 * n, n),
        [[] for _ in range(n)] + [[i] for i in range(n)],
        range(n),
        [1e6] * n,
        range(2 * n),
        [[0]] * (2 * n),
        {},
    )
    where = [*range(n), *[(i + 1) % n for i in range(n)]]
    schedule = simulate(problem, where, [0.0] * (2 * n))
    assert schedule.makespan == pytest.approx(2 + 100e-6 + 1e6 / 1.1e9)
    slow = replace(topology, links={(names[0], names[1]): Link(7.0, 1e6)})
    again = simulate(replace(problem, topology=slow), where, [0.0] * (2 * n))
    assert again.makespan == pytest.approx(2 + 8)


class _Ones(list):
    """Rows that share one list of a thousand ones."""

    def __init__(self, rows, columns):
        super().__init__([[1.0] * columns] * rows)

"""The simulator on cases whose times are known."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphflow.base.errors import InternalError, InvalidArgumentError
from graphflow.place.devices import Link
from graphflow.place.heuristics import upward_rank
from graphflow.place.simulate import Bar, simulate
from tests.place.problems import problem, random_problem

SEED = st.integers(0, 2**32 - 1)


def run(p, where, **options):
    return simulate(p, where, upward_rank(p), **options)


def test_a_chain_on_one_device_takes_its_sum():
    p = problem([1, 2, 3], [(0, 1), (1, 2)])
    schedule = run(p, [0, 0, 0])
    assert schedule.makespan == 6
    assert schedule.load == [6, 0]
    assert schedule.idle == [0, 6]


def test_a_chain_over_two_devices_pays_for_its_link():
    p = problem([1, 2], [(0, 1)], link=Link(0.5, 4.0), sizes={0: 8})
    schedule = run(p, [0, 1])
    assert schedule.makespan == 1 + (0.5 + 8 / 4) + 2
    names = [d.name for d in p.topology.devices]
    assert schedule.gantt == [
        Bar(names[0], 0, 1, "t0"),
        Bar(f"{names[0]}->{names[1]}", 1, 3.5, "t0"),
        Bar(names[1], 3.5, 5.5, "t1"),
    ]


def test_a_value_travels_once_for_two_users():
    p = problem([1, 1, 1], [(0, 1), (0, 2)], sizes={0: 3})
    schedule = run(p, [0, 1, 1])
    assert len(schedule.transfers) == 1
    assert schedule.makespan == 1 + 4 + 2


def test_transfers_on_one_link_wait_for_each_other():
    p = problem([0, 0, 1, 1], [(0, 2), (1, 3)], link=Link(0, 1.0), sizes={0: 5, 1: 5})
    schedule = run(p, [0, 0, 1, 1])
    assert sorted((t.start, t.end) for t in schedule.transfers) == [(0, 5), (5, 10)]
    assert schedule.makespan == 11


def test_transfers_overlap_with_work():
    p = problem([1, 9, 1], [(0, 2)], link=Link(0, 1.0), sizes={0: 5})
    assert simulate(p, [0, 0, 1], [2, 1, 0]).makespan == 10


def test_a_device_takes_the_most_urgent_task_that_is_ready():
    p = problem([1, 1, 5], [(1, 2)])
    schedule = run(p, [0, 0, 0])
    assert schedule.start[1] == 0


def test_a_strict_device_waits_for_its_next_task():
    p = problem([3, 1, 1], [(0, 1)], link=Link(0, 1.0))
    assert simulate(p, [0, 1, 1], [2, 1, 0]).start == [0, 3, 0]
    assert simulate(p, [0, 1, 1], [2, 1, 0], strict=True).start == [0, 3, 4]


def test_a_strict_order_that_cannot_be_kept_is_an_error():
    p = problem([1, 1], [(0, 1)])
    with pytest.raises(InternalError, match="never runs t1"):
        simulate(p, [0, 0], [0, 1], strict=True)


def test_peak_memory_counts_what_is_live():
    # t0's value (10) dies with t1; t1's (20) with t2: 30 at once, then 20 + 5.
    p = problem([1, 1, 1, 0], [(0, 1), (1, 2), (2, 3)], sizes={0: 10, 1: 20, 2: 5})
    assert run(p, [0, 0, 0, 0]).peak == [30, 0]
    # On two devices the source holds a value until it is sent, the target from then on.
    assert run(p, [0, 1, 1, 1]).peak == [10, 30]


@pytest.mark.parametrize("bad", [-1.0, float("nan"), float("inf")])
def test_times_that_are_no_times_are_refused(bad):
    with pytest.raises(InvalidArgumentError, match=r"t0.*seconds"):
        problem([bad], [])


@settings(max_examples=60, deadline=None)
@given(SEED, SEED)
def test_schedules_are_valid_and_repeatable(seed, where):
    p = random_problem(seed, tasks=20, devices=3)
    homes = [(where >> task) % 3 for task in range(20)]
    schedule = run(p, homes)
    again = run(p, homes)
    assert (schedule.start, schedule.transfers) == (again.start, again.transfers)
    assert schedule.makespan >= p.lower_bound() - 1e-9
    arrived = {(t.value, t.target): t.end for t in schedule.transfers}
    for task, values in enumerate(p.needs):
        for value in values:
            maker = p.producer[value]
            local = homes[maker] == homes[task]
            there = schedule.end[maker] if local else arrived[value, homes[task]]
            assert schedule.start[task] >= there
    for device in range(3):
        bars = sorted((schedule.start[t], schedule.end[t]) for t in range(20) if homes[t] == device)
        assert all(a[1] <= b[0] for a, b in pairwise(bars))


@settings(max_examples=30, deadline=None)
@given(SEED, SEED)
def test_the_order_of_a_schedule_replays_to_the_same_times(seed, where):
    p = random_problem(seed, tasks=20, devices=3)
    homes = [(where >> task) % 3 for task in range(20)]
    schedule = run(p, homes)
    rank = [0.0] * p.tasks
    for position, task in enumerate(schedule.order):
        rank[task] = -position
    assert simulate(p, homes, rank, strict=True).start == schedule.start


@settings(max_examples=30, deadline=None)
@given(SEED)
def test_scaling_all_times_scales_the_makespan(seed):
    p = random_problem(seed)
    homes = [task % 2 for task in range(p.tasks)]
    double = problem(
        [2 * row[0] * p.topology.devices[0].flops for row in p.seconds],
        [(p.producer[v], t) for t, vs in enumerate(p.needs) for v in vs],
        [d.flops for d in p.topology.devices],
        Link(0.2, 0.5),
        {p.producer[v]: size for v, size in enumerate(p.sizes)},
    )
    assert run(double, homes).makespan == pytest.approx(2 * run(p, homes).makespan)

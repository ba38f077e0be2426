"""What devices of one machine share, and what values that arrive take, on cases known by hand."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import graphflow as tf
from graphflow.base.devices import local
from graphflow.place import place
from graphflow.place.devices import Host, Link, Topology, topology_of
from graphflow.place.heuristics import upward_rank
from graphflow.place.place import search
from graphflow.place.simulate import simulate
from graphflow.rewrite import prune
from tests.place.problems import problem, random_problem


def crowded(found, compute=float("inf"), memory=float("inf"), work=None):
    """The problem on devices of one machine; by default tasks do arithmetic alone."""
    machine = found.topology.machine(found.topology.devices[0].name)
    topology = replace(found.topology, hosts={machine: Host(compute, memory)})
    flops = [row[0] * found.topology.devices[0].flops for row in found.seconds]
    return replace(found, topology=topology, work=work or [(f, 0.0) for f in flops])


def run(found, where, **options):
    return simulate(found, where, upward_rank(found), **options)


def test_two_devices_on_one_core_take_turns():
    two = problem([3.0, 3.0], [])
    schedule = run(crowded(two, compute=1.0), [0, 1])
    assert schedule.makespan == pytest.approx(6.0)
    assert run(two, [0, 1]).makespan == 3.0
    assert run(crowded(two, compute=2.0), [0, 1]).makespan == 3.0
    assert run(crowded(two, compute=1.5), [0, 1]).makespan == pytest.approx(4.0)


def test_who_stays_alone_goes_on_at_full_speed():
    # Together until the short one is through with its 1 s, after 2; then 3 s of the long one.
    found = crowded(problem([1.0, 4.0], []), compute=1.0)
    schedule = run(found, [0, 1])
    assert schedule.end == pytest.approx([2.0, 5.0], rel=1e-3)
    assert schedule.load == pytest.approx([2.0, 5.0], rel=1e-3)


def test_memory_is_shared_by_what_moves_bytes():
    found = problem([2.0, 2.0, 2.0], [], speeds=(1.0,) * 3)
    moved = 2.0 * found.topology.devices[0].bandwidth
    work = [(0.0, moved), (0.0, moved), (2.0, 0.0)]
    schedule = run(crowded(found, memory=1.0, work=work), [0, 1, 2])
    assert schedule.end == pytest.approx([4.0, 4.0, 2.0], rel=1e-3)


def test_who_waits_for_something_else_slows_nobody():
    found = problem([2.0, 2.0], [])
    schedule = run(crowded(found, compute=1.0, work=[(0.0, 0.0), (2.0, 0.0)]), [0, 1])
    assert schedule.makespan == 2.0


def test_the_search_leaves_a_machine_with_one_core_to_one_device():
    found = problem([1.0] * 6, [], sizes={})
    assert len(set(search(found)[1].where)) == 2
    assert len(set(search(crowded(found, compute=1.0))[1].where)) == 1


def test_other_machines_have_their_own_cores():
    names = [f"/job:w/task:{i}/cpu:0" for i in (0, 1)]
    apart = topology_of(names)
    base = problem([3.0, 3.0], [])
    hosts = {apart.machine(d.name): Host(1.0, 1.0) for d in apart.devices}
    apart = Topology(apart.devices, hosts=hosts)
    assert run(replace(base, topology=apart, work=[(9e99, 0.0)] * 2), [0, 1]).makespan == 3.0


@pytest.mark.parametrize("strict", [False, True])
def test_a_value_that_moves_takes_time_from_who_computes(strict):
    link = Link(0.0, 1.0, source_load=0.25, target_load=0.5)
    busy = problem([1.0, 9.0, 1.0, 9.0], [(0, 2)], link=link, sizes={0: 4.0})
    schedule = simulate(busy, [0, 1, 1, 0], [3, 1, 0, 0], strict=strict)
    assert schedule.end == [1.0, 11.0, 12.0, 11.0]  # of 4 s of travel, 2 s here, and 1 s there
    idle = problem([1.0, 1.0], [(0, 1)], link=link, sizes={0: 4.0})
    assert run(idle, [0, 1]).makespan == 6.0
    waits = replace(busy, work=[(0.0, 0.0)] * 4)  # for something else
    assert simulate(waits, [0, 1, 1, 0], [3, 1, 0, 0], strict=strict).end == [1, 9, 10, 10]


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(1.0, 3.0))
def test_sharing_never_helps_and_costs_at_most_all_overlap(seed, compute):
    found = random_problem(seed, tasks=16, devices=3)
    where = [(seed >> task) % 3 for task in range(16)]
    rank = [-float(t) for t in range(16)]
    alone = simulate(found, where, rank, strict=True)
    shared = simulate(crowded(found, compute), where, rank, strict=True)
    assert shared.makespan >= alone.makespan * (1 - 1e-9)
    moving = sum(t.end - t.start for t in alone.transfers)
    assert shared.makespan <= (sum(alone.load) * 3 / compute + moving) * (1 + 1e-3)
    again = simulate(crowded(found, compute), where, rank, strict=True)
    assert shared.end == again.end


def test_the_explanation_tells_what_is_shared():
    base = topology_of([local("CPU", 0), local("CPU", 1)])
    machine = base.machine(base.devices[0].name)
    with tf.Graph().as_default() as graph:
        view = prune(graph, [tf.ones([3]) + 1.0], [], [])
        text = place(view, replace(base, hosts={machine: Host(1.5)})).explain()
    assert "at full speed at once, 1.5 of them compute, and inf of them read" in text
    assert "at full speed" not in place(view, base).explain()


def test_devices_know_their_machine():
    topology = topology_of([local("CPU", 0), local("CPU", 1), "/job:w/task:1/cpu:0"])
    a, b, c = (topology.machine(d.name) for d in topology.devices)
    assert a == b != c

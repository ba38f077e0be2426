"""Memory that copies of variables take: mirrors, and the states that workers keep."""

from __future__ import annotations

import re
from typing import Any

import pytest

import graphflow as tf
from graphflow.base.errors import ResourceExhaustedError
from graphflow.place import CostModel, Topology, assumed_device, devices, local_topology, place
from graphflow.place.coarse import coarsen
from graphflow.place.copies import KEPT, MIRROR
from graphflow.place.devices import machine_memory
from graphflow.place.exact import solve
from graphflow.place.heuristics import heft, upward_rank
from graphflow.place.problem import Problem
from graphflow.place.serial import routes_of, serial_in_memory
from graphflow.place.simulate import simulate
from graphflow.rewrite import prune

W = [f"/job:worker/replica:0/task:{i}" for i in range(4)]
RING = {W[0]: W[1], W[1]: W[2], W[2]: W[0]}


def workers(*memory: float, **options: Any) -> Topology:
    """One CPU each, of so many bytes."""
    names = [f"{W[i]}/device:CPU:0" for i in range(len(memory))]
    devices = [assumed_device(n, memory=m) for n, m in zip(names, memory, strict=True)]
    return Topology(tuple(devices), **options)


def trained(count: int = 50, task: int | None = None, rows: bool = False) -> Any:
    """A variable of `4 * count` bytes, and a step that changes it."""
    with tf.device(None if task is None else f"/job:worker/task:{task}"):
        v = tf.Variable(tf.zeros([count]))
    if rows:
        return v, tf.scatter_add(v, [0], [1.0])
    return v, v.assign_add(tf.ones([count]) * 0.5)


def placed(update: Any, topology: Topology) -> Any:
    wanted = ([], [update]) if isinstance(update, tf.Operation) else ([update], [])
    return place(prune(update.graph, *wanted, []), topology, model=CostModel())


@pytest.fixture(autouse=True)
def graph() -> Any:
    with tf.Graph().as_default() as graph:
        yield graph


def test_mirrors_take_memory_where_they_are(graph):
    v, update = trained(task=0)
    graph.set_mirrors(v.handle.op, ["/job:worker/task:0", "/job:worker/task:1"])
    placement = placed(update, workers(900, 900, 900))
    assert placement.schedule.copied == [{}, {MIRROR: 200.0}, {}]
    assert placement.schedule.peak[1] == 200.0
    told = str(placement.explain())
    assert "operations on 2 of 3 devices" in told
    assert re.search(r"task:1.*of 900 B, copies of variables are 200 B of other devices", told)


def test_what_fits_without_its_mirrors_alone_is_refused(graph):
    """By what is minimal, with what to do; one fits, two do not."""
    pairs = [trained(task=i) for i in range(2)]
    small, _ = trained(1, task=0)
    update = tf.group(*[u for _, u in pairs])
    with graph.control_dependencies([update]):
        update = tf.identity(tf.constant(0.0) + small[0])
    for both in (False, True):
        for v, _ in pairs[: 1 + both]:
            graph.set_mirrors(v.handle.op, W[:2])
        view = prune(graph, [update], [], [])
        if not both:
            place(view, workers(390, 2000))
            continue
        with pytest.raises(ResourceExhaustedError) as caught:
            place(view, workers(390, 2000))
    told = str(caught.value)
    assert "these need 400 B, mirrors included, but /job:worker/replica:0/task:0" in told
    assert "mirrored=False" in told
    assert "Variable_2" not in told, "4 B more or less"


def test_states_of_earlier_steps_are_on_the_worker_and_its_keeper(graph):
    for rows, kept in ((False, {KEPT: 400.0}), (True, {KEPT: 200.0})):
        _, update = trained(task=0, rows=rows)
        copied = placed(update, workers(9e6, 9e6, 9e6, keepers=RING)).schedule.copied
        assert copied == [{} if rows else {KEPT: 400.0}, kept, {}]


def test_a_variable_goes_where_its_copies_fit_too(graph):
    """Alone it would fit anywhere, and be on the first device."""
    _, update = trained()
    memory = 1200, 390, 1200
    assert placed(update, workers(*memory)).used == (f"{W[0]}/device:CPU:0",)
    placement = placed(update, workers(*memory, keepers=RING))
    assert placement.used == (f"{W[2]}/device:CPU:0",)
    assert not placement.schedule.overflow


def test_who_is_alone_keeps_its_own_earlier_states(graph):
    _, update = trained(task=0)
    copied = placed(update, workers(9e6, 9e6, keepers={W[0]: ""})).schedule.copied
    assert copied == [{KEPT: 400.0}, {}]


def test_mirrors_are_kept_as_well(graph):
    v, update = trained(task=0)
    graph.set_mirrors(v.handle.op, W[:2])
    (_, one, two) = placed(update, workers(9e6, 9e6, 9e6, keepers=RING)).schedule.copied
    assert one == {MIRROR: 200.0, KEPT: 800.0}  # its own of before, and those of the first one
    assert two == {KEPT: 400.0}


def test_what_is_set_once_has_no_other_values_before(graph):
    v, _ = trained(task=0)
    copied = placed(v.initializer, workers(9e6, 9e6, 9e6, keepers=RING)).schedule.copied
    assert copied == [{}, {KEPT: 200.0}, {}]


def problem(**options: Any) -> Problem:
    updates = [trained(50 * (i + 1))[1] for i in range(3)]
    total = tf.add_n([tf.reduce_sum(u) for u in updates])
    return placed(total, workers(5000, 900, 5000, **options)).problem


def test_all_who_look_at_memory_see_the_same(graph):
    """The simulator, its short form, the coarse graph; with each variable anywhere."""
    made = problem(keepers=RING)
    for home in range(3):
        where = [home] * made.tasks
        full = simulate(made, where, upward_rank(made))
        homes = [home] * len(made.allowed)
        lacks = serial_in_memory(made, full.order, homes, routes_of(made))[1]
        assert lacks == pytest.approx(full.overflow)
        assert coarsen(made).problem.base(homes.__getitem__) == made.base(homes.__getitem__)


def test_earliest_finish_minds_the_room_that_copies_take(graph):
    made = problem(keepers=RING)
    assert made.copies
    where = heft(made, upward_rank(made))
    stays = made.base(lambda group: where[made.members[group][0]])
    rooms = [d.memory for d in made.topology.devices]
    assert all(size <= room for size, room in zip(stays, rooms, strict=True))


def test_the_proven_optimum_fits_with_its_copies(graph):
    """The best placement by time alone keeps the first variable's states where there is no room."""
    made = problem(keepers=RING)
    start = simulate(made, [1] * made.tasks, upward_rank(made))
    assert start.overflow
    found = solve(made, start, 200).schedule
    assert found is not None
    assert not found.overflow


def test_a_step_takes_the_time_of_its_mirrors(graph):
    """The update travels to them and runs there, and what reads the variable finds it there; that
    is what the plan tells of time and memory."""
    with tf.device("/job:worker/task:0"):
        v = tf.Variable(tf.zeros([1 << 20]))
        delta = tf.ones([1 << 20]) * 0.5
        update = v.assign_add(delta)
    with tf.device("/job:worker/task:1"):
        used = tf.reduce_sum(v)
    wanted = tf.group(update, used)

    def large(schedule: Any) -> list[str]:
        """What is sent."""
        problem = schedule.problem
        sent = [t.value for t in schedule.transfers if problem.sizes[t.value] > 1000]
        return [problem.names[problem.producer[value]] for value in sent]

    alone = placed(wanted, workers(1e9, 1e9)).whole.schedule
    graph.set_mirrors(v.handle.op, W[:2])
    placement = placed(wanted, workers(1e9, 1e9))
    whole = placement.whole.schedule
    assert (large(alone), large(whole)) == (["Variable/read"], [delta.op.name])
    assert whole.load[1] > 1.5 * alone.load[1]
    assert whole.copied == [{}, {MIRROR: 4.0 * (1 << 20)}]
    assert placement.makespan == placement.whole.makespan == whole.makespan > alone.makespan
    assert placement.whole.used == tuple([f"{w}/device:CPU:0" for w in W[:2]])


def test_a_container_may_have_less_memory_than_its_machine(tmp_path, monkeypatch):
    whole = machine_memory()
    limits = [tmp_path / name for name in ("none", "max", "limit")]
    limits[1].write_text("max\n")
    monkeypatch.setattr(devices, "CONTAINERS", limits)
    assert machine_memory() >= whole
    limits[2].write_text("1048576\n")
    assert machine_memory() == 1 << 20
    assert local_topology(2).devices[1].memory == 1 << 20

"""The heuristics one by one, where their answers are known; the coarse graph; memory."""

from dataclasses import replace

import networkx
import pytest

import graphflow as tf
from graphflow.base import dtypes
from graphflow.base.devices import local
from graphflow.base.errors import ResourceExhaustedError
from graphflow.build import OPS
from graphflow.place import Device, Explanation, Link, Topology, place
from graphflow.place.candidates import etf, favourites, layers, m_sct, replicas, stages
from graphflow.place.coarse import as_networkx, coarsen
from graphflow.place.explain import lower_bounds
from graphflow.place.heuristics import upward_rank
from graphflow.place.place import ordered, search
from graphflow.place.simulate import simulate
from graphflow.rewrite import prune
from tests.place.problems import limited_problem, problem, random_problem

CPU0, CPU1 = local("CPU", 0), local("CPU", 1)


def towers(count=2, length=4):
    """Independent chains that meet at the end, task by task in turn."""
    n = count * length
    edges = [(i, i + count) for i in range(n - count)] + [(n - 1 - i, n) for i in range(count)]
    return problem([4.0] * n + [1.0], edges, sizes=dict.fromkeys(range(n), 1.0))


def grid(depth=4, steps=6):
    """A recurrent network: task (layer, step) needs (layer - 1, step) and (layer, step - 1), and
    its layer's parameters; an input starts it."""
    work, edges, number = [0.0] * depth, [], {layer: layer for layer in range(depth)}
    for step in range(steps):
        number[-1, step] = len(work)
        work.append(0.1)
        for layer in range(depth):
            task = number[layer, step] = len(work)
            work.append(4.0)
            earlier = (layer, (layer - 1, step), (layer, step - 1))
            edges += [(number[k], task) for k in earlier if k in number]
    speeds = (1.0,) * depth
    found = problem(work, edges, speeds, sizes=dict.fromkeys(range(len(work)), 0.1))
    views = frozenset(v for v, t in enumerate(found.producer) if t < depth)
    return replace(found, resident=dict.fromkeys(range(depth), 10.0), views=views), number


def test_etf_starts_what_can_start_first():
    # Hwang et al.: two tasks are ready; the second device takes the second at once.
    found = problem([3.0, 3.0, 1.0], [(0, 2), (1, 2)], sizes={0: 1.0, 1: 1.0})
    where = etf(found, upward_rank(found))
    assert where[0] != where[1]


@pytest.mark.parametrize("seed", range(4))
def test_favourites_are_one_to_one(seed):
    found = random_problem(seed, tasks=20, devices=3)
    children = [child for child in favourites(found) if child >= 0]
    assert len(set(children)) == len(children)
    after = found.after
    assert all(c < 0 or c in after[t] for t, c in enumerate(favourites(found)))
    assert len(m_sct(found, upward_rank(found))) == 20


def test_m_sct_keeps_a_heavy_edge_at_home():
    found = problem([1.0, 1.0, 1.0], [(0, 1), (0, 2)], sizes={0: 5.0})
    where = m_sct(found, upward_rank(found))
    assert where[0] in (where[1], where[2])


def test_replicas_are_put_apart():
    found = towers()
    where = replicas(found)
    first, second = {where[t] for t in (0, 2, 4, 6)}, {where[t] for t in (1, 3, 5, 7)}
    assert len(first) == len(second) == 1
    assert first != second


def test_recurrent_layers_are_stages():
    found, number = grid()
    key = layers(found)
    for layer in range(4):
        assert len({key[number[layer, step]] for step in range(6)}) == 1
    where = stages(found, upward_rank(found))
    assert len({where[number[layer]] for layer in range(4)}) == 4
    for layer in range(4):
        assert {where[number[layer, step]] for step in range(6)} == {where[number[layer]]}


def test_microbatches_leave_a_stage_in_turn():
    # Four microbatches through two stages of two tasks: oldest first gives the pipeline's time.
    work, edges, where = [], [], []
    for _ in range(4):
        n = len(work)
        work += [1.0] * 4
        edges += [(n, n + 1), (n + 1, n + 2), (n + 2, n + 3)]
        where += [0, 0, 1, 1]
    found = problem(work, edges, link=Link(0.0, float("inf")))
    assert ordered(found, where, upward_rank(found)).makespan == pytest.approx(10.0)
    assert simulate(found, where, upward_rank(found)).makespan > 10.0


@pytest.mark.parametrize("seed", range(6))
def test_the_coarse_graph_keeps_work_and_has_no_cycle(seed):
    fine = random_problem(seed, tasks=120, devices=3)
    coarse = coarsen(fine, 20)
    graph = as_networkx(coarse)
    assert networkx.is_directed_acyclic_graph(graph)
    assert coarse.problem.tasks < 80
    assert sum(map(sum, coarse.problem.seconds)) == pytest.approx(sum(map(sum, fine.seconds)))
    assert all(max(values, default=-1) < len(coarse.problem.producer)
               for values in coarse.problem.needs)  # fmt: skip
    assert all(a < b for a, b, _ in coarse.problem.edges)


def test_the_coarse_graph_keeps_colocation_and_requests():
    fine = random_problem(1, tasks=40)
    tied = replace(fine, group=[t % 5 for t in range(40)], allowed=[[0], [1], [0, 1], [0, 1], [1]])
    coarse = coarsen(tied)
    small = coarse.problem
    for task in range(40):
        assert set(small.allowed[small.group[coarse.cluster[task]]]) <= set(
            tied.allowed[tied.group[task]]
        )


def handles(count, size, device=""):
    with tf.device(device):
        return [
            OPS["VarHandle"](shared_name=f"v{i}", dims=(size,), dtype=dtypes.float32)
            for i in range(count)
        ]


class TestMemory:
    @pytest.fixture(autouse=True)
    def _graph(self):
        with tf.Graph().as_default() as graph:
            self.graph = graph
            yield

    def plan(self, reads, memory):
        small = Topology((Device(CPU0, memory=memory), Device(CPU1, memory=memory)))
        return place(prune(self.graph, reads, [], []), small)

    def test_variables_bound_to_a_device_that_is_too_small_are_named(self):
        reads = [OPS["ReadVariable"](h) for h in handles(3, 250, "/cpu:0")]
        with pytest.raises(ResourceExhaustedError) as caught:
            self.plan(reads, 1900)
        message = str(caught.value)
        assert message.count("\n  VarHandle") == 2  # two do not fit already
        assert "it asks for" in message
        assert "test_candidates.py" in message
        assert "Move one of them" in message

    def test_more_than_all_devices_hold_is_told(self):
        reads = [OPS["ReadVariable"](h) for h in handles(5, 250)]
        with pytest.raises(ResourceExhaustedError, match="or add a device"):
            self.plan(reads, 2100)
        assert self.plan(reads[:4], 2100).schedule.overflow == 0.0

    def test_infinite_memory_is_never_short(self):
        placement = self.plan([OPS["ReadVariable"](h) for h in handles(2, 10**9)], float("inf"))
        assert "unknown size" in placement.explain()


@pytest.mark.parametrize("seed", range(4))
def test_no_plan_is_under_the_bounds(seed):
    found = limited_problem(seed, tasks=12)
    schedule = search(found, 3000)[1]
    bounds = lower_bounds(found)
    assert schedule.makespan >= max(bounds.values()) * (1 - 1e-9)


def test_memory_forces_a_cut():
    found = problem([0.1] * 3, [(0, 1), (1, 2)], sizes={0: 5.0, 1: 7.0})
    cpus = tuple([replace(d, memory=40.0) for d in found.topology.devices])
    short = replace(found, topology=replace(found.topology, devices=cpus), resident={0: 30, 2: 30})
    assert lower_bounds(short)["the cut that memory forces"] == pytest.approx(6.2)
    assert search(short)[1].makespan >= 6.2
    assert "the cut that memory forces" not in lower_bounds(found)


def test_the_digest_is_that_of_the_plan():
    def plan(device):
        with tf.Graph().as_default() as graph:
            with tf.device(device):
                y = tf.negative(tf.zeros([4]) + 1.0)
            two = Topology((Device(CPU0), Device(CPU1)))
            return place(prune(graph, [y], [], []), two)

    assert plan("/cpu:0").digest == plan("/cpu:0").digest
    assert plan("/cpu:0").digest != plan("/cpu:1").digest
    assert Explanation(plan("/cpu:0")).gap >= 0

"""Requests, colocation, kernels and the choice that is left."""

from dataclasses import replace
from itertools import permutations, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import graphflow.ops.arithmetic
import graphflow.ops.state  # noqa: F401
from graphflow.base import dtypes
from graphflow.base.devices import local
from graphflow.base.errors import InvalidArgumentError, ResourceExhaustedError
from graphflow.build import OPS, Graph
from graphflow.ops import sources
from graphflow.place import CostModel, Device, Link, Topology, local_topology, place, topology_of
from graphflow.place.heuristics import upward_rank
from graphflow.place.place import search
from graphflow.place.serial import routes_of, serial
from graphflow.place.simulate import simulate
from graphflow.place.units import seconds
from graphflow.rewrite import prune
from tests.growth import assert_linear
from tests.place.problems import random_problem

CPU0, CPU1, GPU0 = local("CPU", 0), local("CPU", 1), local("GPU", 0)
TWO = local_topology(2)
CPU_AND_GPU = local_topology(1, 1)


@pytest.fixture
def graph():
    graph = Graph()
    with graph.as_default():
        yield graph


def variable(name="v", **attrs):
    return OPS["VarHandle"](shared_name=name, dims=(2,), dtype=dtypes.float32, **attrs)


def test_times_of_less_than_a_nanosecond_are_none():
    assert [seconds(t) for t in (9.76e-19, -1e-19, 2e-9, 3e-5)] == ["0 ns", "0 ns", "2 ns", "30 us"]


def placed(graph, fetches, topology=TWO, feeds=(), **options):
    return place(prune(graph, fetches, [], feeds), topology, **options)


class TestRequests:
    @pytest.mark.parametrize("text", ["/cpu:1", "/device:CPU:1", CPU1, "/task:0/cpu:1"])
    def test_are_honoured(self, graph, text):
        with graph.device(text):
            c = sources.constant([1.0])
        assert placed(graph, [c])[c.op] == CPU1

    def test_in_part_leave_a_choice_inside(self, graph):
        topology = topology_of(["/job:ps/task:0/cpu:0", "/job:worker/task:0/cpu:0"])
        with graph.device("/job:worker"):
            c = sources.constant([1.0])
        assert placed(graph, [c], topology)[c.op].startswith("/job:worker")

    def test_for_what_is_not_there_name_the_line_and_the_devices(self, graph):
        with graph.device("/job:ps/task:3"):
            c = sources.constant([1.0], name="here")
        with pytest.raises(InvalidArgumentError) as caught:
            placed(graph, [c], soft=False)
        message = str(caught.value)
        assert "'here' asks for device /job:ps/task:3, which does not exist" in message
        assert f"available: {CPU0}, {CPU1}" in message
        assert "test_place.py" in message
        assert caught.value.node_def == "here"

    def test_for_a_task_that_is_not_there_go_to_one_that_is_when_soft(self, graph):
        with graph.device("/job:ps/task:3"):
            c = sources.constant([1.0])
        assert placed(graph, [c])[c.op] == CPU0  # the program runs on fewer machines

    @pytest.mark.parametrize("topology", [local_topology(1), TWO])
    def test_for_a_gpu_fall_back_to_the_cpu_when_soft(self, graph, topology):
        with graph.device("/gpu:0"):
            c = sources.constant([1.0])
        assert "CPU" in placed(graph, [c], topology)[c.op]
        with pytest.raises(InvalidArgumentError, match="allow soft placement"):
            placed(graph, [c], topology, soft=False)

    def test_soft_placement_stays_on_the_task(self, graph):
        topology = topology_of(["/job:w/task:0/cpu:0", "/job:w/task:1/cpu:0"])
        with graph.device("/job:w/task:1/gpu:0"):
            c = sources.constant([1.0])
        assert "/task:1" in placed(graph, [c], topology)[c.op]

    def test_a_default_fills_what_is_left_open(self, graph):
        a = sources.constant([1.0])
        with graph.device("/cpu:0"):
            b = OPS["Neg"](a)
        placement = placed(graph, [b], default="/cpu:1")
        assert (placement[a.op], placement[b.op]) == (CPU1, CPU0)


class TestKernels:
    def test_strings_stay_on_the_host(self, graph):
        with graph.device("/gpu:0"):
            c = sources.constant("text")
        assert placed(graph, [c], CPU_AND_GPU)[c.op] == CPU0
        with pytest.raises(InvalidArgumentError, match=r"no kernel on .*GPU:0, only on CPUs"):
            placed(graph, [c], CPU_AND_GPU, soft=False)

    def test_numbers_go_to_the_gpu_when_asked(self, graph):
        with graph.device("/gpu:0"):
            c = sources.constant([1.0])
        assert placed(graph, [c], CPU_AND_GPU, soft=False)[c.op] == GPU0


class TestColocation:
    def test_brings_operations_together(self, graph):
        with graph.device("/cpu:1"):
            a = sources.constant([1.0])
        with graph.colocate_with(a.op):
            b = OPS["Neg"](sources.constant([1.0]))
        assert placed(graph, [a, b])[b.op] == CPU1

    def test_holds_where_the_other_is_pruned(self, graph):
        with graph.device("/cpu:1"):
            a = sources.constant([1.0])
        with graph.colocate_with(a.op):
            b = sources.constant([1.0])
        assert placed(graph, [b])[b.op] == CPU1

    def test_a_variable_is_one_place(self, graph):
        with graph.device("/cpu:1"):
            handle = variable()
        with graph.device("/cpu:0"):  # gives way to the variable's home
            read = OPS["ReadVariable"](handle)
        again = OPS["ReadVariable"](variable())
        write = OPS["AssignVariable"](handle, OPS["Neg"](read))
        placement = placed(graph, [write, again])
        homes = {placement[o] for o in (handle.op, read.op, again.op, again.op.inputs[0].op)}
        assert homes == {placement[write.op]} == {CPU1}
        assert placement.state[handle.op.name] == CPU1

    def test_a_variable_stays_where_it_lives(self, graph):
        read = OPS["ReadVariable"](variable())
        for home in (CPU0, CPU1):
            assert placed(graph, [read], held={"VarHandle": home})[read.op] == home

    def test_contradictions_name_a_minimal_set(self, graph):
        with graph.device("/cpu:0"):
            a = sources.constant([1.0], name="a")
        with graph.colocate_with(a.op):
            b = sources.constant([1.0], name="b")
            many = [sources.constant([1.0]) for _ in range(5)]
        c = sources.constant([1.0], name="c")
        with graph.colocate_with(b.op):
            c = sources.constant([1.0], name="c")
        graph.set_device(c.op, "/cpu:1")
        graph.set_device(b.op, "")
        with pytest.raises(InvalidArgumentError) as caught:
            placed(graph, [a, b, c, *many], soft=False)
        message = str(caught.value)
        assert "Const 'a': it asks for /device:CPU:0" in message
        assert "Const 'c_1': it asks for /cpu:1" in message
        assert "'b' is colocated with 'a'" in message
        assert "'c_1' is colocated with 'b'" in message
        assert message.count("built at") == 4
        assert message.count("test_place.py") == 4

    def contradiction(self, graph, first, second, value=1.0):
        with graph.device(first):
            a = sources.constant(value, name="a")
        with graph.colocate_with(a.op):
            b = sources.constant(value, name="b")
        graph.set_device(b.op, second)
        return [a, b]

    def test_contradictions_within_a_task_give_way_when_soft(self, graph):
        """As in TensorFlow."""
        a, b = self.contradiction(graph, "/task:1/cpu:0", "/task:1/cpu:1")
        names = [f"/job:w/task:{task}/cpu:{i}" for task in (0, 1) for i in (0, 1, 2)]
        placement = placed(graph, [a, b], topology_of(names))
        assert placement[a.op] == placement[b.op]
        assert "/task:1/" in placement[a.op]
        assert "a: it asks for /task:1/device:CPU:0, or else for its task" in placement.explain()

    def test_what_has_no_kernel_there_does_not_give_way(self, graph):
        a, b = self.contradiction(graph, "/cpu:0", "/cpu:1", "text")
        assert "CPU" in placed(graph, [a, b], local_topology(2, 1))[a.op]

    def test_contradictions_between_tasks_are_errors_when_soft_too(self, graph):
        fetches = self.contradiction(graph, "/task:0", "/task:1")
        topology = topology_of(["/job:w/task:0/cpu:0", "/job:w/task:1/cpu:0"])
        with pytest.raises(InvalidArgumentError, match="share a device") as caught:
            placed(graph, fetches, topology)
        assert "or allow soft placement" not in str(caught.value)
        with pytest.raises(InvalidArgumentError, match="share a device") as caught:
            placed(graph, fetches, topology, soft=False)
        assert "or allow soft placement" not in str(caught.value)

    def test_cycles_are_harmless(self, graph):
        a, b = sources.constant([1.0]), sources.constant([2.0])
        a.op.colocation, b.op.colocation = (b.op,), (a.op, b.op)
        placement = placed(graph, [a, b])
        assert placement[a.op] == placement[b.op]


def optimum(problem):
    """The shortest makespan over all orders and devices, one by one."""
    routes = routes_of(problem)
    orders = [
        order
        for order in permutations(range(problem.tasks))
        if all(
            order.index(problem.producer[v]) < order.index(task)
            for task in order
            for v in problem.needs[task]
        )
    ]
    homes = product(*problem.allowed)
    return min(serial(problem, order, home, routes) for home in homes for order in orders)


class TestChoice:
    def test_independent_work_is_spread(self, graph):
        x = sources.placeholder("float32", [2000, 2000])
        y = [x] * 2
        for _ in range(4):
            y = [OPS["Neg"](t) for t in y]
        assert len(placed(graph, y, feeds=[x]).used) == 2

    def test_small_work_stays_together(self, graph):
        x = sources.placeholder("float32", [2])
        y = [OPS["Neg"](OPS["Neg"](x)) for _ in range(2)]
        slow = Topology(TWO.devices, {(CPU0, CPU1): Link(1, 1), (CPU1, CPU0): Link(1, 1)})
        assert len(placed(graph, [OPS["Add"](*y)], slow, [x]).used) == 1

    def test_what_is_shorter_than_starting_a_thread_stays_together(self, graph):
        x = sources.placeholder("float32", [1000])
        y = [x] * 2
        for _ in range(4):
            y = [OPS["Neg"](t) for t in y]
        assert len(placed(graph, y, feeds=[x]).used) == 1

    def test_what_is_shorter_than_a_call_stays_in_one_process(self, graph):
        topology = topology_of(["/job:w/task:0/cpu:0", "/job:w/task:1/cpu:0"])
        x = sources.placeholder("float32", [100_000])  # 0.2 ms for each chain
        y = [x] * 2
        for _ in range(4):
            y = [OPS["Neg"](t) for t in y]
        assert len(placed(graph, y, topology, [x]).used) == 1
        assert len(placed(graph, y, feeds=[x]).used) == 2

    def test_a_faster_device_is_taken(self, graph):
        topology = Topology((Device(CPU0, bandwidth=1e9), Device(CPU1, bandwidth=1e10)))
        x = sources.placeholder("float32", [1000, 1000])
        assert placed(graph, [OPS["Neg"](x)], topology, [x]).used == (CPU1,)

    def test_constants_go_with_their_users(self, graph):
        x = sources.placeholder("float32", [4])
        c = sources.constant([1.0])
        with graph.device("/cpu:1"):
            y = OPS["Add"](x, c)
        assert placed(graph, [y], feeds=[x]).used == (CPU1,)

    def test_the_order_keeps_every_edge(self, graph):
        x = sources.placeholder("float32", [500, 500])
        y = [x, x]
        for _ in range(5):
            y = [OPS["Neg"](y[0]), OPS["Add"](y[0], y[1])]
        placement = placed(graph, y, feeds=[x])
        position = {o: i for i, o in enumerate(placement.order)}
        assert set(position) == set(placement.subgraph.order)
        for operation, at in position.items():
            assert all(position[t.op] < at for t in operation.inputs if t is not x)

    @settings(max_examples=8, deadline=None)
    @given(st.integers(0, 2**32 - 1))
    def test_is_never_worse_than_one_device(self, seed):
        problem = random_problem(seed)
        rank = upward_rank(problem)
        singles = [simulate(problem, [d] * problem.tasks, rank).makespan for d in (0, 1)]
        assert search(problem, 3000, exact=False)[1].makespan <= min(singles)

    @pytest.mark.parametrize("seed", range(6))
    def test_is_near_the_optimum(self, seed):
        problem = random_problem(seed, tasks=6)
        assert search(problem)[1].makespan <= 1.01 * optimum(problem)

    def test_memory_decides_where_speed_would_not(self, graph):
        small = Topology((Device(CPU0, memory=1500), Device(CPU1, memory=1500, bandwidth=1e9)))
        dims = (250,)  # 1,000 bytes
        handles = [
            OPS["VarHandle"](shared_name=f"v{i}", dims=dims, dtype=dtypes.float32) for i in (0, 1)
        ]
        placement = placed(graph, [OPS["ReadVariable"](h) for h in handles], small)
        assert len({placement[h.op] for h in handles}) == 2
        assert "too much" not in placement.explain()

    def test_what_fits_nowhere_is_said(self, graph):
        tiny = Topology((Device(CPU0, memory=10), Device(CPU1, memory=10)))
        with pytest.raises(ResourceExhaustedError, match=r"'big' holds 400 B .* 10 B at most"):
            placed(graph, [sources.constant([1.0] * 100, name="big")], tiny)

    def test_is_repeatable(self):
        problem = random_problem(5, tasks=60, devices=4)
        first, second = search(problem)[1], search(problem)[1]
        assert (first.where, first.start) == (second.where, second.start)


def test_the_cost_of_one_device_is_linear(graph):
    def placing(size):
        x = y = sources.placeholder("float32", [4])
        for _ in range(size):
            y = OPS["Neg"](y)
        subgraph = prune(graph, [y], [], [x])
        return lambda: place(subgraph, local_topology(1))

    assert_linear(placing, 2_000)


def test_the_cost_model_assumes_unknown_sizes(graph):
    x = sources.placeholder("float32", [None, 10])
    y = OPS["Neg"](x).op
    assert CostModel(batch=7).work(y) == (70, 2 * 70 * 4)
    anything = OPS["Neg"](sources.placeholder("float32")).op
    assert CostModel(batch=2, size=3).work(anything).flops == 6


def test_assumed_sizes_that_contradict_each_other_do_no_harm(graph):
    image = sources.placeholder("float32", None)  # taken as a matrix, which Conv2D refuses
    kernel = sources.constant(np.ones((3, 3, 1, 1), np.float32))
    result = OPS["Conv2D"](image, kernel, strides=(1, 1), padding="SAME")
    assert CostModel().work(result.op).flops > 0


@pytest.mark.parametrize("cost", [-1.0, float("nan"), float("inf")])
def test_entries_need_costs_that_are_numbers(graph, cost):
    x = sources.placeholder("float32", [2])
    y = OPS["Neg"](x).op
    y.opdef = replace(y.opdef, cost=lambda *_: cost)
    with pytest.raises(InvalidArgumentError, match="cost of Neg"):
        CostModel().work(y)


def test_a_cost_that_is_no_number_is_refused(graph):
    x = sources.placeholder("float32", [2])
    y = OPS["Neg"](x).op
    model = CostModel(measured={(y.name, CPU0): float("nan")})
    with pytest.raises(InvalidArgumentError, match="would take"):
        place(prune(graph, [y.outputs[0]], [], [x]), TWO, model=model)


def test_the_explanation_tells_times_devices_and_reasons(graph):
    with graph.device("/cpu:1"):
        a = sources.constant([1.0], name="a")
    text = placed(graph, [OPS["Neg"](a)]).explain()
    assert "predicted step:" in text
    assert "no plan can take less than" in text
    assert f"a -> {CPU1}: a: it asks for /device:CPU:1" in text


def test_the_explanation_tells_what_the_other_device_would_cost(graph):
    topology = Topology((Device(CPU0, bandwidth=1e9), Device(CPU1, bandwidth=1e10)))
    x = sources.placeholder("float32", [1000, 1000])
    y = OPS["Neg"](x)
    text = placed(graph, [y], topology, [x]).explain()
    # 8 MB at 1 GB/s against 10 GB/s: 8 ms against 0.8 ms.
    assert f"Neg -> {CPU1}: on {CPU0} the step would take 7.2 ms more" in text


@pytest.mark.parametrize("field", ["flops", "bandwidth", "memory"])
@pytest.mark.parametrize("value", [0, -1, float("nan")])
def test_devices_need_speeds(field, value):
    with pytest.raises(InvalidArgumentError, match=field):
        Device(CPU0, **{field: value})


def test_topologies_are_checked():
    with pytest.raises(InvalidArgumentError, match="at least one"):
        Topology(())
    with pytest.raises(InvalidArgumentError, match="twice"):
        topology_of([CPU0, CPU0])
    with pytest.raises(InvalidArgumentError, match="not there"):
        Topology(TWO.devices, {(CPU0, GPU0): Link(1, 1)})

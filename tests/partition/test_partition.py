"""A partitioned run equals the whole one, whatever the placement and the timing."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphflow.build import OPS, Graph
from graphflow.ops import sources
from graphflow.partition import partition, verify
from graphflow.place import local_topology, place, topology_of
from graphflow.rewrite import prune
from tests.partition.graphs import (
    random_placement,
    random_subgraph,
    run_parts,
    run_whole,
)

SEED = st.integers(0, 2**32 - 1)


def same(left, right):
    values, state = left
    others, state_after = right
    assert state.keys() == state_after.keys()
    pairs = [*zip(values, others, strict=True), *[(state[k], state_after[k]) for k in state]]
    for a, b in pairs:
        np.testing.assert_array_equal(np.asarray(a).view(np.uint32), np.asarray(b).view(np.uint32))


@settings(max_examples=150, deadline=None)
@given(SEED, SEED, SEED)
def test_parts_compute_what_the_whole_computes(graph, where, timing):
    subgraph, feeds, state = random_subgraph(graph)
    result = partition(subgraph, random_placement(subgraph, where))
    same(run_parts(result, feeds, state, timing), run_whole(subgraph, feeds, state))


@settings(max_examples=150, deadline=None)
@given(SEED, SEED, SEED)
def test_so_do_parts_in_processes_of_their_own(graph, where, timing):
    subgraph, feeds, state = random_subgraph(graph)
    result = partition(subgraph, random_placement(subgraph, where, processes=True))
    same(run_parts(result, feeds, state, timing), run_whole(subgraph, feeds, state))


def test_small_tensors_share_a_message_between_processes():
    messages = {}
    for processes in (False, True):
        topology = local_topology(2)
        if processes:
            topology = topology_of(["/job:w/task:0/cpu:0", "/job:w/task:1/cpu:0"])
        with Graph().as_default() as graph:
            x = sources.placeholder("float32", [3])
            with graph.device(topology.devices[0].name):
                ends = [OPS["Neg"](x) for _ in range(5)]
            with graph.device(topology.devices[1].name):
                y = OPS["AddN"](*ends)
            subgraph = prune(graph, [y], [], [x])
            result = partition(subgraph, place(subgraph, topology))
        assert {t.tensor for t in result.transfers} == set(ends)
        messages[processes] = len({t.key for t in result.transfers})
    assert messages == {False: 5, True: 1}


@settings(max_examples=50, deadline=None)
@given(SEED, SEED)
def test_parts_keep_the_planned_order(graph, timing):
    subgraph, feeds, state = random_subgraph(graph, size=30)
    placement = place(subgraph, local_topology(3))
    same(
        run_parts(partition(subgraph, placement), feeds, state, timing),
        run_whole(subgraph, feeds, state),
    )


@settings(max_examples=50, deadline=None)
@given(SEED, SEED)
def test_a_tensor_travels_once_to_each_device(graph, where):
    subgraph, feeds, _ = random_subgraph(graph)
    placement = random_placement(subgraph, where)
    result = partition(subgraph, placement)
    wanted = {
        (t, placement[o])
        for o in subgraph.order
        for t in o.inputs
        if t not in feeds and placement[o] != placement[t.op] and t.op.type != "Const"
    }
    data = [(t.tensor, t.destination) for t in result.transfers if not t.control]
    assert set(data) == wanted
    assert len(data) == len(wanted)


def two_devices(build):
    """Partitions of what `build` makes, with CPU:0 and CPU:1."""
    graph = Graph()
    with graph.as_default():
        x = sources.placeholder("float32", [4])
        fetches, targets = build(graph, x)
    subgraph = prune(graph, fetches, targets, [x])
    return x, partition(subgraph, place(subgraph, local_topology(2)))


def test_feeds_go_where_they_are_used_and_fetches_come_from_where_they_are_made():
    def build(graph, x):
        with graph.device("/cpu:1"):
            y = OPS["Neg"](x)
        with graph.device("/cpu:0"):
            return [y, OPS["Neg"](y), x], []

    x, result = two_devices(build)
    zero, one = result.devices
    assert result.fed(x) == (one,)
    assert [result.fetched[t] for t in result.subgraph.fetches] == [one, zero, one]
    assert [o.type for o in result.parts[zero].order] == ["Recv", "Neg"]
    assert [o.type for o in result.parts[one].order] == ["Neg", "Send"]


def test_a_control_edge_rides_on_a_value_that_travels_anyhow():
    def build(graph, x):
        with graph.device("/cpu:0"):
            y = OPS["Neg"](x)
        with graph.device("/cpu:1"), graph.control_dependencies([y]):
            return [OPS["Add"](y, x)], []

    _, result = two_devices(build)
    assert [t.control for t in result.transfers] == [False]


def test_a_control_edge_without_a_value_sends_a_boolean_once():
    def build(graph, x):
        with graph.device("/cpu:0"):
            y = OPS["Neg"](x)
        with graph.device("/cpu:1"), graph.control_dependencies([y]):
            return [OPS["Neg"](x), OPS["Identity"](x)], []

    _, result = two_devices(build)
    (transfer,) = result.transfers
    assert transfer.control
    ((dims, dtype),) = transfer.send.attrs["specs"]
    assert (dims, dtype.name) == ((), "bool")


def test_constants_are_copied_and_do_not_travel():
    def build(graph, x):
        with graph.device("/cpu:0"):
            c = sources.constant([1.0, 2.0, 3.0, 4.0])
            y = OPS["Add"](x, c)
        with graph.device("/cpu:1"), graph.control_dependencies([c]):
            return [y, OPS["Add"](x, c), OPS["Mul"](x, c)], []

    _, result = two_devices(build)
    assert result.transfers == ()
    copy, *_ = result.parts[result.devices[1]].order
    assert copy.name == "Const/_copy_localhost_0_0_CPU_1"
    assert copy.outputs == result.subgraph.order[0].outputs


def test_a_constant_that_waits_travels():
    def build(graph, x):
        with graph.device("/cpu:0"):
            y = OPS["Neg"](x)
            with graph.control_dependencies([y]):
                c = sources.constant([1.0])
        with graph.device("/cpu:1"):
            return [OPS["Neg"](c)], []

    _, result = two_devices(build)
    assert [t.tensor.op.type for t in result.transfers] == ["Const"]


def test_receives_come_just_before_their_first_use():
    def build(graph, x):
        with graph.device("/cpu:0"):
            y = OPS["Neg"](x)
        with graph.device("/cpu:1"):
            a = OPS["Mul"](x, x)
            return [OPS["Add"](OPS["Neg"](a), y)], []

    _, result = two_devices(build)
    assert [o.type for o in result.parts[result.devices[1]].order] == ["Mul", "Neg", "Recv", "Add"]


def test_nothing_but_feeds_and_fetches():
    graph = Graph()
    with graph.as_default():
        x = sources.placeholder("float32", [4])
    subgraph = prune(graph, [x], [], [x])
    result = partition(subgraph, place(subgraph, local_topology(2)))
    assert result.fetched[x] in result.fed(x)
    verify(result)


@pytest.mark.parametrize("devices", [1, 2])
def test_one_device_keeps_the_subgraph(devices):
    subgraph, feeds, state = random_subgraph(7)
    result = partition(subgraph, place(subgraph, local_topology(devices), default="/cpu:0"))
    assert [p.order for p in result.parts.values()] == [subgraph.order]
    same(run_parts(result, feeds, state, 0), run_whole(subgraph, feeds, state))


def test_a_constant_that_is_needed_elsewhere_leaves_no_part_behind():
    topology = topology_of(["/job:w/task:0/cpu:0", "/job:w/task:1/cpu:0"])
    with Graph().as_default() as graph:
        x = sources.placeholder("float32", [3])
        with graph.device(topology.devices[0].name):
            c = sources.constant([1.0, 2.0, 3.0])
        with graph.device(topology.devices[1].name):
            y = OPS["Add"](x, c)
        subgraph = prune(graph, [y], [], [x])
        assert list(partition(subgraph, place(subgraph, topology)).parts) == [
            topology.devices[1].name
        ]
        both = prune(graph, [y, c], [], [x])
        assert len(partition(both, place(both, topology)).parts) == 2

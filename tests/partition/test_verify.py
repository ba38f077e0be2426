"""The verifier finds what is broken on purpose."""

from dataclasses import replace

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from graphflow.base.errors import InternalError
from graphflow.build import OPS, Graph
from graphflow.ops import sources
from graphflow.partition import partition, verify
from graphflow.place import local_topology, place
from graphflow.rewrite import prune
from tests.partition.graphs import random_placement, random_subgraph, with_order

SEED = st.integers(0, 2**32 - 1)


def cut(graph, where):
    subgraph, _, _ = random_subgraph(graph)
    result = partition(subgraph, random_placement(subgraph, where, devices=2))
    assume(result.transfers)
    return result


def rejected(partitions, match):
    with pytest.raises(InternalError, match=match):
        verify(partitions)


@settings(max_examples=40, deadline=None)
@given(SEED, SEED, st.sampled_from(["send", "recv"]), st.data())
def test_a_dropped_end(graph, where, end, data):
    result = cut(graph, where)
    transfer = data.draw(st.sampled_from(result.transfers))
    lost = getattr(transfer, end)
    device = transfer.source if end == "send" else transfer.destination
    order = [o for o in result.parts[device].order if o is not lost]
    rejected(with_order(result, device, order), r"sends and \d receives")


@settings(max_examples=40, deadline=None)
@given(SEED, SEED, st.data())
def test_a_duplicate(graph, where, data):
    result = cut(graph, where)
    device = data.draw(st.sampled_from(result.devices))
    order = list(result.parts[device].order)
    order.insert(0, data.draw(st.sampled_from(order)))
    rejected(with_order(result, device, order), "runs 2 times")


@settings(max_examples=40, deadline=None)
@given(SEED, SEED, st.data())
def test_an_operation_dropped_or_on_the_wrong_device(graph, where, data):
    result = cut(graph, where)
    # A constant that nothing on its device takes is in no part.
    there = {o for part in result.parts.values() for o in part.order}
    lost = data.draw(st.sampled_from([o for o in result.subgraph.order if o in there]))
    device = result.placement[lost]
    order = [o for o in result.parts[device].order if o is not lost]
    without = with_order(result, device, order)
    rejected(without, "never runs")
    (other,) = [d for d in result.devices if d != device]
    rejected(with_order(without, other, [*result.parts[other].order, lost]), "belongs on")


@settings(max_examples=60, deadline=None)
@given(SEED, SEED, st.data())
def test_an_edge_turned_round(graph, where, data):
    """An operation moved in front of what it waits for, on one device or across two."""
    result = cut(graph, where)
    subgraph, placement = result.subgraph, result.placement
    device = data.draw(st.sampled_from(result.devices))
    part = result.parts[device]
    position = {o: i for i, o in enumerate(part.order)}
    made = {t: o for o in part.order for t in o.outputs}
    edges = [
        (before, o)
        for o in part.order
        for before in (
            *[made[t] for t in o.inputs if t in made],
            *part.after.get(o, ()),
            *[b for b in subgraph.after.get(o, ()) if placement[b] == device and b.type != "Const"],
        )
    ]
    assume(edges)
    before, after = data.draw(st.sampled_from(edges))
    order = [o for o in part.order if o is not after]
    order.insert(position[before], after)
    rejected(with_order(result, device, order), "lacks|may run before|waits for ever")


def ping_pong():
    """x travels from CPU:0 to CPU:1 and another value the other way."""
    graph = Graph()
    with graph.as_default():
        x = sources.placeholder("float32", [4])
        with graph.device("/cpu:0"):
            a = OPS["Neg"](x)
        with graph.device("/cpu:1"):
            b = OPS["Mul"](x, x)
            c = OPS["Add"](a, b)
        with graph.device("/cpu:0"):
            d = OPS["Sub"](a, b)
    subgraph = prune(graph, [c, d], [], [x])
    return partition(subgraph, place(subgraph, local_topology(2)))


def test_devices_that_wait_for_each_other():
    result = ping_pong()
    for device, part in result.parts.items():
        order = sorted(part.order, key=lambda o: o.type != "Recv")
        result = with_order(result, device, order)
    rejected(result, "waits for ever")


def test_a_lost_fetch():
    result = ping_pong()
    rejected(replace(result, fetched={}), "nobody gives the fetched")
    device = next(iter(result.fetched.values()))
    part = replace(result.parts[device], fetches=())
    rejected(replace(result, parts={**result.parts, device: part}), "does not know")


def test_a_control_edge_that_is_not_cut_but_forgotten():
    graph = Graph()
    with graph.as_default():
        x = sources.placeholder("float32", [4])
        with graph.device("/cpu:0"):
            a = OPS["Neg"](x)
        with graph.device("/cpu:1"), graph.control_dependencies([a]):
            b = OPS["Neg"](x)
    subgraph = prune(graph, [b], [], [x])
    result = partition(subgraph, place(subgraph, local_topology(2)))
    for device, part in result.parts.items():
        kept = [o for o in part.order if o.type == "Neg"]
        result = with_order(result, device, kept)
        bare = replace(result.parts[device], after={})
        result = replace(result, parts={**result.parts, device: bare})
    rejected(result, "may run before")


def test_a_handle_must_not_travel():
    subgraph, _, _ = random_subgraph(3)
    placement = random_placement(subgraph, 0)
    names = [d.name for d in placement.topology.devices]
    devices = {o: names[1] if o.type == "VarHandle" else names[0] for o in subgraph.order}
    with pytest.raises(InternalError, match="resource must not travel"):
        partition(subgraph, replace(placement, devices=devices))

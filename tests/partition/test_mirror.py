"""Variables with copies on workers: all copies are written, and each is read where it is."""

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import graphflow as tf
from graphflow.base.errors import GraphError, InternalError
from graphflow.build import OPS, Graph
from graphflow.partition import partition, verify
from graphflow.place import place, topology_of
from graphflow.rewrite import prune
from tests.partition.graphs import (
    Store,
    random_placement,
    random_subgraph,
    run_parts,
    run_whole,
    with_order,
)

SEED = st.integers(0, 2**32 - 1)
WORKERS = [f"/job:w/task:{i}" for i in range(3)]


@settings(max_examples=150, deadline=None)
@given(SEED, SEED, SEED)
def test_all_copies_have_the_values_of_the_whole(graph, where, timing):
    rng = random.Random(graph)
    subgraph, feeds, state = random_subgraph(graph)
    for operation in subgraph.order:
        if operation.type == "VarHandle":
            operation.graph.set_mirrors(operation, rng.sample(WORKERS, rng.choice((2, 3))))
    placement = random_placement(subgraph, where, processes=True)
    stores = {d.name: Store(state) for d in placement.topology.devices}
    result = partition(subgraph, placement)
    found, _ = run_parts(result, feeds, state, timing, stores)
    wanted, after = run_whole(subgraph, feeds, state)
    for one, other in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(one, other)
    for operation in subgraph.order:
        if operation.type == "VarHandle":
            key = operation.opdef.kernel(np, **operation.attrs)
            homes = {placement[operation]}
            homes |= {f"{n.replace('w/', 'w/replica:0/')}/device:CPU:0"
                      for n in operation.graph.mirrors[key]}  # fmt: skip
            assert homes <= stores.keys()
            for home in homes:
                np.testing.assert_array_equal(stores[home].state[key], after[key])


def trained(graph, mirrored):
    """A step that reads a variable on two workers, and writes it."""
    with graph.as_default():
        with tf.device(WORKERS[0]):
            v = tf.get_variable("v", [3], initializer=tf.zeros_initializer())
            x = tf.placeholder(tf.float32, [3], name="x")
            gradient = tf.negative(x, name="gradient")
        with tf.device(WORKERS[1]):
            y = tf.square(v, name="y")
        with graph.colocate_with(v.handle.op):
            step = v.assign_sub(tf.multiply(gradient, 0.1, name="delta")).op
        if mirrored:
            graph.set_mirrors(v.handle.op, WORKERS[:2])
        topology = topology_of([f"{w}/cpu:0" for w in WORKERS[:2]])
        subgraph = prune(graph, [y], [step], [x])
        return partition(subgraph, place(subgraph, topology))


def test_operands_travel_and_not_values():
    """What is built with the variable is computed where its copies are."""
    assert [t.tensor.op.type for t in trained(Graph(), False).transfers] == ["ReadVariable"]
    found = trained(Graph(), True)
    assert [t.tensor.op.name for t in found.transfers] == ["gradient"]
    away = found.parts["/job:w/replica:0/task:1/device:CPU:0"]
    assert [o.type for o in away.order if o.opdef.writes or o.type == "Mul"] == [
        "Mul", "AssignSubVariable",
    ]  # fmt: skip


def test_what_asks_for_a_device_is_not_repeated_on_others():
    """Though all that it needs is there: the gradients of a replica on constants."""
    with Graph().as_default() as graph:
        with tf.device(WORKERS[0]):
            v = tf.get_variable("v", [3], initializer=tf.zeros_initializer())
            loss = tf.square(v, name="loss")
        half = tf.multiply(loss, 0.5, name="half")  # asks for none, but needs what does
        twice = tf.multiply(v, 2.0, name="twice")
        steps = [v.assign(half).op, v.assign(twice).op]
        graph.set_mirrors(v.handle.op, WORKERS[:2])
        topology = topology_of([f"{w}/cpu:0" for w in WORKERS[:2]])
        subgraph = prune(graph, [], steps, [])
        result = partition(subgraph, place(subgraph, topology))
    away = result.parts["/job:w/replica:0/task:1/device:CPU:0"].order
    assert {o.name.partition("/")[0] for o in away if o.type in ("Square", "Mul")} == {"twice"}


def test_a_copy_that_is_not_written_is_noticed():
    result = trained(Graph(), True)
    for device, part in result.parts.items():
        order = [o for o in part.order if not o.opdef.writes]
        with pytest.raises(InternalError, match=r"'v' is written on .* alone"):
            verify(with_order(result, device, order))


def test_copies_in_one_process_are_one():
    """The devices of a worker share its state."""
    with Graph().as_default() as graph:
        topology = topology_of([f"{WORKERS[0]}/cpu:{i}" for i in range(2)])
        with tf.device(f"{WORKERS[0]}/cpu:0"):
            v = tf.get_variable("v", [3], initializer=tf.zeros_initializer())
            step = v.assign_add([1.0, 2.0, 3.0]).op
        with tf.device(f"{WORKERS[0]}/cpu:1"):
            y = OPS["Neg"](v.value())
        graph.set_mirrors(v.handle.op, [d.name for d in topology.devices])
        subgraph = prune(graph, [y], [step], [])
        result = partition(subgraph, place(subgraph, topology))
    orders = [o.type for part in result.parts.values() for o in part.order]
    assert orders.count("AssignAddVariable") == 1


def test_a_branch_that_writes_one_is_refused():
    with Graph().as_default() as graph:
        with tf.device(WORKERS[0]):
            v = tf.get_variable("v", [], initializer=tf.zeros_initializer())
            flag = tf.placeholder(tf.bool, [])
            y = tf.cond(flag, lambda: v.assign_add(1.0), lambda: v.value())
        graph.set_mirrors(v.handle.op, WORKERS[:2])
        topology = topology_of([f"{w}/cpu:0" for w in WORKERS[:2]])
        subgraph = prune(graph, [y], [], [flag])
        with pytest.raises(GraphError, match=r"writes 'v'.*outside of loops and branches"):
            partition(subgraph, place(subgraph, topology))

"""Random graphs with state and control edges, and a runner that interleaves their parts."""

import random
from dataclasses import replace

import numpy as np

import graphflow.ops.arithmetic
import graphflow.ops.state  # noqa: F401
from graphflow.base import dtypes
from graphflow.build import OPS, Graph
from graphflow.ops import sources
from graphflow.ops.evaluate import PureContext, run
from graphflow.place import Placement, local_topology, topology_of
from graphflow.place.constraints import Requests, groups_of
from graphflow.place.cost import CostModel
from graphflow.rewrite import prune

SHAPE = (2, 3)


class Store(PureContext):
    """A context with variables."""

    def __init__(self, state):
        super().__init__()
        self.state = dict(state)

    def read(self, key):
        return self.state[key]

    def write(self, key, value):
        self.state[key] = value
        return value


def random_subgraph(seed, size=12, variables=2):
    """A pruned random graph, the values to feed and the state before the step."""
    rng = random.Random(seed)
    values = np.random.default_rng(seed)
    graph = Graph()
    with graph.as_default():
        fed = [sources.placeholder("float32", SHAPE) for _ in range(2)]
        handles = [
            OPS["VarHandle"](shared_name=f"v{i}", dims=SHAPE, dtype=dtypes.float32)
            for i in range(variables)
        ]
        tensors = [*fed, sources.constant(values.standard_normal(SHAPE).astype(np.float32))]
        state = {}
        for handle in handles:
            (key,) = run(handle.op, {}, PureContext())
            state[key] = values.standard_normal(SHAPE).astype(np.float32)
            tensors.append(OPS["ReadVariable"](handle))
        for _ in range(size):
            before = [t.op for t in rng.sample(tensors, rng.choice((0, 0, 1, 2)))]
            before = [o for o in before if o not in [t.op for t in fed]]
            with graph.control_dependencies(before):
                tensors.append(_random_op(rng, tensors, handles))
        fetches = [rng.choice(tensors) for _ in range(rng.randint(1, 3))]
        targets = [t.op for t in rng.sample(tensors[len(fed) :], 2)]
    feeds = {t: values.standard_normal(SHAPE).astype(np.float32) for t in fed}
    return prune(graph, fetches, targets, fed), feeds, state


def _random_op(rng, tensors, handles):
    kind = rng.choice(("Add", "Mul", "Sub", "Neg", "Identity", "read", "write", "add"))
    if kind == "read":
        return OPS["ReadVariable"](rng.choice(handles))
    if kind in ("write", "add"):
        name = {"write": "AssignVariable", "add": "AssignAddVariable"}[kind]
        return OPS[name](rng.choice(handles), rng.choice(tensors))
    if kind in ("Neg", "Identity"):
        return OPS[kind](rng.choice(tensors))
    return OPS[kind](rng.choice(tensors), rng.choice(tensors))


def random_placement(subgraph, seed, devices=3, processes=False):
    """Each group on a random device, all in one process or each in its own."""
    rng = random.Random(seed)
    topology = local_topology(devices)
    if processes:
        topology = topology_of([f"/job:w/task:{i}/cpu:0" for i in range(devices)])
    groups = groups_of(subgraph, Requests(topology))
    where = {}
    for group in groups:
        device = rng.choice(group.allowed)
        where.update(dict.fromkeys(group.members, device))
    return Placement(subgraph, topology, where, groups, CostModel(), "at random")


def run_whole(subgraph, feeds, state):
    """Fetched values and the state after the step, on one device."""
    store, values = Store(state), dict(feeds)
    for operation in subgraph.order:
        for tensor, value in zip(operation.outputs, run(operation, values, store), strict=True):
            values.setdefault(tensor, value)
    return [values[t] for t in subgraph.fetches], store.state


def run_parts(partitions, feeds, state, seed, stores=None):
    """The same with the parts interleaved at random; a receive waits for its send.

    Args:
      stores: device -> its own store; None: all share one.
    """
    rng = random.Random(seed)
    store = Store(state)
    rendezvous = {}
    values = {d: {t: feeds[t] for t in p.feeds} for d, p in partitions.parts.items()}
    left = {d: list(reversed(p.order)) for d, p in partitions.parts.items()}
    while any(left.values()):
        able = [d for d, ops in left.items() if ops and _can_run(ops[-1], rendezvous)]
        assert able, "the devices wait for each other"
        device = rng.choice(able)
        mine = store if stores is None else stores[device]
        _run_one(left[device].pop(), values[device], rendezvous, mine)
    return [values[partitions.fetched[t]][t] for t in partitions.subgraph.fetches], store.state


def _can_run(operation, rendezvous):
    return operation.type != "Recv" or operation.attrs["key"] in rendezvous


def _run_one(operation, values, rendezvous, store):
    if operation.type == "Send":
        rendezvous[operation.attrs["key"]] = [values[t] for t in operation.inputs]
    elif operation.type == "Recv":
        received = rendezvous[operation.attrs["key"]]
        values.update(zip(operation.outputs, received, strict=True))
    else:
        for tensor, value in zip(operation.outputs, run(operation, values, store), strict=True):
            values.setdefault(tensor, value)


def with_order(partitions, device, order):
    """The partitions with another order on one device."""
    part = replace(partitions.parts[device], order=tuple(order))
    return replace(partitions, parts={**partitions.parts, device: part})

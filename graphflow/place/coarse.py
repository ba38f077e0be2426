"""The coarse graph: tasks that have no reason to part are one.

Searching a few dozen clusters takes a fraction of what searching thousands of tasks takes, and
moves whole layers, where single tasks would stay in a local optimum.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from graphflow.place.problem import Problem

if TYPE_CHECKING:
    import networkx

CLUSTERS = 48
PASSES = 6


class Coarse(NamedTuple):
    """A smaller problem.

    Attributes:
      problem: its tasks are clusters, in an order in which they may run.
      cluster: task of the fine problem -> its cluster.
    """

    problem: Problem
    cluster: list[int]

    def fine(self, where: Sequence[int]) -> list[int]:
        """The devices of the fine tasks."""
        return [where[c] for c in self.cluster]


def coarsen(problem: Problem, clusters: int = CLUSTERS) -> Coarse:
    """Fuse tasks with their only predecessor, or their only successor, as long as a cluster
    stays below its share of the work.  Neither can close a cycle.
    """
    number = list(range(problem.tasks))
    weight = [min(row) for row in problem.seconds]
    share = 2.0 * sum(weight) / clusters
    edges: list[tuple[int, int]] = [(a, b) for a, b, _ in problem.edges]
    kinds: dict[tuple[int, ...], int] = {}
    kind = [kinds.setdefault(tuple(problem.allowed[g]), len(kinds)) for g in problem.group]
    for turn in range(PASSES):
        merged = _fuse(edges, weight, kind, share, forward=turn % 2 == 0)
        count = len(set(merged))
        if count == len(weight) and turn % 2:
            break
        number, weight, kind, edges = _renumbered(merged, number, weight, kind, edges)
        if count <= clusters:
            break
    return Coarse(_problem(problem, number, len(weight)), number)


def _fuse(
    edges: Sequence[tuple[int, int]],
    weight: Sequence[float],
    kind: Sequence[int],
    share: float,
    forward: bool,
) -> list[int]:
    """Node -> the node it goes into.  Nodes are in topological order."""
    n = len(weight)
    beside: list[list[int]] = [[] for _ in range(n)]
    for a, b in edges:
        beside[b if forward else a].append(a if forward else b)
    into = list(range(n))
    total = list(weight)
    for node in range(n) if forward else range(n - 1, -1, -1):
        others = {into[o] for o in beside[node]}
        if len(others) != 1:
            continue
        other = others.pop()
        if kind[other] == kind[node] and total[other] + weight[node] <= share:
            into[node] = other
            total[other] += weight[node]
    return into


def _renumbered(
    into: Sequence[int],
    number: Sequence[int],
    weight: Sequence[float],
    kind: Sequence[int],
    edges: Sequence[tuple[int, int]],
) -> tuple[list[int], list[float], list[int], list[tuple[int, int]]]:
    """The quotient, in a topological order of its own."""
    between = list(dict.fromkeys([(into[a], into[b]) for a, b in edges if into[a] != into[b]]))
    waits: dict[int, int] = dict.fromkeys(into, 0)
    after: dict[int, list[int]] = {}
    for a, b in between:
        waits[b] += 1
        after.setdefault(a, []).append(b)
    order = [c for c, count in waits.items() if not count]
    for c in order:
        for b in after.get(c, ()):
            waits[b] -= 1
            if not waits[b]:
                order.append(b)
    new = {c: i for i, c in enumerate(order)}
    sums = [0.0] * len(order)
    for node, c in enumerate(into):
        sums[new[c]] += weight[node]
    return (
        [new[into[i]] for i in number],
        sums,
        [kind[c] for c in order],
        [(new[a], new[b]) for a, b in between],
    )


def _problem(fine: Problem, number: Sequence[int], count: int) -> Problem:
    devices = len(fine.topology.devices)
    seconds = [[0.0] * devices for _ in range(count)]
    needs: list[dict[int, None]] = [{} for _ in range(count)]
    values: dict[tuple[int, tuple[int, ...]], int] = {}
    producer: list[int] = []
    sizes: list[float] = []
    resident: dict[int, float] = {}
    for task, row in enumerate(fine.seconds):
        mine = seconds[number[task]]
        for d in range(devices):
            mine[d] += row[d]
    for task, size in fine.resident.items():
        resident[number[task]] = resident.get(number[task], 0.0) + size
    copies = [c._replace(task=number[c.task]) for c in fine.copies]
    for value, task in enumerate(fine.producer):
        home = number[task]
        targets = tuple(sorted({number[u] for u in fine.users[value]} - {home}))
        if not targets:
            continue
        key = home, targets  # values that go the same way are one
        if key not in values:
            values[key] = len(producer)
            producer.append(home)
            sizes.append(0.0)
            for target in targets:
                needs[target][values[key]] = None
        sizes[values[key]] += fine.sizes[value]
    work = [[0.0, 0.0] for _ in range(count if fine.work else 0)]
    for task, (flops, moved) in enumerate(fine.work):
        work[number[task]][0] += flops
        work[number[task]][1] += moved
    group, allowed = _groups(fine, number, count)
    names = [""] * count
    for task in reversed(range(fine.tasks)):
        names[number[task]] = fine.names[task]
    return Problem(
        fine.topology,
        names,
        seconds,
        [list(n) for n in needs],
        producer,
        sizes,
        group,
        allowed,
        resident,
        work=[(flops, moved) for flops, moved in work],
        copies=copies,
    )


def _groups(
    fine: Problem, number: Sequence[int], count: int
) -> tuple[list[int], list[Sequence[int]]]:
    """Clusters that share a colocation group share a device."""
    first: dict[int, int] = {}
    parent = list(range(count))

    def find(c: int) -> int:
        while parent[c] != c:
            parent[c] = parent[parent[c]]
            c = parent[c]
        return c

    places: dict[int, Sequence[int]] = {}
    for task, g in enumerate(fine.group):
        a, b = find(number[task]), find(first.setdefault(g, number[task]))
        parent[max(a, b)] = min(a, b)
        places[number[task]] = fine.allowed[g]
    roots: dict[int, int] = {}
    group = [roots.setdefault(find(c), len(roots)) for c in range(count)]
    allowed: list[Sequence[int]] = [()] * len(roots)
    for c, g in enumerate(group):
        # Fused tasks may go to the same devices; those tied by colocation, too, by now.
        allowed[g] = places[c]
    return group, allowed


def as_networkx(coarse: Coarse) -> networkx.DiGraph:
    """The coarse graph for analysis: nodes with seconds and names, edges with bytes."""
    import networkx

    problem = coarse.problem
    graph = networkx.DiGraph()
    for task, name in enumerate(problem.names):
        seconds = min(problem.seconds[task])
        graph.add_node(task, name=name, seconds=seconds, group=problem.group[task])
    for a, b, size in problem.edges:
        graph.add_edge(a, b, bytes=size)
    return graph

"""Decide on which device each operation of a subgraph runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from graphflow.base.errors import InvalidArgumentError
from graphflow.build.tensor import Operation
from graphflow.place.constraints import Group, Requests, groups_of
from graphflow.place.cost import CostModel
from graphflow.place.devices import Topology
from graphflow.place.heuristics import heft, single_devices, upward_rank
from graphflow.place.hoist import hoist_reads, makers
from graphflow.place.improve import STEPS, improve
from graphflow.place.placement import Placement
from graphflow.place.problem import Problem, is_everywhere, problem_of
from graphflow.place.simulate import Schedule, judge, simulate
from graphflow.rewrite.subgraph import Subgraph

# Seconds that each device after the first adds to a step (25 us measured), and each process
# (an actor call: about 1 ms).
START, CALL = 30e-6, 1e-3


def place(
    subgraph: Subgraph,
    topology: Topology,
    *,
    soft: bool = True,
    default: str | None = None,
    held: Mapping[str, str] | None = None,
    model: CostModel | None = None,
    steps: int = STEPS,
) -> Placement:
    """Give each operation a device: what was asked for, else where the step is fastest.

    The same subgraph, topology and model give the same placement.

    Args:
      subgraph: what is to run.
      topology: the devices.
      soft: a request for a device that is not there, or that has no kernel for the op, is
        loosened (TensorFlow 1's `allow_soft_placement`); otherwise it is an error.
      default: the device of operations without a request; None: choose.
      held: where variables live already: name of the handle's operation -> device.
      model: what operations cost.
      steps: how long to search on from the best heuristic, about 8 us each for ten operations.

    Raises:
      InvalidArgumentError: a request names no device, or requests contradict each other; the
        message tells the lines that made them.
    """
    model = model or CostModel()
    requests = Requests(topology, soft, default)
    if len(topology.devices) == 1:
        return _on_single(subgraph, topology, requests, model)
    subgraph, groups = _grouped(subgraph, requests, held)
    problem = problem_of(subgraph, groups, topology, model)
    name, schedule = search(problem, steps)
    return _placement(subgraph, topology, groups, model, name, schedule)


def _grouped(
    subgraph: Subgraph, requests: Requests, held: Mapping[str, str] | None
) -> tuple[Subgraph, list[Group]]:
    """The groups; where they contradict each other, with reads moved out of control flow."""
    try:
        return subgraph, groups_of(subgraph, requests, held)
    except InvalidArgumentError:
        loose = hoist_reads(subgraph)
        if loose is subgraph:
            raise
    return loose, groups_of(loose, requests, held)


def _on_single(
    subgraph: Subgraph, topology: Topology, requests: Requests, model: CostModel
) -> Placement:
    """Everything on the only device, once the distinct requests are checked: O(n)."""
    device = topology.devices[0]
    asked: dict[str, Operation] = {}
    for operation in subgraph.order:
        asked.setdefault(operation.device, operation)
    for operation in asked.values():
        requests.limit(operation)
    devices = dict.fromkeys(subgraph.order, device.name)
    return Placement(subgraph, topology, devices, None, model, "the only device")


def search(problem: Problem, steps: int = STEPS) -> tuple[str, Schedule]:
    """The best of all candidates by the simulator; the first one where several are equal."""
    rank = upward_rank(problem)
    if all(len(allowed) == 1 for allowed in problem.allowed):
        where = [problem.allowed[g][0] for g in problem.group]
        return "as requested", simulate(problem, where, rank)
    candidates: list[tuple[str, list[int]]] = [*single_devices(problem)]
    candidates.append(("HEFT", heft(problem, rank)))
    judged = [(name, simulate(problem, where, rank)) for name, where in candidates]
    name, best = min(judged, key=lambda pair: judge(pair[1]))
    better = improve(problem, best, steps)
    judged.append((name if better is best else f"{name}, annealed", better))
    return min(judged, key=lambda pair: _with_starts(pair[1]))


def _with_starts(schedule: Schedule) -> tuple[float, float]:
    """What `judge` says, with the time that starting the parts takes."""
    overflow, makespan = judge(schedule)
    problem = schedule.problem
    used = {d for t, d in enumerate(schedule.where) if problem.seconds[t][d]}
    processes = {problem.topology.devices[d].process for d in used}
    more = START * max(0, len(used) - 1) + CALL * max(0, len(processes) - 1)
    return overflow, makespan + more


def _placement(
    subgraph: Subgraph,
    topology: Topology,
    groups: Sequence[Group],
    model: CostModel,
    algorithm: str,
    schedule: Schedule,
) -> Placement:
    names = [d.name for d in topology.devices]
    order = subgraph.order
    where = _beside_users(subgraph, groups, topology, schedule.where)
    devices = {o: names[d] for o, d in zip(order, where, strict=True)}
    planned = [order[i] for i in schedule.order]
    planned.sort(key=lambda o: not is_everywhere(o, subgraph))  # stable: constants come first
    placement = Placement(subgraph, topology, devices, groups, model, algorithm, tuple(planned))
    placement.__dict__["schedule"] = replace(schedule, where=where)
    return placement


def _beside_users(
    subgraph: Subgraph, groups: Sequence[Group], topology: Topology, where: Sequence[int]
) -> list[int]:
    """The devices with constants moved to their first users, as nothing else places them."""
    index = {o: i for i, o in enumerate(subgraph.order)}
    fixed = {o for g in groups for o in g.members if len(g.members) > 1 or g.reasons}
    result = list(where)
    moved = set()
    maker = makers(subgraph)
    for operation in subgraph.order:
        for tensor in operation.inputs:
            constant = maker.get(tensor)
            if constant is None or constant in moved or constant in fixed:
                continue
            if is_everywhere(constant, subgraph):
                result[index[constant]] = result[index[operation]]
                moved.add(constant)
    return result

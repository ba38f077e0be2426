"""Decide on which device each operation of a subgraph runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from graphflow.base.errors import InvalidArgumentError
from graphflow.build.tensor import Operation
from graphflow.place.candidates import (
    ETF_TASKS,
    SCT_TASKS,
    by_vote,
    etf,
    m_sct,
    replicas,
    stages,
)
from graphflow.place.climb import climb
from graphflow.place.coarse import coarsen
from graphflow.place.constraints import Group, Requests, groups_of
from graphflow.place.cost import CostModel
from graphflow.place.devices import Topology
from graphflow.place.exact import GAP, GROUPS, NODES, solve
from graphflow.place.found import Found
from graphflow.place.heuristics import heft, single_devices, upward_rank
from graphflow.place.hoist import hoist_reads, makers
from graphflow.place.improve import RUNS, SHORT, STEPS, improve
from graphflow.place.memory import check_memory
from graphflow.place.placement import Placement
from graphflow.place.problem import Problem, is_everywhere, problem_of
from graphflow.place.profile import GAIN
from graphflow.place.simulate import Schedule, judge, simulate
from graphflow.place.unroll import asks_inside, unroll
from graphflow.rewrite.subgraph import Subgraph

WORTH_A_PROGRAM = 1e-3  # seconds gained per step, from which on HiGHS is worth its start
COARSE_FROM, COARSE_TO = 60, 3000  # tasks
EXACT_TASKS = 28
NODE_SECONDS = 10e-3  # of the mixed-integer program
BOTH_ORDERS = 4000  # tasks, up to which each candidate is tried in two orders
STARTS = 3  # of the search on the coarse graph


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
      soft: a request for a device that is not there, or that has no kernel for the op, or is for
        another one of the task than what the op must be with asks for, is loosened (TensorFlow 1's
        `allow_soft_placement`); otherwise it is an error.
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
    whole = _on_several(subgraph, topology, requests, held, model, steps)
    apart = unroll(subgraph)
    if apart is subgraph:
        return whole
    try:
        other = _on_several(apart, topology, requests, held, model, steps)
    except InvalidArgumentError:  # requests inside of a loop that whole ones do not heed
        return whole
    better = other.predicted < (1 - GAIN) * whole.predicted
    return other if better or asks_inside(subgraph) else whole


def _on_several(
    subgraph: Subgraph,
    topology: Topology,
    requests: Requests,
    held: Mapping[str, str] | None,
    model: CostModel,
    steps: int,
) -> Placement:
    subgraph, groups = _grouped(subgraph, requests, held)
    problem = problem_of(subgraph, groups, topology, model)
    check_memory(problem, groups, subgraph.order)
    name, schedule = _found(problem, steps)
    return _placement(subgraph, topology, groups, model, name, schedule)


def _grouped(
    subgraph: Subgraph, requests: Requests, held: Mapping[str, str] | None
) -> tuple[Subgraph, list[Group]]:
    """The groups; where they contradict each other, with reads moved out of control flow, and
    where they still do, with requests that give way, if these may."""
    try:
        return subgraph, groups_of(subgraph, requests, held)
    except InvalidArgumentError:
        apart = hoist_reads(subgraph)
        if apart is subgraph and not requests.soft:
            raise
    return apart, groups_of(apart, requests, held, loosen=requests.soft)


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


def search(problem: Problem, steps: int = STEPS, exact: bool = True) -> tuple[str, Schedule]:
    """The best of all candidates by the simulator; the first one where several are equal.

    Args:
      problem: the tasks and devices.
      steps: of the search that goes on from the best.
      exact: solve up to `exact.GROUPS` groups to the proven optimum, where the search leaves
        something to gain.
    """
    rank = upward_rank(problem)
    if all(len(allowed) == 1 for allowed in problem.allowed):
        where = [problem.allowed[g][0] for g in problem.group]
        return "as requested", ordered(problem, where, rank)
    judged = [(n, simulate(problem, where, rank)) for n, where in single_devices(problem)]
    judged += _proposed(problem, rank, min(judged, key=_by_judge)[1])
    if _worth(problem, judged, SHORT) and COARSE_FROM < problem.tasks <= COARSE_TO:
        starts = sorted(judged, key=_by_judge)[:STARTS]
        judged += _coarse(problem, rank, starts)
        climbed = climb(problem, starts[0][1], lambda where: ordered(problem, where, rank))
        if climbed is not None:
            judged.append(("layers", climbed))
    name, best = min(judged, key=_by_judge)
    better = improve(problem, best, steps)
    if better is not best:
        judged.append((f"{name}, annealed", better))
    if exact and (found := _proven(problem, better)) is not None:
        judged.insert(0, found)  # of equals, the one that is proven
    return min(judged, key=lambda pair: _with_starts(pair[1]))


_found = Found(search)


def ordered(problem: Problem, where: Sequence[int], rank: Sequence[float]) -> Schedule:
    """The better one of two orders: the longest way to the end first, or the oldest first.

    The first one suits branches that meet; the second one microbatches, of which the first one
    is to leave a stage before the last one is begun.
    """
    oldest = [-float(t) for t in range(problem.tasks)]
    return min([simulate(problem, where, r) for r in (rank, oldest)], key=judge)


def _by_judge(pair: tuple[str, Schedule]) -> tuple[float, float]:
    return judge(pair[1])


def _worth(problem: Problem, judged: Sequence[tuple[str, Schedule]], seconds: float) -> bool:
    """Can a step still be that much shorter?"""
    return min([s.makespan for _, s in judged]) - problem.lower_bound() > seconds


def _proposed(problem: Problem, rank: list[float], single: Schedule) -> list[tuple[str, Schedule]]:
    """What the heuristics propose; the dear ones only where there is something to gain."""
    judged = [("HEFT", ordered(problem, heft(problem, rank), rank))]
    judged.append(("", single))
    found = []
    if _worth(problem, judged, SHORT):
        found.append(("data-parallel template", replicas(problem)))
        found.append(("pipeline by dynamic programming", stages(problem, rank)))
        if problem.tasks <= ETF_TASKS:
            found.append(("ETF", etf(problem, rank)))
    if _worth(problem, judged, WORTH_A_PROGRAM) and problem.tasks <= SCT_TASKS:
        found.append(("m-SCT", m_sct(problem, rank)))
    one_order = problem.tasks > BOTH_ORDERS
    judged += [
        (name, (simulate if one_order else ordered)(problem, where, rank)) for name, where in found
    ]
    return [(name, schedule) for name, schedule in judged if name]


def _coarse(
    problem: Problem, rank: list[float], starts: Sequence[tuple[str, Schedule]]
) -> list[tuple[str, Schedule]]:
    """The best found on the coarse graph, from several starts."""
    coarse = coarsen(problem)
    small = coarse.problem
    found = []
    for name, start in starts:
        votes = by_vote(small, _majority(coarse.cluster, start, small))
        begin = ordered(small, votes, upward_rank(small))
        better = improve(small, begin, STEPS // len(starts))
        where = coarse.fine(better.where)
        position = [0.0] * small.tasks
        for i, cluster in enumerate(better.order):
            position[cluster] = -float(i)
        planned = simulate(problem, where, [position[c] for c in coarse.cluster])
        best = min([ordered(problem, where, rank), planned], key=judge)
        found.append((f"{name}, annealed on the coarse graph", best))
    return found


def _majority(cluster: Sequence[int], schedule: Schedule, small: Problem) -> list[int]:
    """Cluster -> the device where most of its seconds are."""
    n = len(small.topology.devices)
    votes = [[0.0] * n for _ in range(small.tasks)]
    for task, c in enumerate(cluster):
        votes[c][schedule.where[task]] += schedule.end[task] - schedule.start[task]
    return [row.index(max(row)) for row in votes]


def _proven(problem: Problem, best: Schedule) -> tuple[str, Schedule] | None:
    """What mixed-integer programming finds, where it is worth its seconds."""
    movable = sum([len(allowed) > 1 for allowed in problem.allowed])
    gap = best.makespan - problem.lower_bound()
    if movable > GROUPS or problem.tasks > EXACT_TASKS:
        return None
    if gap < max(WORTH_A_PROGRAM, GAP * best.makespan) and not best.overflow:
        return None
    nodes = NODES if best.overflow else min(NODES, int(gap * RUNS / NODE_SECONDS))
    proof = solve(problem, best, nodes)
    schedule = proof.schedule
    if schedule is None or judge(schedule) >= judge(best):
        schedule = best
    tight = proof.proven and schedule.makespan <= proof.bound * (1 + 2 * GAP)
    return ("proven optimal" if tight else "mixed-integer program"), schedule


def _with_starts(schedule: Schedule) -> tuple[float, float]:
    """What `judge` says, with the time that starting the parts takes."""
    return schedule.overflow, schedule.makespan + schedule.starting


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

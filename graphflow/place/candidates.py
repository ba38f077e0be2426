"""More heuristics: earliest task first, m-SCT, replicas, pipelines.

Each proposes devices for all tasks; the simulator judges.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

from graphflow.place.heuristics import Room
from graphflow.place.problem import Problem

ETF_TASKS = 400  # larger graphs would take seconds, as every step looks at all ready tasks
SCT_TASKS = 150
LEAD = 0.1  # from the paper: x below it makes a favourite child
STAGE_CUTS = 200  # cuts that the pipeline's dynamic program considers


def etf(problem: Problem, rank: Sequence[float], favourite: Sequence[int] = ()) -> list[int]:
    """Of all ready tasks and devices, take the pair that can start first (earliest task first).

    Args:
      problem: the tasks.
      rank: breaks ties.
      favourite: task -> the task that is to follow on its device, or -1; with it this is m-ETF
        as m-SCT uses it: a device waits for the favourite child of what it ran last.

    Sources: Hwang, Chow, Anger and Lee, "Scheduling precedence graphs in systems with
    interprocessor communication times", 1989; Jeon et al., "Baechi", 2020.
    """
    n = len(problem.topology.devices)
    free = [0.0] * n
    last = [-1] * n
    bound = {g: a[0] for g, a in enumerate(problem.allowed) if len(a) == 1}
    room = Room(problem)
    for g, device in bound.items():
        room.take(g, device)
    waits = [len({problem.producer[v] for v in values}) for values in problem.needs]
    after = problem.after
    where, finish = [0] * problem.tasks, [0.0] * problem.tasks
    ready = [t for t in range(problem.tasks) if not waits[t]]
    data: dict[tuple[int, int], float] = {}
    while ready:
        best: tuple[float, float, int, int] | None = None
        for task in ready:
            group = problem.group[task]
            for device in [bound[group]] if group in bound else room.choices(group):
                if (task, device) not in data:
                    data[task, device] = _data_ready(problem, task, device, where, finish)
                start = max(free[device], data[task, device])
                if favourite and last[device] >= 0:
                    child = favourite[last[device]]
                    if child >= 0 and child != task and waits[child] == 0 and child in ready:
                        start += problem.seconds[child][device]
                key = start, -rank[task], task, device
                if best is None or key < best:
                    best = key
        assert best is not None
        _, _, task, device = best
        group = problem.group[task]
        if group not in bound:
            bound[group] = device
            room.take(group, device)
        where[task] = device
        start = max(free[device], data[task, device])
        finish[task] = free[device] = start + problem.seconds[task][device]
        last[device] = task
        ready.remove(task)
        for user in after[task]:
            waits[user] -= 1
            if not waits[user]:
                ready.append(user)
    return where


def _data_ready(
    problem: Problem, task: int, device: int, where: Sequence[int], finish: Sequence[float]
) -> float:
    ready = 0.0
    for value in problem.needs[task]:
        producer = problem.producer[value]
        source = where[producer]
        travel = 0.0
        if source != device:
            travel = problem.alpha[source][device]
            travel += problem.sizes[value] * problem.per_byte[source][device]
        ready = max(ready, finish[producer] + travel)
    return ready


def m_sct(problem: Problem, rank: Sequence[float]) -> list[int]:
    """ETF with favourite children, which a linear program finds (small communication time).

    The program says for each edge whether its ends may be on one device: of a task's children,
    and of its parents, one at most travels for free.  HiGHS solves it.

    Source: Jeon et al., "Baechi: fast device placement of machine learning graphs", 2020, after
    Hanen and Munier, "An approximation algorithm for scheduling dependent tasks on m processors
    with small communication delays", 1995.
    """
    return etf(problem, rank, favourites(problem))


def favourites(problem: Problem) -> list[int]:
    """Task -> its favourite child, or -1."""
    from scipy.optimize import linprog
    from scipy.sparse import csr_matrix

    edges = problem.edges
    n, m = problem.tasks, len(edges)
    if not m:
        return [-1] * n
    mean = [sum(row) / len(row) for row in problem.seconds]
    pairs = max(1, len(problem.alpha) * (len(problem.alpha) - 1))
    alpha = sum(map(sum, problem.alpha)) / pairs
    per_byte = sum(map(sum, problem.per_byte)) / pairs
    # Variables: x of each edge (0: favourite), the start of each task, the end of all.
    rows: list[dict[int, float]] = []
    most: list[float] = []
    for k, (i, j, size) in enumerate(edges):
        travel = alpha + size * per_byte
        rows.append({m + i: 1.0, m + j: -1.0, k: travel})
        most.append(-mean[i])
    for i in range(n):
        rows.append({m + i: 1.0, m + n: -1.0})
        most.append(-mean[i])
    for side in (0, 1):
        at: dict[int, list[int]] = {}
        for k, edge in enumerate(edges):
            at.setdefault(int(edge[side]), []).append(k)
        for ks in at.values():
            rows.append(dict.fromkeys(ks, -1.0))
            most.append(1.0 - len(ks))
    place = [(r, c, v) for r, row in enumerate(rows) for c, v in row.items()]
    matrix = csr_matrix(
        ([v for _, _, v in place], ([r for r, _, _ in place], [c for _, c, _ in place])),
        shape=(len(rows), m + n + 1),
    )
    goal = [0.0] * (m + n) + [1.0]
    bounds = [(0, 1)] * m + [(0, None)] * (n + 1)
    found = linprog(goal, A_ub=matrix, b_ub=most, bounds=bounds, method="highs")
    favourite = [-1] * n
    if found.x is not None:
        for k, (i, j, _) in enumerate(edges):
            if found.x[k] < LEAD:
                favourite[int(i)] = int(j)
    return favourite


def replicas(problem: Problem) -> list[int]:
    """The data-parallel template: what hangs together only by parameters and by what is
    gathered at the end goes to one device, the largest part first to the least loaded.

    Parameters, what reads them, and tasks that gather several parts bind nothing; they go where
    most of their neighbours are.
    """
    n = len(problem.topology.devices)
    parent = list(range(problem.tasks))

    def find(task: int) -> int:
        while parent[task] != task:
            parent[task] = parent[parent[task]]
            task = parent[task]
        return task

    loose = _parameters(problem)
    late: set[int] = set()
    for task, values in enumerate(problem.needs):
        makers = [problem.producer[v] for v in values]
        roots = {find(p) for p in makers if p not in loose and p not in late}
        if task in loose:
            continue
        if (len(roots) > 1 and _sizeable(problem, roots, task)) or any(p in late for p in makers):
            late.add(task)
            continue
        for root in roots:
            parent[find(task)] = root
    weight: dict[int, float] = {}
    for task in range(problem.tasks):
        if task not in loose and task not in late:
            root = find(task)
            weight[root] = weight.get(root, 0.0) + min(problem.seconds[task])
    load = [0.0] * n
    home: dict[int, int] = {}
    for root in sorted(weight, key=lambda r: (-weight[r], r)):
        speeds = [problem.seconds[root][d] for d in range(n)]
        device = min(range(n), key=lambda d: (load[d] + weight[root], speeds[d], d))
        home[root] = device
        load[device] += weight[root]
    wanted = [-1 if t in loose or t in late else home[find(t)] for t in range(problem.tasks)]
    return by_vote(problem, wanted)


def _sizeable(problem: Problem, roots: set[int], task: int) -> bool:
    """Do parts meet here that have done something?  The simplest sign: they have no inputs in
    common, as they are found so far."""
    return all(root != task for root in roots)


def _parameters(problem: Problem) -> set[int]:
    """Variables, and what takes nothing but their handles and values."""
    found = set(problem.resident)
    for task, values in enumerate(problem.needs):
        if values and all(
            v in problem.views or problem.producer[v] in problem.resident for v in values
        ):
            found.add(task)
    return found


def by_vote(problem: Problem, wanted: Sequence[int]) -> list[int]:
    """Devices for all tasks from wishes of some (-1: none): each group goes where most of its
    seconds want, of the allowed ones; a group without wishes, to its neighbours."""
    n = len(problem.topology.devices)
    votes = [[0.0] * n for _ in problem.allowed]
    for task, device in enumerate(wanted):
        if device >= 0:
            votes[problem.group[task]][device] += problem.seconds[task][device] + 1e-12
    chosen = [-1] * len(problem.allowed)
    for g, allowed in enumerate(problem.allowed):
        if len(allowed) == 1:
            chosen[g] = allowed[0]
        elif any(votes[g][d] for d in allowed):
            chosen[g] = max(allowed, key=lambda d: (votes[g][d], -d))
    for direction in (1, -1, 1):
        for task in range(problem.tasks)[::direction]:
            g = problem.group[task]
            if chosen[g] >= 0:
                continue
            beside = problem.after[task] if direction == -1 else problem.before[task]
            near = [chosen[problem.group[t]] for t in beside]
            near = [d for d in near if d in problem.allowed[g]]
            if near:
                chosen[g] = max(near, key=lambda d: (near.count(d), -d))
    return [chosen[g] if chosen[g] >= 0 else problem.allowed[g][0] for g in problem.group]


def stages(problem: Problem, rank: Sequence[float]) -> list[int]:
    """A pipeline: contiguous stages, the slowest as fast as can be, by dynamic programming.

    Tasks are laid out by the last parameter that they depend on, since that is what a layer is
    (a recurrent layer stays together over time), then in topological order.  A stage costs its
    work, and what it receives from earlier ones.  There is no data parallelism inside a stage.

    Source: Narayanan et al., "PipeDream: generalized pipeline parallelism for DNN training",
    2019, section 3.1; Alpa (Zheng et al., 2022) has the same program over its stages.
    """
    n = len(problem.topology.devices)
    key = layers(problem)
    order = sorted(range(problem.tasks), key=lambda t: (key[t], t))
    work = [min(problem.seconds[t]) for t in order]
    total = list(accumulate(work, initial=0.0))
    starts = [i for i in range(1, len(order)) if key[order[i]] != key[order[i - 1]]]
    if len(starts) < n - 1:
        starts = list(range(1, len(order)))
    step = max(1, -(-len(starts) // STAGE_CUTS))
    cuts = [0, *starts[step - 1 :: step], len(order)]
    alpha, per_byte = max(map(max, problem.alpha)), max(map(max, problem.per_byte))
    position = {t: i for i, t in enumerate(order)}
    across = [0.0] * (len(order) + 1)  # bytes that pass each position, as differences first
    for value, task in enumerate(problem.producer):
        ends = [position[u] for u in problem.users[value]]
        if ends and max(ends) > position[task]:
            across[position[task] + 1] += problem.sizes[value]
            across[max(ends) + 1 if max(ends) + 1 <= len(order) else len(order)] -= problem.sizes[
                value
            ]
    across = list(accumulate(across))
    count = len(cuts)
    infinite = float("inf")
    best = [[infinite] * count for _ in range(n + 1)]
    came = [[0] * count for _ in range(n + 1)]
    best[0][0] = 0.0
    for stage in range(1, n + 1):
        for j in range(1, count):
            for i in range(j):
                if best[stage - 1][i] == infinite:
                    continue
                receive = alpha + across[cuts[i]] * per_byte if i else 0.0
                cost = max(best[stage - 1][i], total[cuts[j]] - total[cuts[i]], receive)
                if cost < best[stage][j]:
                    best[stage][j], came[stage][j] = cost, i
    used = min(range(1, n + 1), key=lambda k: best[k][-1])
    wanted = [0] * problem.tasks
    end = count - 1
    for stage in range(used, 0, -1):
        begin = came[stage][end]
        for i in range(cuts[begin], cuts[end]):
            wanted[order[i]] = stage - 1
        end = begin
    return by_vote(problem, [-1 if key[t] < 0 else d for t, d in enumerate(wanted)])


def layers(problem: Problem) -> list[int]:
    """Task -> number of the last parameter that it depends on, counted by first use; -1 for
    parameters themselves."""
    loose = _parameters(problem)
    number: dict[int, int] = {}
    layer = [-1 if t in loose else 0 for t in range(problem.tasks)]
    for task, values in enumerate(problem.needs):
        if task in loose:
            continue
        deepest = 0
        for value in values:
            producer = problem.producer[value]
            if producer in loose:
                deepest = max(deepest, number.setdefault(problem.group[producer], len(number) + 1))
            else:
                deepest = max(deepest, layer[producer])
        layer[task] = deepest
    _pull(problem, loose, layer)
    return layer


def _pull(problem: Problem, loose: set[int], layer: list[int]) -> None:
    """What only later layers use, and takes less to reach them by its inputs than by its
    outputs, belongs to the first of them."""
    for task in reversed(range(problem.tasks)):
        values = problem.needs[task]
        if task in loose or any(problem.producer[v] in loose for v in values):
            continue
        users = [layer[u] for v in problem.makes[task] for u in problem.users[v]]
        if not users or (first := min(users)) <= layer[task]:
            continue
        comes = sum([problem.sizes[v] for v in values])
        if comes <= sum([problem.sizes[v] for v in problem.makes[task]]):
            layer[task] = first

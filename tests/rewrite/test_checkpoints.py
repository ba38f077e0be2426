"""Checkpoints of chains, against the optimum by mixed-integer programming (Checkmate's model)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
from scipy import optimize, sparse

from graphflow.rewrite.checkpoints import Event, schedule


def held(sizes: Sequence[int], events: Sequence[Event]) -> int:
    """Units at the worst moment, where each value is dropped behind its last use."""
    last: dict[tuple[int, int], int] = {}  # (stage, copy) -> position of its last use
    copy: dict[int, int] = {}
    made: dict[tuple[int, int], int] = {}
    for at, (kind, stage) in enumerate(events):
        used = [stage - 1] if kind == "forward" else [stage - 1, stage]
        for each in used:
            if each:
                assert each in copy, "a value is used before it is computed"
                last[each, copy[each]] = at
        if kind == "forward":
            copy[stage] = copy.get(stage, 0) + 1
            made[stage, copy[stage]] = last[stage, copy[stage]] = at
    return max(
        sum(sizes[stage - 1] for (stage, c), first in made.items() if first <= at <= last[stage, c])
        for at in range(len(events))
    )


def optimum(sizes: Sequence[int], costs: Sequence[float], limit: int) -> float:
    """The least cost of all schedules: Jain et al., "Checkmate", 2020, for a chain.

    In stage t, for backward step n + 1 - t, some values are computed (r), in order; some were kept
    from the stage before (s).  Between computing a_(i-1) and a_i what was kept, and what was
    computed and is used or kept, is held.
    """
    n = len(sizes)
    count = 3 * n * n
    r = np.arange(n * n).reshape(n, n)
    s = r + n * n
    f = r + 2 * n * n  # a_i is computed in the stage or kept, but dropped when a_(i+1) is computed
    rows: list[dict[int, float]] = []
    low: list[float] = []
    high: list[float] = []

    def add(row: dict[int, float], least: float, most: float) -> None:
        rows.append(row)
        low.append(least)
        high.append(most)

    for t in range(n):
        step = n - 1 - t  # index of a_i of this backward step; it needs the one before, too
        for i in range(n):
            there = {r[t, i]: 1.0, s[t, i]: 1.0}
            if t == 0:
                add({s[t, i]: 1.0}, 0, 0)
            else:  # kept only if it was there
                add({s[t, i]: -1.0, r[t - 1, i]: 1.0, s[t - 1, i]: 1.0}, 0, math.inf)
            if i:
                add({r[t, i]: -1.0, r[t, i - 1]: 1.0, s[t, i - 1]: 1.0}, 0, math.inf)
            if i in (step, step - 1):
                add(there, 1, math.inf)
                add({f[t, i]: 1.0}, 0, 0)
            elif t + 1 < n:  # dropped only if the next stage does not keep it
                add({f[t, i]: 1.0, s[t + 1, i]: 1.0}, -math.inf, 1)
            add({f[t, i]: -1.0, **there}, 0, math.inf)
        for i in range(n):  # while a_i is computed, or nothing where it is not
            row: dict[int, float] = {}
            for j in range(n):
                if j <= i:
                    row[r[t, j]] = row.get(r[t, j], 0) + sizes[j]
                row[s[t, j]] = row.get(s[t, j], 0) + sizes[j]
                if j < i - 1:
                    row[f[t, j]] = row.get(f[t, j], 0) - sizes[j]
            add(row, -math.inf, limit)
        end: dict[int, float] = {}
        for j in range(n):
            end |= {r[t, j]: sizes[j], s[t, j]: sizes[j], f[t, j]: -sizes[j]}
        add(end, -math.inf, limit)
        for i in range(n):
            add({r[t, i]: 1.0, s[t, i]: 1.0}, 0, 1)
    matrix = sparse.lil_matrix((len(rows), count))
    for k, row in enumerate(rows):
        for column, value in row.items():
            matrix[k, column] = value
    objective = np.zeros(count)
    objective[r] = np.asarray(costs)[None, :]
    found = optimize.milp(
        objective,
        constraints=optimize.LinearConstraint(matrix.tocsr(), low, high),
        integrality=np.ones(count),
        bounds=optimize.Bounds(0, 1),
    )
    return math.inf if found.x is None else float(found.fun)


def chains() -> list[tuple[list[int], list[float]]]:
    rng = np.random.default_rng(0)
    uneven = [
        (rng.integers(1, 5, n).tolist(), rng.integers(1, 6, n).astype(float).tolist())
        for n in (3, 4, 5, 6, 6)
    ]
    return [([1] * 6, [1.0] * 6), ([2] * 4, [1.0, 3.0, 1.0, 2.0]), *uneven]


@pytest.mark.parametrize("chain", chains(), ids=str)
def test_schedules_keep_the_limit_and_are_optimal(chain: tuple[list[int], list[float]]) -> None:
    sizes, costs = chain
    solved = exact = 0
    for limit in range(1, sum(sizes) + 1):
        found = schedule(sizes, costs, limit)
        least = optimum(sizes, costs, limit)
        if found is None:
            assert math.isinf(least), limit
            continue
        solved += 1
        exact += found.cost == pytest.approx(least)
        # Where costs differ it may pay to drop a value sooner, which no persistent schedule does.
        assert least - 1e-6 <= found.cost <= 1.06 * least, limit
        assert held(sizes, found.events) <= limit
        forward = [e.stage for e in found.events if e.kind == "forward"]
        assert sum(costs[i - 1] for i in forward) == found.cost
        assert [e.stage for e in found.events if e.kind == "backward"] == [
            *range(len(sizes), 0, -1)
        ]
    assert solved > 1
    assert exact == solved or (exact >= solved - 1 and len(set(costs)) > 1)


def test_everything_is_kept_where_it_fits() -> None:
    found = schedule([3, 1, 2], [1.0, 1.0, 1.0], 6)
    assert found is not None
    assert found.cost == 3.0
    assert [e.kind for e in found.events] == ["forward"] * 3 + ["backward"] * 3


def test_long_chains_take_the_square_root_of_the_memory() -> None:
    found = schedule([1] * 24, [1.0] * 24, 8)
    assert found is not None
    assert held([1] * 24, found.events) <= 8
    assert found.cost <= 2.2 * 24

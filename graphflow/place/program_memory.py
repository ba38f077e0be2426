"""Live memory in the mixed-integer program, bounded from below.

What stays on a device, what each task holds, and what waits on its device for a later one must
fit together, and where that is not enough, what is on its way.

Source: Jeon et al., "Baechi: fast device placement of machine learning graphs", 2020, for
constraints on memory.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

from graphflow.place.program import Program, Term

Row = tuple[float, list[Term]]  # most, terms


def fit_into_memory(program: Program, flights: bool) -> None:
    """Add the rows.

    Args:
      flights: mind what is on its way, too, with more variables.
    """
    problem = program.problem
    for d, device in enumerate(problem.topology.devices):
        stays = _stays(program, d)
        made = [(problem.producer[v], problem.sizes[v]) for v in problem.kept - problem.views]
        program.row(1.0, *stays, *_terms(program, made, d))  # at the end
        for task in range(problem.tasks):
            x = program.at(task, d)
            if x is None:
                continue
            # Views take memory if received; they are left out here.
            held = {*problem.makes[task], *problem.needs[task]} - problem.views
            size = sum([problem.sizes[v] for v in held]) / device.memory
            there = [*stays, (x, size)]
            if not problem.roomy and problem.seconds[task][d]:
                there += _living(program, task, d, held)
            program.row(1.0, *there)
            if flights:  # what leaves is there at the task's start, what comes at its end
                program.row(1.0, *there, *_leaving(program, task, d, held))
                program.row(1.0, *there, *_coming(program, task, d, held))


def _stays(program: Program, d: int) -> list[Term]:
    """What variables, and copies of these, take on a device, as shares of its memory."""
    problem, memory = program.problem, program.problem.topology.devices[d].memory
    return [
        (x, taken[d] / memory)
        for group in problem.heavy
        for home, x in program.home[group].items()
        if d in (taken := problem.stays(group, home))
    ]


def _terms(program: Program, sizes: Iterable[tuple[int, float]], d: int) -> list[Term]:
    """What tasks leave on a device, as shares of its memory."""
    memory = program.problem.topology.devices[d].memory
    return [(x, size / memory) for t, size in sizes if (x := program.at(t, d)) is not None]


def _others(program: Program, held: set[int]) -> list[int]:
    """Values that may be in memory beside what a task holds."""
    problem = program.problem
    every = range(len(problem.sizes))
    return [v for v in every if problem.sizes[v] and v not in held | problem.views]


def _alive(program: Program, value: int, d: int, rows: list[Row]) -> list[Term]:
    """The value's share of memory, where the slack of one of the rows is 1."""
    if not rows:
        return []
    alive = program.variable(1.0)
    for most, terms in rows:
        program.row(most, *terms, (alive, -1.0))
    return [(alive, program.problem.sizes[value] / program.problem.topology.devices[d].memory)]


def _living(program: Program, task: int, d: int, held: set[int]) -> list[Term]:
    """Values that are in memory while the task runs on the device, though it does not use
    them: they were made or used there before, and are used there afterwards, or fetched."""
    problem = program.problem
    found: list[Term] = []
    for value in _others(program, held):
        maker, users = problem.producer[value], problem.users[value]
        rows = [_between(program, a, task, b, d) for a in (maker, *users) for b in users if a != b]
        if value in problem.kept:
            rows.append(_between(program, maker, task, None, d))
        found += _alive(program, value, d, [row for row in rows if row is not None])
    return found


def _leaving(program: Program, task: int, d: int, held: set[int]) -> list[Term]:
    """Values made before the task that have not arrived elsewhere when it starts."""
    found: list[Term] = []
    for value in _others(program, held):
        row = _between(program, program.problem.producer[value], task, None, d)
        if row is None:
            continue
        rows = []
        for e, sent in program.sent[value].items():
            if e != d:
                gone = program.variable(1.0, True)
                arrive, start = program.arrive[value][e], program.start[task]
                program.row(1.0, (arrive, 1.0), (start, -1.0), (gone, 1.0))
                rows.append((row[0] + 1.0, [*row[1], (sent, 1.0), (gone, -1.0)]))
        found += _alive(program, value, d, rows)
    return found


def _coming(program: Program, task: int, d: int, held: set[int]) -> list[Term]:
    """Values that are used after the task, and are on their way when it ends."""
    problem = program.problem
    found: list[Term] = []
    for value in _others(program, held):
        sent = program.sent[value].get(d)
        users = [_between(program, None, task, b, d) for b in problem.users[value]]
        rows = [row for row in users if row is not None]
        if sent is None or not rows:
            continue
        begun = program.variable(1.0, True)
        leave = program.leave[value][d]
        ends = (program.start[task], 1.0), *program.length(task)
        program.row(0.0, *ends, (leave, -1.0), (begun, -1.0))
        rows = [(most + 2.0, [*terms, (sent, 1.0), (begun, 1.0)]) for most, terms in rows]
        found += _alive(program, value, d, rows)
    return found


def _between(program: Program, a: int | None, task: int, b: int | None, d: int) -> Row | None:
    """A row whose slack is 1 at most, and 1 where all of them are on the device in this
    order; None: they never are.  Of the ends, one may be left out."""
    ends = [t for t in (a, task, b) if t is not None]
    homes = [(x, 1.0) for t in ends if (x := program.at(t, d)) is not None]
    orders = [program.precedes(*pair) for pair in pairwise(ends)]
    if len(homes) < len(ends) or None in orders:
        return None
    terms, most = homes, 2.0 * len(ends) - 2.0
    for constant, more in filter(None, orders):
        most -= constant
        terms = [*terms, *more]
    return most, terms

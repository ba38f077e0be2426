"""Nothing waits without a reason: rows for the mixed-integer program.

The program may delay tasks and transfers, so that there is room for others before; devices start
what comes next as soon as they can.  With these rows it does, too: each task starts at once, or
when the one before it on its device ends, or when a value arrives; each transfer starts when its
value is made, or when the one before it on its way has arrived.
"""

from __future__ import annotations

from collections.abc import Sequence

from graphflow.place.problem import Problem
from graphflow.place.program import Program, Term


def is_prompt(problem: Problem) -> bool:
    """Do the rows hold in the simulator?  Not where devices or machines share more than the
    program knows."""
    machines = {problem.topology.machine(d.name) for d in problem.topology.devices}
    delayed = (problem.hold, problem.source_load, problem.target_load)
    if problem.topology.hosts or any(map(any, (row for rows in delayed for row in rows))):
        return False
    return len(machines) == 1


def start_at_once(program: Program) -> None:
    """Add the rows; `is_prompt` must hold."""
    for task in range(program.problem.tasks):
        _task(program, task)
    for value, targets in enumerate(program.sent):
        for target, sent in targets.items():
            _transfer(program, value, target, sent)


def _task(program: Program, task: int) -> None:
    problem = program.problem
    reasons = [_no_later(program, program.start[task], [])]
    for other in range(problem.tasks):
        if other == task or program.precedes(other, task) is None:
            continue
        reason = _no_later(program, program.start[task], _end(program, other))
        _comes_before(program, reason, other, task)
        reasons.append(reason)
    for value in problem.needs[task]:
        for d, sent in program.sent[value].items():
            here = program.at(task, d)
            if here is not None:
                arrive = [(program.arrive[value][d], 1.0)]
                reason = _no_later(program, program.start[task], arrive)
                program.row(0.0, (reason, 1.0), (here, -1.0))
                program.row(0.0, (reason, 1.0), (sent, -1.0))
                reasons.append(reason)
    program.row(-1.0, *[(reason, -1.0) for reason in reasons])


def _transfer(program: Program, value: int, target: int, sent: int) -> None:
    problem = program.problem
    leave, maker = program.leave[value][target], problem.producer[value]
    reasons = [_no_later(program, leave, _end(program, maker))]
    for other, targets in enumerate(program.sent):
        first = problem.producer[other]
        if target not in targets or (first == maker and other >= value):
            continue
        if first != maker and program.precedes(first, maker) is None:
            continue
        reason = _no_later(program, leave, [(program.arrive[other][target], 1.0)])
        program.row(0.0, (reason, 1.0), (targets[target], -1.0))
        if first != maker:
            _comes_before(program, reason, first, maker)
        reasons.append(reason)
    program.row(0.0, (sent, 1.0), *[(reason, -1.0) for reason in reasons])


def _end(program: Program, task: int) -> list[Term]:
    return [(program.start[task], 1.0), *program.length(task)]


def _no_later(program: Program, what: int, than: Sequence[Term]) -> int:
    """A variable that is 1 only where that time is no later than the other."""
    reason = program.variable(1.0, True)
    program.row(1.0, (what, 1.0), *[(x, -factor) for x, factor in than], (reason, 1.0))
    return reason


def _comes_before(program: Program, reason: int, a: int, b: int) -> None:
    """The reason counts only where both tasks are on one device, in this order."""
    order = program.precedes(a, b)
    assert order is not None
    program.row(order[0], (reason, 1.0), *[(x, -factor) for x, factor in order[1]])
    if program.problem.group[a] == program.problem.group[b]:
        return
    for d in program.devices:
        x, y = program.at(a, d), program.at(b, d)
        if x is not None:
            program.row(1.0, (reason, 1.0), (x, 1.0), (y, -1.0))

"""Stack the terms of a sum of products, so that one product computes it.

An unrolled loop adds up one small product per step for the gradient of its weights.  Where the
factors lie one below the other in memory, their sum is a single product with a long inner size:
so the tasks that compute the factors store them there.
"""

from __future__ import annotations

from collections.abc import Sequence

from graphflow.compile.loops.values import Join, Multiply, Task, Value, View, row_major

_WORTH = 3  # terms


def stack(tasks: Sequence[Task], kept: set[int]) -> list[Task]:
    """The tasks, with long sums of products stacked.

    Args:
      kept: identities of values that must stay where they are.
    """
    result: list[Task] = []
    for task in tasks:
        if isinstance(task, Multiply) and len(task.terms) >= _WORTH and not task.summed:
            result += _with_stack(task, kept)
        else:
            result.append(task)
    return result


def _with_stack(task: Multiply, kept: set[int]) -> list[Task]:
    """The product, with as many of its terms as possible in one."""
    size = task.terms[-1][0].shape[-1]
    fit: list[tuple[View, View]] = []
    seen: set[int] = set()
    for a, b in task.terms:
        found = {id(a.value), id(b.value)}
        suits = _suits(a, 1, size, kept) and _suits(b, 0, size, kept)
        if suits and len(found) == 2 and not found & seen:
            fit.append((a, b))
            seen |= found
    if len(fit) < _WORTH:
        return [task]
    left, joined_left = _stacked([a.value for a, _ in fit], size, task.name)
    right, joined_right = _stacked([b.value for _, b in fit], size, task.name)
    turned = View(left, left.shape[::-1], (1, left.shape[1]))
    flat = View(right, right.shape, row_major(right.shape))
    rest = tuple([term for term in task.terms if id(term[0].value) not in seen])
    return [joined_left, joined_right, Multiply(task.out, (*rest, (turned, flat)), task.name)]


def _suits(view: View, inner: int, size: int, kept: set[int]) -> bool:
    """Is it a matrix of its own, that may lie anywhere, whose rows are the inner axis?"""
    value = view.value
    shape, strides = (view.shape, view.strides)
    if inner == 1:
        shape, strides = shape[::-1], strides[::-1]
    return (
        value.kind == "computed"
        and value.home is None
        and id(value) not in kept
        and len(shape) == 2
        and shape[0] == size
        and value.size == view.size
        and view.offset == 0
        and strides == row_major(shape)
    )


def _stacked(values: Sequence[Value], rows: int, name: str) -> tuple[Value, Join]:
    """One value below the other, each of so many rows."""
    out = Value((rows * len(values), values[0].size // rows), values[0].dtype)
    at = 0
    for value in values:
        value.home = View(out, value.shape, row_major(value.shape), at)
        at += value.size
    return out, Join(out, tuple(values), name)

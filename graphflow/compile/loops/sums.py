"""Sums over a batch of products, cut among workers: each adds up its share, then all are added.

A gradient by the filters of a convolution is such a sum, over images.  Who computes an image's
part of it has that image in its cache; cut by rows of the result, every worker would read all.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from graphflow.compile.loops.values import Map, Multiply, Task, Value, View, row_major
from graphflow.ops.expression import Node, apply, subexpressions

_ALONE = 60_000  # flops below which one worker does a product faster than two that meet


def work(task: Task) -> float:
    """Floating-point operations of a task, or the like."""
    if isinstance(task, Multiply):
        each = sum(2.0 * math.prod(a.shape) * b.shape[-1] for a, b in task.terms)
        return each
    if isinstance(task, Map):
        return 4.0 * task.out.size * (1 + nodes(task.body))
    return 0.0


def nodes(node: Node) -> int:
    """How many different nodes an expression has."""
    return sum(1 for _ in subexpressions(node))


def replace(node: Node, leaves: dict[int, Node], done: dict[int, Node] | None = None) -> Node:
    """The expression with other nodes for its arguments."""
    done = {} if done is None else done
    found = done.get(id(node))
    if found is None:
        if node.op == "arg":
            found = leaves[node.value]
        elif node.args:
            args = tuple([replace(a, leaves, done) for a in node.args])
            found = Node(node.op, args, node.dtype, node.value)
        else:
            found = node
        done[id(node)] = found
    return found


def split_sums(tasks: Sequence[Task], workers: int) -> list[Task]:
    """The tasks, with each large sum over a batch in as many parts as there are workers."""
    result: list[Task] = []
    for task in tasks:
        if isinstance(task, Multiply) and _is_cut(task, workers):
            result += _parts(task, workers)
        else:
            result.append(task)
    return result


def _is_cut(task: Multiply, workers: int) -> bool:
    return (
        workers > 1
        and task.summed
        and task.terms[0][0].shape[0] >= 2 * workers
        and work(task) >= workers * _ALONE
    )


def _parts(task: Multiply, workers: int) -> list[Task]:
    out = task.out
    partial = Value((workers, *out.shape), out.dtype)
    strides = row_major(out.shape)
    views = tuple([View(partial, out.shape, strides, i * out.size) for i in range(workers)])
    terms = [Node("arg", (), out.dtype, i) for i in range(workers)]
    while len(terms) > 1:  # in pairs: the same tree for the same number of parts
        rest = terms[-1:] if len(terms) % 2 else []
        terms = [apply("add", a, b) for a, b in zip(terms[::2], terms[1::2], strict=False)] + rest
    return [
        Multiply(partial, task.terms, task.name, summed=True, parts=workers),
        Map(out, views, terms[0], task.name),
    ]

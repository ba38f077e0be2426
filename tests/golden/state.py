"""Programs of variables, queues and files; see `record.py`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from tests.golden.programs import Programs, normal

PROGRAMS = Programs()
program = PROGRAMS.register

LICENSE = Path(__file__).parents[2] / "LICENSE"


def _variable(tf: Any, value: Any) -> Any:
    return tf.Variable(value, use_resource=True)


def _after(tf: Any, change: Any, value: Any) -> Any:
    """A new variable's value after a change."""
    v = _variable(tf, value)
    with tf.control_dependencies([change(v)]):
        return v.read_value()


@program
def scatters(tf: Any) -> list[Any]:
    rows = normal(3, 2)
    found = []
    for name in ("add", "sub", "mul", "div", "min", "max", "update"):
        scatter = getattr(tf, f"scatter_{name}")
        indices = [4, 0, 1] if name == "update" else [4, 0, 4]  # which of two wins is open
        found += [
            _after(tf, lambda v, s=scatter, i=indices: s(v, i, rows), normal(5, 2)),
            _after(tf, lambda v, s=scatter: s(v, 2, [0.5, -7.0]), normal(5, 2)),
            _after(tf, lambda v, s=scatter: s(v, [[1], [3]], [[5], [2]]), np.arange(9, 5, -1)),
        ]
    return found


@program
def assignments(tf: Any) -> list[Any]:
    x = normal(2, 3)
    v = _variable(tf, x)
    return [
        tf.is_variable_initialized(v),
        _after(tf, lambda v: v.assign(x * 2), x),
        _after(tf, lambda v: v.assign_add(x * 2), x),
        _after(tf, lambda v: v.assign_sub(x * 3), x),
        _after(tf, lambda v: v.assign_sub([[1, 2, 3]] * 2), np.arange(6).reshape(2, 3)),
    ]


@program
def queues(tf: Any) -> list[Any]:
    queue = tf.FIFOQueue(9, [tf.float64, tf.int32], shapes=[[2], []])
    with tf.control_dependencies([queue.enqueue_many([normal(4, 2), [1, 2, 3, 4]])]):
        with tf.control_dependencies([queue.enqueue([[7.0, 8.0], 5])]):
            first = queue.dequeue()
        with tf.control_dependencies(first):
            several = queue.dequeue_many(3)
        with tf.control_dependencies(several):
            size = queue.size()
        with tf.control_dependencies([size]):
            closed = queue.is_closed()
        with tf.control_dependencies([closed]):
            close = queue.close()
        with tf.control_dependencies([close]):
            return [*first, *several, size, closed, tf.identity(size)]


@program
def defaults(tf: Any) -> list[Any]:
    return [tf.placeholder_with_default(normal(3), [None])]


@program
def files(tf: Any) -> list[Any]:
    return [tf.string_to_hash_bucket_fast(tf.read_file(str(LICENSE)), 2**62)]


@program
def prints(tf: Any) -> list[Any]:
    x = tf.constant(normal(2, 2))
    with tf.control_dependencies([tf.print("shown", x, output_stream="file:///dev/null")]):
        return [tf.identity(x), tf.Print(x, [x], first_n=0)]


@program
def accumulators(tf: Any) -> list[Any]:
    dense = tf.ConditionalAccumulator(tf.float64, shape=[3])
    sparse = tf.SparseConditionalAccumulator(tf.float64, shape=[5, 2])
    with tf.control_dependencies([dense.apply_grad(normal(3, seed=1), local_step=2)]):
        applied = dense.apply_grad(normal(3, seed=2), local_step=5)
    with tf.control_dependencies([applied]):
        count = dense.num_accumulated()
    with tf.control_dependencies([sparse.apply_grad([0, 3], normal(2, 2))]):
        rows = sparse.apply_grad([3, 4], normal(2, 2, seed=1))
    with tf.control_dependencies([count, rows]):
        mean, taken = dense.take_grad(2), sparse.take_indexed_slices_grad(2)
    with tf.control_dependencies([mean]):
        step = dense.set_global_step(7)  # from the next run on, and so not seen here
    with tf.control_dependencies([step]):
        return [count, tf.identity(mean), taken.indices, taken.values]

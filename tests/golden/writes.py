"""Programs that write to parts of variables; see `record.py`."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.golden.programs import Programs

PROGRAMS = Programs()
program = PROGRAMS.register


@program
def slices(tf: Any) -> list[Any]:
    def variable() -> Any:
        return tf.Variable(np.arange(12.0).reshape(3, 4), use_resource=True)

    changes = [
        lambda v: v[1:3].assign(np.ones((2, 4))),
        lambda v: v[0].assign([5.0, 6.0, 7.0, 8.0]),
        lambda v: v[..., 1].assign([5.0, 6.0, 7.0]),
        lambda v: v[::-2, 1:3].assign([[1.0, 2.0], [3.0, 4.0]]),
        lambda v: v[2, -1].assign(7.0),
        lambda v: tf.scatter_nd_update(v, [[0, 1], [2, 3]], [9.0, 8.0]),
        lambda v: tf.scatter_nd_update(v, [[1]], [[9.0, 8.0, 7.0, 6.0]]),
        lambda v: tf.scatter_nd_add(v, [[0, 1], [0, 1]], [9.0, 8.0]),
        lambda v: tf.scatter_nd_sub(v, [[2], [2]], np.ones((2, 4))),
    ]
    found = []
    for change in changes:
        v = variable()
        with tf.control_dependencies([change(v)]):
            found.append(v.read_value())
    return found

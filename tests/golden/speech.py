"""Programs of connectionist temporal classification; see `record.py`."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.golden.programs import Programs, normal, with_gradients

PROGRAMS = Programs()
program = PROGRAMS.register


@program
def ctc(tf: Any) -> list[Any]:
    places = [[0, 0], [0, 1], [1, 0], [1, 1], [1, 2], [2, 0]]
    labels = tf.SparseTensor(places, tf.constant([1, 2, 0, 0, 3, 2]), [3, 3])
    x = (normal(6, 3, 5) * 2).astype(np.float32)
    options: list[dict[str, Any]] = [
        {},
        {"ctc_merge_repeated": False},
        {"preprocess_collapse_repeated": True},
    ]
    found = []
    for more in options:
        found += with_gradients(tf, lambda v, m=more: tf.nn.ctc_loss(labels, v, [5, 6, 2], **m), x)
    found += with_gradients(
        tf, lambda v: tf.nn.ctc_loss(labels, v, [2, 6, 2], time_major=False), x.transpose(1, 0, 2)
    )
    ignored = tf.nn.ctc_loss(labels, x, [1, 6, 2], ignore_longer_outputs_than_inputs=True)
    return [*found, ignored]

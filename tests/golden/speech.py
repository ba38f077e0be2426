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


@program
def ctc_decoders(tf: Any) -> list[Any]:
    x = (normal(8, 4, 5) * 2).astype(np.float32)
    x[2:4] = x[1]
    lengths = [8, 5, 1, 0]
    found = []
    for merge in (True, False):
        matrices, scores = tf.nn.ctc_greedy_decoder(x, lengths, merge_repeated=merge)
        found += [*_parts(matrices[0]), scores]
        for width, paths in ((1, 1), (4, 1), (30, 3)):
            matrices, scores = tf.nn.ctc_beam_search_decoder(
                x[:, :2], lengths[:2], width, paths, merge_repeated=merge
            )
            found += [*[part for m in matrices for part in _parts(m)], scores]
    return found


@program
def edit_distances(tf: Any) -> list[Any]:
    a = tf.SparseTensor([[0, 0, 0], [0, 0, 1], [1, 0, 0], [1, 1, 2]], [1, 2, 3, 4], [2, 2, 3])
    b = tf.SparseTensor([[0, 0, 0], [0, 1, 0], [0, 1, 1], [1, 1, 0]], [2, 1, 2, 4], [2, 2, 2])
    s = tf.SparseTensor([[0, 0], [0, 1], [0, 2]], list("cat"), [1, 3])
    t = tf.SparseTensor([[0, 0], [0, 1], [0, 2], [0, 3]], list("bath"), [1, 4])
    return [tf.edit_distance(p, q, n) for p, q in ((a, b), (s, t)) for n in (True, False)]


def _parts(x: Any) -> list[Any]:
    return [x.indices, x.values, x.dense_shape]

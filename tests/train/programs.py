"""One small training program for each optimizer, the same text for graphflow and TensorFlow."""

from __future__ import annotations

from typing import Any

import numpy as np

STEPS = 5
START = np.array([[1.0, -2.0, 0.5], [0.25, 3.0, -1.0], [2.0, 0.0, 1.5]], np.float32)
TARGET = np.array([[0.5, 1.0, -1.0], [2.0, -0.5, 0.0], [1.0, 1.0, 1.0]], np.float32)
ROWS = [[0, 2, 0], [1, 1], [2], [0, 1, 2], [2, 2]]  # one feed per step; rows repeat

OPTIMIZERS = {
    "sgd": ("GradientDescentOptimizer", {"learning_rate": 0.1}),
    "momentum": ("MomentumOptimizer", {"learning_rate": 0.1, "momentum": 0.9}),
    "nesterov": (
        "MomentumOptimizer",
        {"learning_rate": 0.1, "momentum": 0.9, "use_nesterov": True},
    ),
    "adagrad": ("AdagradOptimizer", {"learning_rate": 0.5}),
    "adadelta": ("AdadeltaOptimizer", {"learning_rate": 1.0, "epsilon": 1e-3}),
    "rmsprop": ("RMSPropOptimizer", {"learning_rate": 0.05}),
    "rmsprop_momentum": (
        "RMSPropOptimizer",
        {"learning_rate": 0.05, "decay": 0.8, "momentum": 0.5, "epsilon": 1e-3},
    ),
    "rmsprop_centered": (
        "RMSPropOptimizer",
        {"learning_rate": 0.05, "decay": 0.8, "momentum": 0.5, "centered": True},
    ),
    "adam": ("AdamOptimizer", {"learning_rate": 0.1}),
    "adam_options": (
        "AdamOptimizer",
        {"learning_rate": 0.1, "beta1": 0.7, "beta2": 0.9, "epsilon": 1e-2},
    ),
}


def train(tf: Any, name: str, sparse: bool) -> dict[str, list[Any]]:
    """Values of the variable after each step, and names and values of all variables at the end."""
    kind, options = OPTIMIZERS[name]
    with tf.Graph().as_default():
        variable = tf.get_variable("w", initializer=START)
        rows = tf.placeholder(tf.int32, [None])
        if sparse:
            difference = tf.gather(variable, rows) - tf.gather(tf.constant(TARGET), rows)
        else:
            difference = variable - TARGET
        loss = tf.reduce_sum(tf.square(difference)) * 0.5
        optimizer = getattr(tf.train, kind)(**options)
        step = tf.train.get_or_create_global_step()
        update = optimizer.minimize(loss, global_step=step)
        values = []
        with tf.Session() as session:
            session.run(tf.global_variables_initializer())
            for i in range(STEPS):
                session.run(update, {rows: ROWS[i]})
                values.append(session.run(variable).tolist())
            every = sorted(tf.global_variables(), key=lambda v: v.name)
            end = {v.name: np.asarray(session.run(v)).tolist() for v in every}
            slots = optimizer.get_slot_names()
    return {"values": values, "end": end, "slots": slots}

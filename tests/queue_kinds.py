"""One queue of each kind, for tests that all kinds have to pass."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import graphflow as tf
from graphflow.ops.queues import QueueBase

# Elements are an int64, which is the priority where there are priorities, and a float32.
QUEUES: dict[str, Callable[..., QueueBase]] = {
    "first in, first out": lambda capacity=16, **options: tf.FIFOQueue(
        capacity, [tf.int64, tf.float32], [[], []], **options
    ),
    "padding": lambda capacity=16, **options: tf.PaddingFIFOQueue(
        capacity, [tf.int64, tf.float32], [[], []], **options
    ),
    "shuffling": lambda capacity=16, **options: tf.RandomShuffleQueue(
        capacity, 2, [tf.int64, tf.float32], [[], []], seed=3, **options
    ),
    "by priority": lambda capacity=16, **options: tf.PriorityQueue(
        capacity, [tf.float32], [[]], **options
    ),
}

PRIORITIES = np.array([3, 1, 2, 1, 3, 2, 1, 2, 3, 1, 1, 2], np.int64)


def elements(count: int = len(PRIORITIES), first: int = 0) -> list[Any]:
    """For `enqueue_many`; the values tell in which order they came."""
    values = np.arange(first, first + count, dtype=np.float32)
    return [np.resize(PRIORITIES, count), values]

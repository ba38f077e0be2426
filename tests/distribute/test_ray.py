"""Sessions on real Ray workers."""

from __future__ import annotations

import os

import numpy as np
import pytest

import graphflow as tf
from tests.distribute.programs import train

pytestmark = [pytest.mark.ray, pytest.mark.timeout(60)]

W0, W1 = "/job:worker/replica:0/task:0", "/job:worker/replica:0/task:1"


def test_two_workers_train_to_the_very_bits_of_one_process(shared, graph):
    losses, weights = train(None, steps=12)
    for scopes in (("/job:worker/task:0", "/job:worker/task:1"), (None, None)):
        with tf.Graph().as_default():
            far_losses, far_weights = train(shared, steps=12, scopes=scopes)
        np.testing.assert_array_equal(far_losses, losses)
        for far, near in zip(far_weights, weights, strict=True):
            np.testing.assert_array_equal(far, near)

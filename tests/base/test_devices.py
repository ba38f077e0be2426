"""Device names, as TensorFlow's programs handle them."""

from __future__ import annotations

import pytest

import graphflow as tf


def test_specs_are_merged_and_replaced():
    spec = tf.DeviceSpec.from_string("/job:ps/task:1/cpu:0")
    assert spec == tf.DeviceSpec(job="ps", task=1, device_type="CPU", device_index=0)
    other = tf.DeviceSpec(task=2, device_type="GPU")
    assert spec.make_merged_spec(other).to_string() == "/job:ps/task:2/device:GPU:*"
    assert spec.replace(task=None).to_string() == "/job:ps/device:CPU:0"
    assert tf.DeviceSpec().parse_from_string("/job:ps") == tf.DeviceSpec(job="ps")
    with pytest.raises(TypeError, match="make_merged_spec"):
        spec.merge_from(other)

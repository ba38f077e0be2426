"""Sums over replicas on several devices: cut, and with the bits of the whole."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import graphflow as tf
from graphflow.base.errors import InternalError
from graphflow.ops.collectives import all_reduce, ordered_sum
from graphflow.partition import partition, verify
from graphflow.place import local_topology, place
from graphflow.rewrite import prune


def devices(count):
    return tf.Session(config=tf.ConfigProto(device_count={"CPU": count}))


def values(world, *shapes):
    rng = np.random.default_rng(3)
    scale = 10.0 ** rng.integers(-4, 5, 100)
    return [
        [np.asarray(rng.standard_normal(s) * rng.choice(scale, s), np.float32) for s in shapes]
        for _ in range(world)
    ]


def summed(where, data):
    """The sums of fed values that are made on the given devices, and on which they are used."""
    with tf.Graph().as_default():
        buckets, feeds = [], {}
        for device, bucket in zip(where, data, strict=True):
            with tf.device(f"/cpu:{device}"):
                fed = [tf.placeholder(tf.float32, x.shape) for x in bucket]
                feeds.update(zip(fed, bucket, strict=True))
                buckets.append([x * 1.0 for x in fed])
        sums = all_reduce(buckets)
        outputs = []
        for device, bucket in zip(where, sums, strict=True):
            with tf.device(f"/cpu:{device}"):
                outputs.append([tf.negative(x) for x in bucket])
        with devices(max(where) + 1) as session:
            return session.run([outputs, sums], feeds)


@pytest.mark.parametrize("where", [(0, 1), (0, 1, 2), (1, 0, 1), (0, 0, 1, 1, 2), (0, 0)])
def test_sums_have_the_bits_of_one_device(where):
    data = values(len(where), (5,), (3, 2), (), (0,))
    negative, sums = summed(where, data)
    for t in range(4):
        wanted = ordered_sum(np, [bucket[t] for bucket in data])
        for rank in range(len(where)):
            np.testing.assert_array_equal(sums[rank][t], wanted)
            np.testing.assert_array_equal(negative[rank][t], -wanted)


def test_replicas_values_stay_on_their_devices():
    topology = local_topology(3)
    names = [d.name for d in topology.devices]
    with tf.Graph().as_default() as graph:
        ends = []
        for name in names:
            with tf.device(name):
                ends.append(tf.random_normal([4]) * 2.0)
        sums = []
        for name, total in zip(names, all_reduce(ends), strict=True):
            with tf.device(name):
                sums.append(tf.negative(total))
        subgraph = prune(graph, sums, [], [])
    result = partition(subgraph, place(subgraph, topology))
    assert not result.transfers
    for name, part in result.parts.items():
        (mine,) = [o for o in part.order if o.type == "AllReducePart"]
        assert mine.attrs["members"] == tuple(names)
        assert mine.attrs["ranks"] == (names.index(name),)


def test_sums_that_wait_for_each_other_in_a_circle_are_found():
    topology = local_topology(2)
    names = [d.name for d in topology.devices]
    with tf.Graph().as_default() as graph:
        pairs = []
        for name in names:
            with tf.device(name):
                pairs.append((tf.random_normal([4]) * 2.0, tf.random_normal([4]) * 3.0))
        sums = [t for pair in zip(*pairs, strict=True) for t in all_reduce(pair)]
        subgraph = prune(graph, sums, [], [])
    result = partition(subgraph, place(subgraph, topology))
    part = result.parts[names[1]]
    order = list(part.order)
    first, second = [i for i, o in enumerate(order) if o.type == "AllReducePart"]
    order[first], order[second] = order[second], order[first]
    wrong = replace(result, parts={**result.parts, names[1]: replace(part, order=tuple(order))})
    with pytest.raises(InternalError, match="waits for ever"):
        verify(wrong)


def test_a_device_that_fails_does_not_leave_the_others_waiting():
    with tf.Graph().as_default():
        x = tf.placeholder(tf.int32, [None])
        with tf.device("/cpu:0"):
            good = tf.ones([4]) * 2.0
        with tf.device("/cpu:1"):
            bad = tf.reshape(tf.ones([3]) * 2.0, x)
        sums = all_reduce([good, bad])
        with devices(2) as session, pytest.raises(tf.errors.InvalidArgumentError):
            session.run(sums, {x: [4]})

"""Sums over replicas by every way between devices: the bits of `ordered_sum`, always."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphflow.execute import collective
from graphflow.execute.collective import Group, all_reduce
from graphflow.execute.rendezvous import Meeting, Rendezvous
from graphflow.ops.collectives import ordered_sum
from tests.until import PATIENCE


@pytest.fixture(autouse=True, scope="module")
def small_blocks():
    """So that sums of few elements take several."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(collective, "_BLOCK", 16)
        yield


class Apart(Meeting):
    """Devices that do not share memory: what they are handed is a copy."""

    def send_to(self, device, key, value):
        super().send_to(device, key, value.copy())

    piece = 24  # bytes

    def lend(self, devices, key, arrays):
        return False

    def space(self, devices, key, size):
        raise AssertionError("not after lending was refused")


def run(kind, members, data):
    """device -> its sums."""
    rendezvous = Rendezvous(threading.Event(), deadline=PATIENCE)
    group = Group("sum", members, tuple(x.shape for x in data[0]))

    def one(device):
        buckets = {rank: data[rank] for rank in group.ranks(device)}
        return all_reduce(kind(rendezvous, device), group, device, buckets)

    with ThreadPoolExecutor(len(members)) as pool:
        sums = dict(zip(group.devices, pool.map(one, group.devices), strict=True))
    assert not rendezvous._values  # nothing was sent that nobody has taken
    return sums


@pytest.mark.parametrize("kind", [Meeting, Apart])
@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_devices_any_shapes(kind, data):
    members = tuple(data.draw(st.lists(st.sampled_from("abcd"), min_size=2, max_size=6)))
    shapes = data.draw(st.lists(st.sampled_from([(), (1,), (7,), (3, 5), (0, 2)]), min_size=1))
    dtype = data.draw(st.sampled_from([np.float32, np.float64, np.int32]))
    rng = np.random.default_rng(data.draw(st.integers(0, 1000)))
    values = [
        [(rng.standard_normal(s) * 10.0 ** rng.integers(-5, 6)).astype(dtype) for s in shapes]
        for _ in members
    ]
    if len(set(members)) == 1:
        return  # one device does not meet
    before = [[x.copy() for x in bucket] for bucket in values]
    for sums in run(kind, members, values).values():
        for t, got in enumerate(sums):
            wanted = ordered_sum(np, [bucket[t] for bucket in before])
            assert got.shape == wanted.shape
            assert got.tobytes() == wanted.tobytes()
    for old, new in zip(before, values, strict=True):
        for a, b in zip(old, new, strict=True):
            np.testing.assert_array_equal(a, b)


def test_a_ring_sends_no_more_than_it_must():
    sent = []

    class Counted(Apart):
        def send_to(self, device, key, value):
            sent.append(value.nbytes)
            super().send_to(device, key, value)

    world, size = 4, 1000
    run(Counted, tuple("abcd"), [[np.ones(size)] for _ in range(world)])
    assert sum(sent) == 2 * (world - 1) * size * 8

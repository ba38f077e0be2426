"""What is measured, kept, and made of it."""

import json
from typing import NamedTuple

import pytest

import graphflow as tf
from graphflow.base.devices import local
from graphflow.place import CostModel, Device, Link, Topology
from graphflow.place.devices import Host, Starts
from graphflow.place.profile import Profile, extents, load, signature, store, worth_replanning
from graphflow.session.planner import SEEN, Planner

CPU0, CPU1 = local("CPU", 0), local("CPU", 1)
TOPOLOGY = Topology(
    (Device(CPU0, flops=1e9), Device(CPU1)),
    {(CPU0, CPU1): Link(1e-5, 1e9, 0.5, 0.25, 0.125)},
    Starts(1e-4),
    {"/job:localhost/replica:0/task:0": Host(1.5, float("inf"))},
)


class Span(NamedTuple):
    name: str
    device: str
    start: float
    seconds: float


@pytest.fixture(autouse=True)
def graph():
    with tf.Graph().as_default() as graph:
        yield graph


def product(rows=4):
    return tf.matmul(tf.ones([rows, 3]), tf.ones([3, 5])).op


def test_means_are_exponential_and_shared_by_the_same_kind_of_op():
    first, second, other = product(), product(), product(7)
    model, profile = CostModel(), Profile()
    operations = {o.name: o for o in (first, second, other)}
    profile.observe([Span(first.name, CPU0, 0, 1.0)], operations, model)
    assert profile.seconds(second, CPU0, model) == 1.0
    profile.observe([Span(second.name, CPU0, 0, 2.0)], operations, model)
    assert profile.seconds(first, CPU0, model) == pytest.approx(1.3)
    assert profile.seconds(other, CPU0, model) is None
    assert profile.seconds(first, CPU1, model) is None


def test_what_follows_a_call_belongs_to_it():
    spans = [Span("b", CPU0, 1.0, 0.5), Span("a", CPU0, 0.0, 0.75), Span("c", CPU1, 0.5, 0.25)]
    found = {span.name: (span.start, span.seconds) for span in extents(spans)}
    assert found == {"a": (0.0, 1.0), "b": (1.0, 0.5), "c": (0.5, 0.25)}
    overlapping = [Span("a", CPU0, 0.0, 2.0), Span("b", CPU0, 1.0, 1.0)]
    assert extents(overlapping) == overlapping


def test_shape_dtype_and_what_shapes_the_work_tell_kinds_apart():
    model = CostModel()
    kinds = {
        signature(o, model)
        for o in (
            product(),
            product(5),
            tf.matmul(tf.ones([3, 4]), tf.ones([3, 5]), transpose_a=True).op,
            tf.matmul(tf.ones([4, 3], tf.float64), tf.ones([3, 5], tf.float64)).op,
        )
    }
    assert len(kinds) == 4


def test_spans_of_others_and_bad_numbers_are_skipped():
    profile = Profile()
    spans = [Span("send", CPU0, 0, 1.0), Span(product().name, CPU0, 0, float("nan"))]
    assert profile.observe(spans, {}, CostModel()) == 0.0
    assert not profile.means


def test_the_model_prefers_what_was_measured():
    operation = product()
    profile = Profile({CPU0: {signature(operation, CostModel()): 0.25}})
    model = CostModel(profile=profile)
    work = model.work(operation)
    assert model.seconds(operation, work, TOPOLOGY[CPU0]) == 0.25
    assert model.seconds(operation, work, TOPOLOGY[CPU1]) < 0.01


def test_what_is_stored_is_read(tmp_path):
    path = tmp_path / "deep" / "c.json"
    profile = Profile({CPU0: {"MatMul": 0.5}})
    store(TOPOLOGY, profile, path)
    found = load(path, [CPU0, CPU1])
    assert found is not None
    assert found[0].devices == TOPOLOGY.devices
    assert dict(found[0].links) == dict(TOPOLOGY.links)
    assert dict(found[0].hosts) == dict(TOPOLOGY.hosts)
    assert (found[0].starts, found[1]) == (TOPOLOGY.starts, profile)
    assert load(path, [CPU0]) is None


@pytest.mark.parametrize(
    "change", [{"version": 0}, {"machine": "other"}, {"devices": [{}]}, {"links": 3}, {"means": 1}]
)
def test_what_does_not_fit_is_measured_anew(tmp_path, change):
    path = tmp_path / "c.json"
    store(TOPOLOGY, Profile(), path)
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    assert load(path, [CPU0, CPU1]) is None
    path.write_text("{")
    assert load(path, [CPU0, CPU1]) is None
    assert load(tmp_path / "none", [CPU0, CPU1]) is None


@pytest.mark.parametrize(
    ("measured", "better", "expected"),
    [(1.1, 0.5, False), (1.3, 0.96, False), (1.3, 0.94, True), (0.7, 0.94, True)],
)
def test_planning_anew_needs_a_difference_and_a_gain(measured, better, expected):
    assert worth_replanning(1.0, measured, 1.0, better) is expected


def test_a_session_that_was_wrong_about_a_device_plans_anew():
    """Two products that were thought equal: one device turns out to be ten times slower."""
    ends = [tf.matmul(tf.ones([400, 400]) * float(i), tf.ones([400, 400])) for i in range(2)]
    fast = tuple([Device(d.name, flops=1e9) for d in TOPOLOGY.devices])
    planner = Planner(Topology(fast, {}, Starts()))
    from graphflow.rewrite import prune

    placement = planner.place(prune(ends[0].graph, ends, [], []), soft=True, held={})
    homes = {placement[t.op] for t in ends}
    assert homes == {CPU0, CPU1}
    spans = [
        Span(o.name, d, 0.0, 0.128 if d == CPU0 else 1.28)
        for o, d in placement.devices.items()
        if o.type == "MatMul"
    ]
    spans[1:] = [spans[1]._replace(start=0.0)]
    answers = [planner.observe(placement, spans) for _ in range(SEEN + 1)]
    assert answers == [False] * (SEEN - 1) + [True, False]
    again = planner.place(placement.subgraph, soft=True, held={})
    assert {again[t.op] for t in ends} == {CPU0}

"""Loops that are written out: how often they run, what they compute, when it pays."""

import numpy as np
import pytest

import graphflow as tf
from graphflow.base.devices import local
from graphflow.place import Device, Topology, place
from graphflow.place.trips import MOST, trips
from graphflow.place.unroll import unroll
from graphflow.rewrite import prune

CPU0, CPU1 = local("CPU", 0), local("CPU", 1)
TWO = Topology((Device(CPU0), Device(CPU1)))


@pytest.fixture(autouse=True)
def graph():
    with tf.Graph().as_default() as graph:
        yield graph


def loop_of(tensor):
    """The While behind a tensor."""
    (loop,) = {
        o for o in prune(tf.get_default_graph(), [tensor], [], []).order if o.type == "While"
    }
    return loop


def count_up(limit, step=1, **options):
    x = tf.ones([4])
    result = tf.while_loop(
        lambda i, h: i < limit, lambda i, h: (i + step, h * 2.0), [0, x], **options
    )
    return result[1]


@pytest.mark.parametrize(
    ("build", "expected"),
    [
        (lambda: count_up(5), 5),
        (lambda: count_up(5, 2), 3),
        (lambda: count_up(0), 0),
        (lambda: count_up(9, maximum_iterations=4), 4),
        (lambda: count_up(MOST), MOST),
        (lambda: count_up(MOST + 1), None),
        (lambda: count_up(5, 0), None),  # for ever
        (lambda: count_up(tf.placeholder(tf.int32, [])), None),
        (lambda: count_up(tf.get_variable("n", initializer=3)), None),
        (lambda: tf.while_loop(lambda h: tf.reduce_sum(h) < 9.0, lambda h: h + 1.0,
                               [tf.zeros([3])]), 3),
    ],
)  # fmt: skip
def test_constants_say_how_often_a_loop_runs(build, expected):
    result = build()
    assert trips(loop_of(result)) == expected


def test_two_counters_that_drive_each_other():
    first = [tf.constant(1), 1]
    ends = tf.while_loop(lambda a, b: a < 10, lambda a, b: (b + a, a), first)
    assert trips(loop_of(ends[0])) == 5  # Fibonacci: 1 2 3 5 8 13


def layers(size=400, steps=6):
    """Two layers that could work at once, on values of the step before."""
    w = tf.fill([size, size], 1e-3)

    def step(i, a, b):
        return i + 1, tf.tanh(tf.matmul(a, w)), tf.tanh(tf.matmul(b + a, w))

    ones = tf.ones([size, size])
    return tf.while_loop(lambda i, a, b: i < steps, step, [0, ones, ones])[1:]


def test_layers_of_a_loop_are_shared_by_devices():
    ends = layers()
    view = prune(tf.get_default_graph(), ends, [], [])
    placement = place(view, TWO)
    products = {o.name: placement[o] for o in placement.subgraph.order if o.type == "MatMul"}
    assert len(products) == 12
    assert set(products.values()) == {CPU0, CPU1}
    only = place(view, Topology(TWO.devices[:1]))
    assert "While" in {o.type for o in only.subgraph.order}
    whole = only.model.seconds(loop := loop_of(ends[0]), only.model.work(loop), TWO.devices[0])
    assert placement.predicted < 0.7 * whole


def test_a_loop_that_gains_nothing_stays_whole():
    placement = place(prune(tf.get_default_graph(), [count_up(5)], [], []), TWO)
    assert "While" in {o.type for o in placement.subgraph.order}


def values(fetches, cpus):
    config = tf.ConfigProto(device_count={"CPU": cpus}, allow_soft_placement=cpus == 1)
    with tf.Session(config=config, seed=1) as session:
        session.run(tf.global_variables_initializer())
        runs = [session.run(fetches) for _ in range(3)]
        types = {o.type for o in session.placement(fetches).subgraph.order}
    return runs, types


def same_on_two_devices(fetches, unrolled):
    (one, _), (two, types) = values(fetches, 1), values(fetches, 2)
    for left, right in zip(one, two, strict=True):
        for a, b in zip(left, right, strict=True):
            np.testing.assert_array_equal(a, b)
    assert unrolled in (None, "While" not in types)


def asking(body, first, steps=4):
    """A loop in which something asks for the second device."""

    def step(i, h):
        with tf.device("/cpu:1"):
            return i + 1, body(i, h)

    return tf.while_loop(lambda i, h: i < steps, step, [0, first])


def test_requests_inside_of_a_loop_are_heeded():
    w = tf.Variable(0.5 * np.eye(3, dtype=np.float32), name="w")
    with tf.control_dependencies([w.assign_add(tf.ones([3, 3]))]):
        count, h = asking(lambda i, h: tf.matmul(h, w) + tf.cast(i, tf.float32), tf.ones([2, 3]))
    same_on_two_devices([count, h, h + 1.0], True)


def test_loops_inside_of_loops_and_branches():
    def body(i, h):
        inner = tf.while_loop(lambda j, g: j < i, lambda j, g: (j + 1, g + h), [0, h])[1]
        return tf.cond(i > 1, lambda: inner * 2.0, lambda: inner - 1.0)

    h = asking(body, tf.ones([3]))[1]
    same_on_two_devices([h], None)
    view = unroll(prune(tf.get_default_graph(), [h], [], []))
    assert [o.type for o in view.order].count("While") == 4  # the inner one, each time


def test_lists_of_a_loop_stay_on_one_device():
    array = tf.TensorArray(tf.float32, 4, element_shape=[3])

    def step(i, h, array):
        with tf.device("/cpu:1"):
            h = tf.tanh(h) + 1.0
        return i + 1, h, array.write(i, h)

    _, h, array = tf.while_loop(lambda i, *_: i < 4, step, [0, tf.zeros([3]), array])
    same_on_two_devices([h, array.stack()], True)


def test_no_iteration_at_all():
    same_on_two_devices(asking(lambda i, h: h * 2.0, tf.ones([3]), steps=0), True)


@pytest.mark.parametrize("kind", ["random", "write", "gradient", "fed"])
def test_what_cannot_be_written_out_stays_whole(kind):
    v = tf.Variable(1.0, name="v")
    limit = tf.constant(4)
    bodies = {
        "random": lambda i, h: h + tf.random.normal([3], seed=3),
        "write": lambda i, h: h + v.assign_add(1.0),
    }
    x = tf.ones([3])
    _, h = asking(bodies.get(kind, lambda i, h: h * h), x, limit if kind == "fed" else 4)
    if kind == "gradient":
        h = tf.gradients(h, x)[0]
    view = prune(tf.get_default_graph(), [h], [], [limit] if kind == "fed" else [])
    assert unroll(view) is view
    if kind != "fed":
        same_on_two_devices([h], False)


def test_names_of_iterations_are_distinct_and_errors_know_the_loop():
    _, h = asking(lambda i, h: tf.matmul(h, h), tf.ones([3, 3]))
    view = unroll(prune(tf.get_default_graph(), [h], [], []))
    names = [o.name for o in view.order]
    assert len(set(names)) == len(names)
    loop = loop_of(h)
    assert all(view.origins[o] == (loop,) for o in view.order if o.type == "MatMul")

"""The graph: what golden programs do not show: threads, sites, sizes, what changes later."""

from __future__ import annotations

import gc
import pickle
import threading
import weakref

import numpy as np
import pytest

import graphflow as tf
from tests.growth import assert_linear


@pytest.fixture
def graph():
    with tf.Graph().as_default() as graph:
        yield graph


def in_threads(count, work):
    failures = []

    def guarded(k):
        try:
            work(k)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=guarded, args=(k,)) for k in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


# ---- threads


def test_threads_add_to_one_graph(graph):
    def work(k):
        with graph.as_default(), tf.name_scope("same"):
            for _ in range(100):
                tf.add(tf.constant(1.0), 2.0)

    in_threads(6, work)
    operations = graph.get_operations()
    assert len(operations) == 6 * 100 * 3
    assert len({op.name for op in operations}) == len(operations)
    assert [op.id for op in operations] == list(range(len(operations)))
    assert all(graph.get_operation_by_name(op.name) is op for op in operations)


def test_scopes_belong_to_their_thread(graph):
    inside, leave = threading.Event(), threading.Event()

    def hold(_):
        with (
            graph.as_default(),
            tf.name_scope("mine"),
            tf.device("/cpu:1"),
            tf.variable_scope("variables"),
            tf.control_dependencies([tf.no_op()]),
        ):
            inside.set()
            assert leave.wait(20)

    thread = threading.Thread(target=hold, args=(0,))
    thread.start()
    assert inside.wait(20)
    x = tf.constant(1)
    v = tf.get_variable("v", [])
    leave.set()
    thread.join()
    assert (x.name, x.device, x.op.control_inputs) == ("Const:0", "", ())
    assert v.name == "v:0"


def test_get_variable_makes_a_variable_once_in_all_threads(graph):
    found = []

    def work(_):
        with graph.as_default(), tf.variable_scope("shared", reuse=tf.AUTO_REUSE):
            found.append(tf.get_variable("v", [2]))

    in_threads(8, work)
    assert len({id(v) for v in found}) == 1
    assert len(tf.global_variables()) == 1


def test_the_default_graph_of_a_thread_is_its_own(graph):
    seen = []
    in_threads(1, lambda _: seen.append(tf.get_default_graph()))
    assert seen[0] is not graph


# ---- sites


def sites(error):
    return "\n".join(error.__notes__)


def test_a_site_is_the_users_line(graph):
    x = tf.nn.relu(tf.zeros([2])) + 1.0  # this one
    assert x.op.site.file == __file__
    assert x.op.site.text.endswith("# this one")
    assert x.op.site.function == "test_a_site_is_the_users_line"


def test_sites_of_lambdas_comprehensions_and_callbacks(graph):
    build = lambda: tf.zeros([2]) + tf.zeros([3])  # noqa: E731 - the lambda
    with pytest.raises(ValueError, match="broadcast") as caught:
        build()
    assert "the lambda" in sites(caught.value)
    with pytest.raises(ValueError, match="broadcast") as caught:
        [tf.zeros([2]) + tf.zeros([n]) for n in (2, 3)]  # the comprehension
    assert "the comprehension" in sites(caught.value)
    with pytest.raises(ValueError, match="broadcast") as caught:
        tf.map_fn(lambda row: row + tf.zeros([3]), tf.zeros([4, 2]))  # the callback
    assert "the callback" in sites(caught.value)


def test_a_site_without_a_source_is_a_file_and_a_line(graph):
    code = "def build(tf):\n    return tf.zeros([2]) + tf.zeros([3])"
    names: dict = {}
    exec(compile(code, "<cell 7>", "exec"), names)
    with pytest.raises(ValueError, match="broadcast") as caught:
        names["build"](tf)
    assert "<cell 7>:2" in sites(caught.value)


def test_errors_of_building_pickle_with_their_notes(graph):
    with pytest.raises(ValueError, match="broadcast") as caught:
        tf.add(tf.zeros([2]), tf.zeros([3]), name="sum")
    copy = pickle.loads(pickle.dumps(caught.value))
    assert type(copy) is type(caught.value)
    assert copy.__notes__ == caught.value.__notes__
    assert "in Add 'sum'" in sites(copy)


def test_a_failed_operation_leaves_nothing_but_its_constants(graph):
    x = tf.zeros([2])
    before = len(graph.get_operations())
    with pytest.raises(ValueError, match="broadcast"):
        tf.add(x, tf.ones([3]))
    left = [op.type for op in graph.get_operations()[before:]]
    assert "Add" not in left
    assert tf.add(x, x).name.startswith("Add")


# ---- names


def test_constants_beside_tensors_are_called_after_the_operation(graph):
    x = tf.placeholder(tf.float32, [2])
    y = x + 1.0
    z = tf.concat([x, [1.0]], 0)
    assert [t.name for t in y.op.inputs] == ["Placeholder:0", "add/y:0"]
    assert z.op.inputs[1].name == "concat/values_1:0"
    assert tf.constant(3).name == "Const:0"
    with tf.name_scope("s"):
        assert (2.0 * x).op.inputs[0].name == "s/mul/x:0"
    tf.constant(1, name="sub/y")
    assert (x - 1.0).op.inputs[1].name == "sub/y_1:0"


# ---- what changes later


def test_set_shape_adds_what_is_known_and_refuses_contradictions(graph):
    x = tf.placeholder(tf.float32, [None, 3])
    x.set_shape([2, None])
    assert x.shape.as_list() == [2, 3]
    unknown = tf.placeholder(tf.float32)
    unknown.set_shape([None, 4])
    assert unknown.shape.as_list() == [None, 4]
    with pytest.raises(ValueError, match="cannot have shape") as caught:
        x.set_shape([5, 3])  # the clash
    assert "Placeholder" in str(caught.value)
    assert x.shape.as_list() == [2, 3]


def test_a_finalized_graph_takes_nothing_but_runs(graph):
    v = tf.Variable(1.0)
    init = tf.global_variables_initializer()
    double = v * 2.0
    graph.finalize()
    assert graph.finalized
    with pytest.raises(RuntimeError, match="finalized"):
        tf.constant(1)
    with tf.Session() as session:
        session.run(init)
        assert session.run([v, "Variable:0", double]) == [1, 1, 2]
        assert session.run(double, {v: 5.0}) == 10


def test_functions_of_device_scopes_see_and_replace_what_is_inside(graph):
    seen = []

    def choose(operation):
        seen.append((operation.type, operation.device))
        return "/cpu:3" if operation.type == "Const" else operation.device

    with tf.device("/job:worker"), tf.device(choose), tf.device("/cpu:1"):
        x = tf.constant(1)
        y = tf.identity(x)
    assert seen == [("Const", "/device:CPU:1"), ("Identity", "/device:CPU:1")]
    assert x.device == "/job:worker/device:CPU:3"
    assert y.device == "/job:worker/device:CPU:1"


def test_colocation_follows_the_operation(graph):
    with tf.device("/cpu:1"):
        x = tf.placeholder(tf.float32, [2])
        v = tf.Variable([1.0, 2.0])
    with tf.colocate_with(v):
        y = tf.exp(x)
    config = tf.ConfigProto(device_count={"CPU": 2})
    with tf.Session(config=config) as session:
        placed = session.placement(y, {x: None}).devices
        assert {d[-5:] for op, d in placed.items() if op.name == y.op.name} == {"CPU:1"}


# ---- size and life


def test_adding_does_not_slow_down_with_the_graph(graph):
    x = tf.zeros([])

    def adding(size):
        def add():
            for _ in range(size):
                tf.negative(x)

        return add

    assert_linear(adding, 1_000)


def test_a_graph_that_nobody_holds_is_freed():
    with tf.Graph().as_default() as graph:
        x = tf.Variable(tf.zeros([2]))
        y = tf.while_loop(lambda i: i < 3, lambda i: i + 1, [0])
        with tf.Session() as session:
            session.run(tf.global_variables_initializer())
            session.run([x, y])
    gone = weakref.ref(graph)
    del graph, x, y, session
    gc.collect()
    assert gone() is None


def test_array_constants_are_copies(graph):
    mine = np.ones(2, np.float32)
    x = tf.constant(mine)
    y = x + mine
    mine[:] = 7
    with tf.Session() as session:
        assert session.run([x, y])[0].tolist() == [1, 1]
        assert session.run(y).tolist() == [2, 2]

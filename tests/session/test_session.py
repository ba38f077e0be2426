"""Session.run: nesting of fetches, feeds of anything, caching, errors with the user's lines."""

from __future__ import annotations

import collections
import pickle
import re

import numpy as np
import pytest

import graphflow as tf


@pytest.fixture
def session():
    with tf.Graph().as_default(), tf.Session() as s:
        yield s


def test_the_readme_program_prints_3(capsys):
    with tf.Graph().as_default():
        a = tf.Variable(1, name="a")
        b = tf.Variable(2, name="b")
        f = a + b
        init = tf.global_variables_initializer()
        with tf.Session():
            init.run()
            print(f.eval())
    assert capsys.readouterr().out == "3\n"


def test_fetches_nest_in_any_way(session):
    Pair = collections.namedtuple("Pair", "left right")
    one, two = tf.constant(1, name="one"), tf.constant([2.0], name="two")
    nothing = tf.no_op()
    got = session.run(
        {"a": one, "b": [two, (one, nothing)], "c": Pair("two:0", {"d": "one:0"}), "e": []}
    )
    assert got["a"] == 1
    assert isinstance(got["a"], np.int32)
    assert got["b"][1] == (1, None)
    assert isinstance(got["c"], Pair)
    np.testing.assert_array_equal(got["c"].left, np.float32([2.0]))
    assert got["c"].right == {"d": 1}
    assert got["e"] == []
    ordered = session.run(collections.OrderedDict([("z", one), ("y", two)]))
    assert list(ordered) == ["z", "y"]


def test_fetches_of_the_users_own_classes(session):
    class Names(list):
        pass

    attr = pytest.importorskip("attr")

    @attr.s(eq=False)
    class Pair:
        first = attr.ib()
        second = attr.ib()

    a, b = tf.constant(1.0), tf.constant(2.0)
    got = session.run(collections.defaultdict(list, x=a))
    assert got == {"x": 1.0}
    assert got["missing"] == []
    assert session.run(collections.Counter({"x": a})) == {"x": 1.0}
    assert session.run(Names([a, [b]])) == [1.0, [2.0]]
    pair = session.run(Pair(a, {"b": b}))
    assert isinstance(pair, Pair)
    assert (pair.first, pair.second) == (1.0, {"b": 2.0})


@pytest.mark.parametrize("what", [{1.0}, np.zeros(2), bytearray(b"x")])
def test_unhashable_fetches_are_named(session, what):
    with pytest.raises(TypeError, match=f"of type {type(what).__name__} is no tensor"):
        session.run(what)


@pytest.mark.parametrize("feeds", [[1.0], {1.0}])
def test_feeds_that_are_no_mapping_are_refused(session, feeds):
    with pytest.raises(TypeError, match="feed_dict must be a mapping"):
        session.run(tf.constant(1.0), feeds)


def test_an_operation_is_fetched_as_none(session):
    assert session.run(tf.no_op(name="n")) is None
    assert session.run("n") is None


def test_a_variable_is_fetched_by_itself_and_by_name(session):
    v = tf.Variable([1.0, 2.0], name="v")
    session.run(v.initializer)
    for fetch in (v, "v:0", v.value(), "v/read:0"):
        np.testing.assert_array_equal(session.run(fetch), [1, 2])


def test_a_variables_name_finds_its_read_behind_bodies_and_in_a_finished_graph(session):
    """Ids count the operations of bodies, too; they are no places in the list of the root."""
    tf.cond(tf.constant(True), lambda: tf.constant(1.0) + 1.0, lambda: tf.constant(2.0))
    v = tf.Variable(3.0, name="v")
    session.run(v.initializer)
    session.graph.finalize()
    assert session.run("v:0") == 3
    assert session.run(v, {"v:0": 4.0}) == 4


def test_scalars_come_back_as_numpy_scalars(session):
    value = session.run(tf.constant(1.5))
    assert isinstance(value, np.float32)
    assert value == 1.5


@pytest.mark.parametrize("what", [None, 3, object(), [object()]])
def test_what_is_no_graph_element_cannot_be_fetched(session, what):
    with pytest.raises(TypeError, match="no tensor, operation, variable or name"):
        session.run(what)


def test_unknown_names_are_value_errors_that_suggest(session):
    tf.constant(1, name="weight")
    with pytest.raises(ValueError, match="did you mean 'weight'"):
        session.run("weigth:0")
    with pytest.raises(ValueError, match="not in the graph"):
        session.run(tf.constant(0), {"gone:0": 1})


def test_a_value_that_took_the_name_of_its_tensor_is_told(session):
    loss = tf.constant(2.0)
    loss = session.run(loss)
    with pytest.raises(TypeError, match="did what `run` returned take a tensor's name"):
        session.run(loss)


def test_a_gradient_that_is_none_says_why():
    x, y = tf.constant(1.0), tf.constant(2.0)
    with tf.Session() as session, pytest.raises(TypeError, match="the result does not depend on"):
        session.run(tf.gradients(x * 3.0, [x, y]))


def test_elements_of_another_graph_are_refused(session):
    with tf.Graph().as_default():
        stranger = tf.placeholder(tf.float32, [])
    built = r"not an element of this graph, but of another one \(built at .*test_session.py:\d+"
    with pytest.raises(ValueError, match=built):
        session.run(stranger)
    with pytest.raises(ValueError, match=built):
        session.run(stranger.op)
    with pytest.raises(ValueError, match="not an element of this graph"):
        session.run(tf.constant(0), {stranger: 1.0})


# ---- feeds


def test_any_tensor_may_be_fed(session):
    x = tf.placeholder(tf.float32, [2])
    y = x * 2.0
    z = tf.reduce_sum(y) + 1.0
    assert session.run(z, {y: [10, 20]}) == 31  # x is not needed
    assert session.run(z, {x: [1, 2], "mul:0": [1, 1]}) == 3
    assert session.run(y, {y: [7, 8]}).tolist() == [7, 8]
    constant = tf.constant(5.0)
    assert session.run(constant + 1.0, {constant: 1.0}) == 2


def test_a_fed_tensor_that_rewriting_would_remove_still_counts(session):
    x = tf.placeholder(tf.float32, [])
    inner = -x
    outer = -inner  # the algebra rules make this x
    assert session.run(outer, {x: 3.0}) == 3
    assert session.run(outer, {x: 3.0, inner: 5.0}) == -5


def test_a_feed_that_is_not_needed_is_ignored(session):
    x = tf.placeholder(tf.float32, [])
    assert session.run(tf.constant(1), {x: 2.0}) == 1


def test_a_fed_variable_hides_its_value(session):
    v = tf.Variable(1.0)
    y = v * 10.0
    assert session.run(y, {v: 2.0}) == 20


def test_feeds_nest(session):
    x, y = tf.placeholder(tf.int32, []), tf.placeholder(tf.int32, [])
    assert session.run(x + y, {(x, y): (1, 2)}) == 3
    assert session.run(x + y, {(x, y): (3, 4)}) == 7


@pytest.mark.parametrize(
    ("dtype", "value", "error"),
    [
        (tf.float32, np.ones(3), ValueError),
        (tf.float32, [[1.0], [2.0, 3.0]], ValueError),
        (tf.int32, [1.5, 2.0], TypeError),
        (tf.int32, np.array([1.5, 2.0]), TypeError),
        (tf.uint8, [300, 1], TypeError),
        (tf.float32, ["a", "b"], TypeError),
        (tf.float32, [1j, 2j], TypeError),
        (tf.bool, [0.5, 0.0], TypeError),
        (tf.int32, [float("nan"), 1.0], TypeError),
        (tf.int32, [2**40, 1], TypeError),
        (tf.int64, [2**70, 1], TypeError),
        (tf.float32, [np.datetime64("2020-01-01")] * 2, TypeError),
        (tf.string, [1, 2], TypeError),
        (tf.float32, None, TypeError),
    ],
)
def test_feeds_that_do_not_fit_name_both_lines(session, dtype, value, error):
    x = tf.placeholder(dtype, [2], name="x")  # built here
    with pytest.raises(error) as caught:
        session.run(x, {x: value})  # run here
    notes = "\n".join(caught.value.__notes__)
    assert "x" in str(caught.value)
    assert "# built here" in notes
    assert "# run here" in notes


@pytest.mark.parametrize(
    ("dtype", "value", "wanted"),
    [
        (tf.float32, True, 1.0),
        (tf.float32, np.bool_(True), 1.0),
        (tf.int32, 3.0, 3),
        (tf.int32, True, 1),
        (tf.bool, 1, True),
        (tf.float32, [np.float64(1), 2], [1, 2]),
        (tf.float32, range(2), [0, 1]),
        (tf.float32, (), []),
        (tf.float32, np.arange(4.0)[::-2], [3, 1]),
        (tf.float32, np.asfortranarray(np.ones((2, 2))), [[1, 1], [1, 1]]),
        (tf.float32, memoryview(np.ones(2)), [1, 1]),
        (tf.float32, np.zeros((0, 3)), []),
        (tf.float32, np.array([1, 2], np.int8), [1, 2]),
        (tf.complex64, 1, 1),
    ],
)
def test_feeds_of_all_kinds(session, dtype, value, wanted):
    x = tf.placeholder(dtype)
    got = session.run(tf.identity(x), {x: value})
    assert got.dtype == dtype.as_numpy_dtype
    np.testing.assert_array_equal(got.tolist(), wanted)


def test_subclasses_of_arrays_become_arrays(session):
    class Celsius(np.ndarray):
        pass

    x = tf.placeholder(tf.float64, [2])
    given = np.array([1.0, 2.0]).view(Celsius)
    assert type(session.run(x, {x: given})) is np.ndarray
    assert type(session.run(x * 2.0, {x: np.ma.masked_array([1.0, 2.0])})) is np.ndarray


def test_read_only_arrays_are_fed_and_come_back_writeable(session):
    x = tf.placeholder(tf.float32, [2])
    mine = np.ones(2, np.float32)
    mine.flags.writeable = False
    for fetch in (x, tf.identity(x), tf.reshape(x, [2, 1]), tf.exp(x)):
        session.run(fetch, {x: mine})[:] = 7
    assert mine.tolist() == [1, 1]


def test_slices_are_fetched_and_fed(session):
    table = tf.Variable([[1.0, 2.0], [3.0, 4.0]])
    session.run(table.initializer)
    (slices,) = tf.gradients(tf.reduce_sum(tf.gather(table, [1, 1])), table)
    got = session.run({"g": [slices]})["g"][0]
    assert isinstance(got, tf.IndexedSlicesValue)
    assert got.values.tolist() == [[1, 1], [1, 1]]
    assert got.indices.tolist() == [1, 1]
    assert got.dense_shape.tolist() == [2, 2]
    dense = tf.convert_to_tensor(slices)
    assert session.run(dense).tolist() == [[0, 0], [2, 2]]
    assert session.run(dense, {slices: got}).tolist() == [[0, 0], [2, 2]]
    other = ([[5.0, 6.0], [0.0, 1.0]], [0, 0], [2, 2])
    assert session.run(dense, {slices: other}).tolist() == [[5, 7], [0, 0]]
    assert session.run(dense, {slices: other[:2]}).tolist() == [[5, 7], [0, 0]]
    with pytest.raises(ValueError, match="values, indices, dense_shape"):
        session.run(dense, {slices: np.ones(3)})
    loose = tf.IndexedSlices([1.0], [0])
    assert session.run(loose) == ([1.0], [0], None)


def test_some_outputs_may_be_fed(session):
    x = tf.placeholder(tf.float32, [2, 3])
    a, b = tf.unstack(x)
    total = a + b
    ones = np.ones((2, 3))
    np.testing.assert_array_equal(session.run(total, {x: ones, a: [1, 2, 3]}), [2, 3, 4])
    np.testing.assert_array_equal(session.run([a, b], {x: ones, a: [1, 2, 3]})[0], [1, 2, 3])
    assert session.run(total, {a: [1, 2, 3], b: [1, 1, 1]}).tolist() == [2, 3, 4]
    slope = tf.gradients(tf.square(a), x)[0]
    assert session.run(slope, {x: ones, a: [3, 4, 5]}).tolist() == [[6, 8, 10], [0, 0, 0]]


def test_merged_operations_name_all_lines(session):
    x = tf.placeholder(tf.int32, [])
    one = tf.floordiv(1, x)  # the first line
    two = tf.floordiv(1, x, name="again")  # the second line
    with pytest.raises(tf.errors.InvalidArgumentError) as caught:
        session.run(one + two, {x: 0})
    notes = "\n".join(caught.value.__notes__)
    assert "# the first line" in notes
    assert re.search("'again' at .*# the second line", notes)


def test_errors_in_bodies_name_the_lines_of_all_loops_and_branches(session):
    x = tf.placeholder(tf.int32, [])

    def body(i):
        return tf.cond(  # the branch
            i > 1,
            lambda: tf.floordiv(6, x),  # the division
            lambda: i + 1,
        )

    loop = tf.while_loop(lambda i: i < 9, body, [0])  # the loop
    with pytest.raises(tf.errors.InvalidArgumentError) as caught:
        session.run(loop, {x: 0})  # the run
    notes = "\n".join(caught.value.__notes__)
    for line in ("the branch", "the division", "the loop", "the run"):
        assert f"# {line}" in notes


def test_errors_have_tensorflows_fields_and_pickle(session):
    x = tf.placeholder(tf.int32, [])
    boom = tf.floordiv(1, x, name="mine")
    with pytest.raises(tf.errors.OpError) as caught:
        session.run(boom, {x: 0})
    error = caught.value
    assert error.op is boom.op
    assert error.node_def == "mine"
    assert error.error_code == tf.errors.INVALID_ARGUMENT
    assert error.message == "integer division by zero"
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is type(error)
    assert (copy.op, copy.node_def, copy.message) == (None, "mine", error.message)
    assert copy.__notes__ == error.__notes__


def test_a_shape_of_the_run_that_does_not_fit_fails(session):
    x = tf.placeholder(tf.float32, [2])
    shape = tf.placeholder_with_default([2], [1])
    for y in (tf.reshape(x, shape), tf.reshape(tf.reshape(x, shape), [2, 1])):
        assert session.run(y, {x: [1, 2]}).size == 2
        with pytest.raises(tf.errors.InvalidArgumentError):
            session.run(y, {x: [1, 2], shape: [3]})


def test_feeds_convert_where_nothing_is_lost(session):
    x = tf.placeholder(tf.int32, [None])
    assert session.run(x, {x: np.array([1.0, 2.0])}).dtype == np.int32
    assert session.run(x, {x: np.array([1, 2], ">i8")}).tolist() == [1, 2]
    y = tf.placeholder(tf.float32, [])
    assert session.run(y, {y: 1}) == 1
    s = tf.placeholder(tf.string, [None])
    assert session.run(s, {s: ["a", b"b"]}).tolist() == [b"a", b"b"]


def test_a_tensor_is_no_feed(session):
    x = tf.placeholder(tf.float32, [])
    with pytest.raises(TypeError, match="fetch the tensor first"):
        session.run(x, {x: tf.constant(1.0)})


def test_an_unfed_placeholder_names_its_line(session):
    x = tf.placeholder(tf.float32, [2], name="x")  # built here
    with pytest.raises(
        tf.errors.InvalidArgumentError, match="feed a value for placeholder tensor 'x'"
    ) as e:
        session.run(x + 1.0)  # run here
    notes = "\n".join(e.value.__notes__)
    assert "# built here" in notes
    assert "# run here" in notes
    assert e.value.op is x.op


# ---- memory


def test_a_fetched_array_is_the_users_own(session):
    v = tf.Variable([1.0, 2.0])
    session.run(v.initializer)
    first = session.run(v)
    first[:] = 99
    assert session.run(v).tolist() == [1, 2]
    constant = tf.constant([1.0, 2.0])
    session.run(constant)[:] = 99
    assert session.run(constant).tolist() == [1, 2]
    updated = session.run(v.assign_add([1.0, 1.0]))
    updated[:] = 99
    assert session.run(v).tolist() == [2, 3]


def test_a_fed_array_stays_the_users_own(session):
    v = tf.Variable([0.0, 0.0])
    x = tf.placeholder(tf.float32, [2])
    assign = v.assign(x)
    mine = np.array([1, 2], np.float32)
    session.run(assign, {x: mine})
    mine[:] = 99
    assert session.run(v).tolist() == [1, 2]


def test_two_fetches_never_share_memory(session):
    x = tf.placeholder(tf.float32, [4])
    y = tf.exp(x)
    flat, square = session.run([y, tf.reshape(y, [2, 2])], {x: [0, 0, 0, 0]})
    flat[:] = 99
    assert square.tolist() == [[1, 1], [1, 1]]
    merged = session.run([tf.exp(x), tf.exp(x)], {x: [0, 0, 0, 0]})  # one op after rewriting
    merged[0][:] = 99
    assert merged[1].tolist() == [1, 1, 1, 1]


def test_what_went_through_a_list_is_shared_with_nobody(session):
    x = tf.placeholder(tf.float32, [2])
    y = tf.exp(x)
    items = tf.TensorArray(tf.float32, 2).write(0, y).write(1, x)
    mine = np.zeros(2, np.float32)
    computed, read, fed = session.run([y, items.read(0), items.read(1)], {x: mine})
    computed[:] = fed[:] = 99
    assert read.tolist() == [1, 1]
    assert mine.tolist() == [0, 0]


# ---- the cache


def test_a_growing_graph_leaves_cached_plans_valid(session):
    x = tf.placeholder(tf.float32, [])
    y = x + 1.0
    assert session.run(y, {x: 1.0}) == 2
    cached = dict(session._cache)
    z = y * 2.0
    assert session.run(y, {x: 2.0}) == 3
    assert session._cache == cached
    assert session.run(z, {x: 1.0}) == 4


def test_set_shape_after_a_run_is_seen(session):
    x = tf.placeholder(tf.float32, [None])
    assert session.run(x, {x: [1.0]}).tolist() == [1]
    x.set_shape([2])
    with pytest.raises(ValueError, match="Cannot feed value of shape"):
        session.run(x, {x: [1.0]})


def test_plans_of_a_graph_that_has_changed_are_dropped(session):
    x = tf.placeholder(tf.float32, None)
    y = x + 1.0
    for size in range(5):
        tf.placeholder(tf.float32, None).set_shape([size])
        assert session.run(y, {x: [1.0]}).tolist() == [2]
    assert len(session._cache) == 1


def test_a_control_input_added_after_a_run_is_seen(session):
    v = tf.Variable(0)
    session.run(v.initializer)
    y = tf.constant(1) + 0
    add = v.assign_add(1)
    session.run(y)
    y.graph.add_control_input(y.op, add.op)
    session.run(y)
    assert session.run(v) == 1


def test_a_cycle_through_control_inputs_names_both_lines(session):
    a = tf.constant(1) + 1  # first
    b = a + 1  # second
    a.graph.add_control_input(a.op, b.op)
    with pytest.raises(ValueError, match="cycle") as caught:
        session.run(b)
    assert "# first" in str(caught.value)
    assert "# second" in str(caught.value)


# ---- lifetime


def test_a_closed_session_does_not_run():
    with tf.Graph().as_default():
        x = tf.constant(1)
        s = tf.Session()
        assert s.run(x) == 1
        s.close()
        s.close()
        with pytest.raises(RuntimeError, match="closed Session"):
            s.run(x)


def test_sessions_have_their_own_state():
    with tf.Graph().as_default():
        v = tf.Variable(0)
        with tf.Session() as one, tf.Session() as two:
            one.run(v.initializer)
            two.run(v.initializer)
            one.run(v.assign_add(5))
            assert one.run(v) == 5
            assert two.run(v) == 0


def test_an_interactive_session_is_the_default():
    with tf.Graph().as_default():
        s = tf.InteractiveSession()
        assert tf.constant(3).eval() == 3
        s.close()
        with pytest.raises(ValueError, match="no default session"):
            tf.constant(3).eval()


def test_eval_and_run_take_a_session():
    with tf.Graph().as_default() as graph:
        v = tf.Variable(4)
    with tf.Session(graph=graph) as s:
        v.initializer.run(session=s)
        assert v.eval(session=s) == 4
        assert (v + 1).eval(session=s) == 5
    with tf.Graph().as_default(), tf.Session() as other, pytest.raises(ValueError, match="another"):
        (v + 1).eval(session=other)


def test_unknown_targets_and_wrong_types_are_refused():
    with pytest.raises(ValueError, match="unknown target"):
        tf.Session("http://nowhere:1")
    with pytest.raises(TypeError, match=r"tf\.Graph"):
        tf.Session(graph="g")
    with pytest.raises(TypeError, match="ConfigProto"):
        tf.Session(config={"device_count": 1})


def test_config_proto_has_tensorflows_fields_and_no_others():
    config = tf.ConfigProto(
        device_count={"CPU": 2},
        intra_op_parallelism_threads=1,
        inter_op_parallelism_threads=1,
        allow_soft_placement=True,
        log_device_placement=False,
    )
    config.gpu_options.allow_growth = True
    with tf.Graph().as_default(), tf.Session(config=config) as s:
        assert len(s.list_devices()) == 2
        assert s.run(tf.constant(1)) == 1
    with pytest.raises(TypeError):
        tf.ConfigProto(alow_soft_placement=True)
    with pytest.raises(AttributeError):
        config.gpu_options.alow_growth = True


def test_placement_can_be_logged(capsys):
    config = tf.ConfigProto(log_device_placement=True)
    with tf.Graph().as_default(), tf.Session(config=config) as s:
        x = tf.placeholder(tf.float32, [])
        s.run(tf.exp(x, name="e"), {x: 0.0})
    assert "e: (Exp): /job:localhost/replica:0/task:0/device:CPU:0" in capsys.readouterr().err


def test_a_full_trace_names_each_kernel(session):
    x = tf.placeholder(tf.float32, [])
    metadata = tf.RunMetadata()
    options = tf.RunOptions(trace_level=tf.RunOptions.FULL_TRACE)
    session.run(tf.exp(x, name="e"), {x: 0.0}, options=options, run_metadata=metadata)
    assert [(s.name, s.op) for s in metadata.step_stats] == [("e", "Exp")]
    assert metadata.step_stats[0].seconds > 0


def test_make_callable(session):
    x = tf.placeholder(tf.float32, [])
    double = session.make_callable(x * 2.0, [x])
    assert double(3.0) == 6
    with pytest.raises(ValueError, match="1 values are needed"):
        double()


# ---- feeds and fetches in odd places


def test_tensors_inside_chains_and_gradients_are_fed(session):
    x = tf.placeholder(tf.float32, [2])
    h = tf.tanh(x, name="h")
    y = tf.reduce_sum((h * 2.0 + 1.0) * 3.0)
    slope_x, slope_h = tf.gradients(y, [x, h])
    assert session.run(y, {h: [1, 2]}) == 24
    assert session.run(slope_x, {x: [0, 0], h: [1, 1]}).tolist() == [0, 0]
    assert session.run(slope_x, {x: [0, 0], slope_h: [5, 5]}).tolist() == [5, 5]
    assert session.run([y, "mul:0"], {x: [0, 0], "mul:0": [1, 1]})[0] == 12
    assert session.run(y, {"add/y:0": 0.0, h: [1, 2]}) == 18


def test_shapes_are_fed(session):
    x = tf.placeholder(tf.float32, [None, 2])
    shape = tf.shape(x)
    y = tf.reshape(x, shape)
    ones = np.ones((3, 2))
    assert session.run(y, {x: ones}).shape == (3, 2)
    assert session.run(shape, {shape: [9, 9]}).tolist() == [9, 9]


def test_initial_values_are_fed(session):
    v = tf.Variable(1.0)
    session.run(v.initializer, {v.initial_value: 5.0})
    assert session.run(v) == 5


def test_what_is_inside_control_flow_is_neither_fetched_nor_fed(session):
    loop = tf.while_loop(lambda i: i < 3, lambda i: i + 1, [0])
    body = next(v for v in loop.op.attrs.values() if isinstance(v, tf.Graph))
    inner = body.operations[-1].outputs[0]
    with pytest.raises(ValueError, match="inside control flow"):
        session.run(inner)
    with pytest.raises(ValueError, match="not in the graph"):
        session.run(loop, {inner: True})
    with pytest.raises(TypeError, match="no tensor, variable or name"):
        session.run(loop, {tf.no_op(): 1})


def test_a_failing_control_input_stops_what_waits_for_it(session):
    x = tf.placeholder(tf.int32, [])
    with tf.control_dependencies([tf.floordiv(1, x), tf.assert_less(x, 9)]):
        y = tf.constant(5) + 0
    assert session.run(y, {x: 1}) == 5
    with pytest.raises(tf.errors.InvalidArgumentError, match="division by zero"):
        session.run(y, {x: 0})
    with pytest.raises(tf.errors.InvalidArgumentError, match="x < y did not hold"):
        session.run(y, {x: 9})


def test_memory_that_is_not_there_is_a_typed_error(session):
    size = tf.placeholder(tf.int32, [])
    big = tf.ones([size, size])  # too big
    with pytest.raises(tf.errors.ResourceExhaustedError) as caught:
        session.run(tf.reduce_sum(big), {size: 10**7})
    assert "# too big" in "\n".join(caught.value.__notes__)
    with pytest.raises(tf.errors.InvalidArgumentError, match="negative"):
        session.run(big, {size: -1})

"""Saver: what a session holds goes to disk and comes back."""

from __future__ import annotations

import numpy as np
import pytest

import graphflow as tf
from graphflow import checkpoint


@pytest.fixture(autouse=True)
def graph():
    with tf.Graph().as_default() as g:
        yield g


def test_values_come_back_in_another_session(tmp_path):
    w = tf.Variable([1.0, 2.0], name="w")
    n = tf.Variable(3, name="n")
    s = tf.Variable("text", name="s")
    saver = tf.train.Saver()
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        session.run(w.assign([5.0, 6.0]))
        path = saver.save(session, str(tmp_path / "model.ckpt"), global_step=n)
        assert path == str(tmp_path / "model.ckpt-3")
    with tf.Session() as session:
        saver.restore(session, tf.train.latest_checkpoint(str(tmp_path)))
        assert session.run(w).tolist() == [5, 6]
        assert session.run([n, s]) == [3, b"text"]
    assert tf.train.list_variables(str(tmp_path)) == [("n", []), ("s", []), ("w", [2])]
    np.testing.assert_array_equal(tf.train.load_variable(str(tmp_path), "w"), [5, 6])


def test_a_checkpoint_tells_which_plan_its_values_are_of(tmp_path):
    def saved(device, name):
        with tf.Graph().as_default(), tf.device(device):
            w = tf.Variable([1.0, 2.0], name="w")
            step = w.assign(tf.square(w) + w)
            config = tf.ConfigProto(device_count={"CPU": 2})
            with tf.Session(config=config) as session:
                session.run(w.initializer)
                session.run(step)
                path = tf.train.Saver().save(session, str(tmp_path / name))
                plan = session.placement(step).digest
        metadata = checkpoint.Reader(path).manifest.metadata
        assert metadata == {"plan": plan, "numerics": session.numerics._asdict()}
        return plan

    assert saved("/cpu:0", "a") == saved("/cpu:0", "b") != saved("/cpu:1", "c")


def test_restoring_tells_where_the_last_bits_may_differ(tmp_path, monkeypatch, caplog):
    w = tf.Variable([1.0, 2.0], name="w")
    saver = tf.train.Saver()
    monkeypatch.setenv("GRAPHFLOW_TIER", "native")
    with tf.Session() as session:
        session.run(w.initializer)
        path = saver.save(session, str(tmp_path / "m"))
    for tier, told in (("native", 0), ("reference", 1)):
        monkeypatch.setenv("GRAPHFLOW_TIER", tier)
        with tf.Session() as session:
            saver.restore(session, path)
        assert len(caplog.messages) == told
    assert "tier 'native', now 'reference'" in caplog.messages[0]


def test_saving_tells_where_another_plan_has_run_than_before(tmp_path, caplog):
    w = tf.Variable([1.0, 2.0], name="w")
    step = w.assign(tf.square(w) + w)
    saver = tf.train.Saver()

    def go_on(name, restored=None):
        with tf.Session() as session:
            if restored is None:
                session.run(w.initializer)
            else:
                saver.restore(session, restored)
            session.run(step if name != "other" else step + tf.square(w))
            return saver.save(session, str(tmp_path / name))

    path = go_on("first")
    go_on("same", path)
    assert not caplog.messages
    go_on("other", path)
    assert caplog.messages == [f"since {path} was restored, another plan has run than before it"]


def test_only_the_last_checkpoints_stay(tmp_path):
    tf.Variable(1.0)
    saver = tf.train.Saver(max_to_keep=2)
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        paths = [saver.save(session, str(tmp_path / "m"), global_step=i) for i in range(4)]
    assert saver.last_checkpoints == paths[2:]
    assert [tf.train.checkpoint_exists(p) for p in paths] == [False, False, True, True]
    state = tf.train.get_checkpoint_state(str(tmp_path))
    assert state.model_checkpoint_path == paths[3]
    assert state.all_model_checkpoint_paths == paths[2:]


def test_names_map_to_variables(tmp_path):
    a = tf.Variable(1.0, name="a")
    b = tf.Variable(2.0, name="b")
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        tf.train.Saver({"x": a}).save(session, str(tmp_path / "m"))
        tf.train.Saver({"x": b}).restore(session, str(tmp_path / "m"))
        assert session.run([a, b]) == [1, 1]


def test_a_restore_that_does_not_fit_changes_nothing(tmp_path):
    a = tf.Variable(1.0, name="a")
    b = tf.Variable([1.0], name="b")
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        path = tf.train.Saver([a, b]).save(session, str(tmp_path / "m"))
    with tf.Graph().as_default():
        a = tf.Variable(9.0, name="a")
        b = tf.Variable([9.0, 9.0], name="b")  # another shape
        with tf.Session() as session:
            session.run(tf.global_variables_initializer())
            with pytest.raises(
                tf.errors.InvalidArgumentError, match=r"float32\[2\].*float32\[1\]"
            ) as e:
                tf.train.Saver([a, b]).restore(session, path)
            assert "# another shape" in str(e.value)
            assert session.run(a) == 9
            extra = tf.Variable(1.0, name="extra")
            with pytest.raises(tf.errors.NotFoundError, match="no 'extra'; it has a, b"):
                tf.train.Saver([a, extra]).restore(session, path)
            with pytest.raises(tf.errors.NotFoundError, match="no checkpoint"):
                tf.train.Saver([a]).restore(session, path + "x")
            with pytest.raises(ValueError, match="not None"):
                tf.train.Saver([a]).restore(session, None)


def test_shapes_may_change_where_asked(tmp_path):
    v = tf.Variable([[1.0, 2.0]], name="v")
    with tf.Session() as session:
        session.run(v.initializer)
        path = tf.train.Saver().save(session, str(tmp_path / "m"))
    with tf.Graph().as_default(), tf.Session() as session:
        v = tf.Variable([0.0, 0.0], name="v")
        tf.train.Saver(reshape=True).restore(session, path)
        assert session.run(v).tolist() == [1, 2]


def test_what_cannot_be_saved_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no variables to save"):
        tf.train.Saver()
    with pytest.raises(TypeError, match=r"no tf\.Variable"):
        tf.train.Saver([tf.constant(1)])
    v = tf.Variable(1.0, name="v")
    with tf.Session() as session, pytest.raises(tf.errors.FailedPreconditionError, match="v"):
        tf.train.Saver().save(session, str(tmp_path / "m"))
    assert v.op.name == "v"
    assert not list(tmp_path.iterdir())


def test_saving_over_the_same_name_again_and_again(tmp_path):
    v = tf.Variable(0)
    saver = tf.train.Saver()
    add = v.assign_add(1)
    with tf.Session() as session:
        session.run(v.initializer)
        for _ in range(7):
            session.run(add)
            path = saver.save(session, str(tmp_path / "m"))
        assert len(list(tmp_path.iterdir())) == 3  # index, payload, state
        session.run(v.assign(0))
        saver.restore(session, path)
        assert session.run(v) == 7


def test_variables_that_begin_with_one_tensor_are_restored_apart(tmp_path):
    start = tf.zeros([2])
    a, b = tf.Variable(start, name="a"), tf.Variable(start, name="b")
    saver = tf.train.Saver()
    tf.get_default_graph().finalize()
    with tf.Session() as session:
        a.load([1.0, 2.0], session)
        b.load([3.0, 4.0], session)
        path = saver.save(session, str(tmp_path / "m"))
    with tf.Session() as session:
        saver.restore(session, path)
        assert [v.tolist() for v in session.run([a, b])] == [[1, 2], [3, 4]]


def test_dtypes_that_numpy_lacks_and_names_like_those_of_parts(tmp_path):
    half = tf.Variable(tf.cast([1.5, -2.0], tf.bfloat16), name="half")
    text = tf.Variable([b"x", b"yz"], name="s")
    plain = tf.Variable([1.0], name="s/text")
    saver = tf.train.Saver()
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        want = session.run([half, text, plain])
        path = saver.save(session, str(tmp_path / "m"))
    with tf.Session() as session:
        saver.restore(session, path)
        for got, value in zip(session.run([half, text, plain]), want, strict=True):
            assert got.dtype == value.dtype
            np.testing.assert_array_equal(got, value)


def test_a_step_may_be_what_a_session_gave(tmp_path):
    step = tf.train.get_or_create_global_step()
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        path = tf.train.Saver().save(session, str(tmp_path / "m"), session.run(step))
    assert path == str(tmp_path / "m-0")

"""TensorFlow's namespaces: every row of the tables leads somewhere."""

from __future__ import annotations

import json
import subprocess
import sys
import unittest

import numpy as np
import pytest

import graphflow as tf
from graphflow.compat import legacy, namespaces

ROWS = [
    (space, name)
    for space in sorted({*namespaces.SHARED, *namespaces.RENAMED})
    for name in dir(namespaces.find(space))
]


@pytest.mark.parametrize(("space", "name"), ROWS)
def test_every_row_leads_somewhere(space, name):
    assert getattr(getattr(tf, space), name) is not None


def test_names_are_those_of_the_top_level():
    assert tf.math.add is tf.add
    assert tf.math.softmax is tf.nn.softmax
    assert tf.linalg.inv is tf.matrix_inverse
    assert tf.random.normal is tf.random_normal
    assert tf.math is tf.math
    with pytest.raises(AttributeError, match=r"graphflow.math.*no attribute 'nonsense'"):
        _ = tf.math.nonsense


@pytest.mark.parametrize("name", legacy.INSTEAD)
def test_what_is_missing_names_what_does_the_same(name):
    with pytest.raises(AttributeError, match=f"no attribute '{name}': use "):
        getattr(tf, name)


def test_namespaces_load_nothing_before_they_are_asked_for():
    code = (
        "import sys, graphflow as tf; tf.math.add; print('graphflow.compat.testing' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_a_timeline_of_a_traced_run():
    with tf.Graph().as_default(), tf.Session() as session:
        metadata = tf.RunMetadata()
        options = tf.RunOptions(trace_level=tf.RunOptions.FULL_TRACE)
        x = tf.placeholder(tf.float32, [])
        session.run(tf.exp(x, name="e"), {x: 0.0}, options=options, run_metadata=metadata)
    text = tf.client.timeline.Timeline(metadata.step_stats).generate_chrome_trace_format()
    events = json.loads(text)["traceEvents"]
    (event,) = [e for e in events if e["ph"] == "X"]
    assert (event["name"], event["args"]["name"]) == ("Exp", "e")
    assert event["dur"] > 0


class _Case(tf.test.TestCase):
    __test__ = False  # run below

    def test_sessions_and_comparisons(self):
        v = tf.Variable([1.0, 2.0])
        with self.test_session() as session:
            v.initializer.run()
            self.assertAllClose(v.eval(), [1.0, 2.0])
        with self.cached_session() as again:
            assert again is session
            self.assertAllEqual(again.run(v), [1.0, 2.0])
        self.assertAllClose({"a": [np.ones(2), 1.0]}, {"a": [np.ones(2), 1.0]})
        with pytest.raises(AssertionError):
            self.assertAllClose([1.0], [1.1])
        with pytest.raises(AssertionError):
            self.assertAllEqual([1.0], [1.0, 1.0])
        with pytest.raises(AssertionError):
            self.assertShapeEqual(np.ones(2), tf.zeros([3]))

    def test_starts_with_an_empty_graph(self):
        assert tf.get_default_graph().get_operations() == []


def test_test_cases_run():
    result = unittest.TestResult()
    unittest.defaultTestLoader.loadTestsFromTestCase(_Case).run(result)
    assert result.testsRun == 3
    assert len(result.skipped) == 1  # test_session, which is none
    assert result.wasSuccessful(), [text for _, text in result.failures + result.errors]


def test_the_gradient_checker_is_there():
    with tf.Graph().as_default(), tf.Session():
        x = tf.constant([1.0, 2.0])
        assert tf.test.compute_gradient_error(x, [2], tf.square(x), [2]) < 1e-2

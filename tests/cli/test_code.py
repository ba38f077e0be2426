"""`graphflow inspect --code`: what became of a program's steps, and of graphs in files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import graphflow as tf
from graphflow.cli import main

PROGRAM = """
import numpy as np
import tensorflow as tf

x = tf.placeholder(tf.float32, [None, 6], name="x")
w = tf.Variable(np.ones((6, 4), np.float32), name="w")
hidden = tf.tanh(tf.matmul(x, w) * 2.0, name="hidden")
lost = tf.reduce_sum(tf.math.lgamma(hidden + 2.0, name="lost"))
step = w.assign_sub(tf.gradients(lost, w)[0])
with tf.Session() as session:
    session.run(tf.global_variables_initializer())
    session.run(step, {x: np.ones((3, 6))})
"""


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.delenv("GRAPHFLOW_TIER", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    path = tmp_path / "program.py"
    path.write_text(PROGRAM)
    with tf.Graph().as_default():
        yield str(path)


def test_a_program_is_explained_by_its_lines(script, capsys):
    assert main(["inspect", "--code", "fused", script]) == 0
    told = capsys.readouterr().out
    assert "native code" in told
    assert "hidden = tf.tanh(" in told
    assert "program.py:7" in told
    assert "product [3, 4]" in told
    assert "arena of " in told
    assert "call their reference kernels" in told


@pytest.mark.parametrize(
    ("what", "text"),
    [
        ("memory", "alive at the worst moment"),
        ("ir", "for each column"),
        ("llvm", "define void @step"),
        ("assembly", "step:"),
        ("cuda", "__global__"),
    ],
)
def test_each_form_of_the_code(script, capsys, what, text):
    assert main(["inspect", "--code", what, script]) == 0
    assert text in capsys.readouterr().out


def test_a_saved_graph(script, tmp_path, capsys):
    x = tf.placeholder(tf.float32, [None, 6], name="x")
    tf.add(tf.tanh(x, name="t") * 3.0, 1.0, name="y")
    for name, as_text in (("graph.pb", False), ("graph.pbtxt", True)):
        tf.train.write_graph(tf.get_default_graph(), str(tmp_path), name, as_text=as_text)
        assert main(["inspect", "--shape", "x=5,6", str(tmp_path / name)]) == 0
        told = capsys.readouterr().out
        assert "'x:0' (5, 6)" in told
        assert "Tanh 't'" in told
    assert main(["inspect", "--fetch", "t:0", str(tmp_path / "graph.pb")]) == 0
    told = capsys.readouterr().out
    assert "'x:0' (1, 6)" in told
    assert "'y'" not in told


def test_what_cannot_be_explained_says_why(script, tmp_path, capsys):
    def refused(*arguments: str) -> str:
        assert main(["inspect", *arguments]) == 2
        return capsys.readouterr().err

    tf.Variable(1.0, name="v")
    tf.train.write_graph(tf.get_default_graph(), str(tmp_path), "v.pb", as_text=False)
    bad = tmp_path / "bad.pb"
    bad.write_bytes(b"no graph")
    quiet = tmp_path / "quiet.py"
    quiet.write_text("pass")
    assert "is no GraphDef" in refused(str(bad))
    assert "No such file" in refused(str(tmp_path / "missing.pb"))
    assert "no placeholder z" in refused("--shape", "z=2", str(tmp_path / "v.pb"))
    assert "write NAME=2,3" in refused("--shape", "x", str(tmp_path / "v.pb"))
    assert "ran no session" in refused("--code", "ir", str(quiet))

"""Flags, app, logging and files, as TensorFlow's programs use them; and the stand-in module."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import graphflow as tf
from graphflow.compat import gfile, logs

ROOT = str(Path(__file__).parents[2])


def run_program(tmp_path, text, *arguments):
    path = tmp_path / "program.py"
    path.write_text(textwrap.dedent(text))
    return subprocess.run(
        [sys.executable, "-m", "graphflow.cli", "run", str(path), *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": ROOT},
        check=False,
    )


PROGRAM = """
    import tensorflow as tf
    from tensorflow.python.framework import ops
    from tensorflow.contrib import rnn

    flags = tf.app.flags
    flags.DEFINE_integer("steps", 3, "how many")
    flags.DEFINE_float("rate", 1, "how fast")
    flags.DEFINE_boolean("loud", False, "how loud")
    flags.DEFINE_string("name", None, "who")
    flags.DEFINE_list("sizes", "1,2", "which")
    flags.mark_flag_as_required("name")
    FLAGS = flags.FLAGS

    def main(argv):
        ops.reset_default_graph()
        print(FLAGS.steps, FLAGS.rate, FLAGS.loud, FLAGS.name, FLAGS.sizes, argv[1:])
        assert rnn.BasicLSTMCell is tf.nn.rnn_cell.BasicLSTMCell
        with tf.Session() as sess:
            print(sess.run(tf.constant("out")))

    if __name__ == "__main__":
        tf.app.run()
"""


def test_a_program_with_flags_runs_unmodified(tmp_path):
    got = run_program(tmp_path, PROGRAM, "--steps=5", "--loud", "--name", "me", "rest")
    assert got.stdout == "5 1.0 True me ['1', '2'] ['rest']\nb'out'\n", got.stderr
    assert got.returncode == 0
    got = run_program(tmp_path, PROGRAM, "--name=me", "--noloud", "--sizes=7")
    assert got.stdout.startswith("3 1.0 False me ['7'] []")


def test_help_prints_the_flags_and_runs_nothing(tmp_path):
    got = run_program(tmp_path, PROGRAM, "--name=me", "--help")
    assert got.returncode == 0, got.stderr
    assert "--steps" in got.stdout
    assert "how many" in got.stdout
    assert "b'out'" not in got.stdout


def test_wrong_flags_are_said(tmp_path):
    got = run_program(tmp_path, PROGRAM, "--steps=many", "--name=me")
    assert got.returncode == 2
    assert "--steps" in got.stderr
    got = run_program(tmp_path, PROGRAM)
    assert got.returncode == 2
    assert "flags are required: --name" in got.stderr


def test_a_missing_module_names_what_does_the_same(tmp_path):
    program = """
        try:
            import tensorflow.nonsense
        except ImportError:
            print("without")
        from tensorflow.examples.tutorials.mnist import input_data
    """
    got = run_program(tmp_path, program)
    assert got.stdout == "without\n", got.stderr
    assert "graphflow stands for tensorflow here" in got.stderr
    assert "use graphflow.datasets.mnist" in got.stderr


def test_a_program_that_is_not_there(tmp_path):
    got = run_program(tmp_path / "..", "")
    missing = subprocess.run(
        [sys.executable, "-m", "graphflow.cli", "run", str(tmp_path / "none.py")],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": ROOT},
        check=False,
    )
    assert missing.returncode == 2
    assert "there is no file" in missing.stderr
    assert got.returncode == 0


def test_values_of_flags_may_be_set_and_asked_for():
    flags = tf.flags
    flags.DEFINE_integer("test_count", 4, "")
    flags.FLAGS(["program", "--test_count=6", "rest"])
    assert flags.FLAGS.test_count == 6
    flags.FLAGS.test_count = 9
    assert flags.FLAGS.flag_values_dict()["test_count"] == 9
    assert "test_count" in flags.FLAGS
    with pytest.raises(AttributeError, match="no flag is called 'nothing'"):
        flags.FLAGS.nothing  # noqa: B018


def test_messages_go_to_the_logger_graphflow(caplog):
    before = logs.get_verbosity()
    try:
        with caplog.at_level(logging.DEBUG, "graphflow"):
            tf.logging.set_verbosity(tf.logging.WARN)
            tf.logging.info("quiet")
            tf.logging.warning("loud %d", 1)
            for _ in range(3):
                tf.logging.log_first_n(tf.logging.ERROR, "twice", 2)
    finally:
        logs.set_verbosity(before)
    assert [r.getMessage() for r in caplog.records] == ["loud 1", "twice", "twice"]


def test_files_and_folders(tmp_path):
    folder = tmp_path / "a" / "b"
    tf.gfile.MakeDirs(str(folder))
    tf.gfile.MakeDirs(str(folder))
    name = str(folder / "text")
    with tf.gfile.GFile(name, "w") as file:
        file.write("one\ntwo ü\n")
    assert tf.gfile.Exists(name)
    assert tf.gfile.IsDirectory(str(folder))
    with tf.gfile.FastGFile(name, "rb") as file:
        assert file.read() == "one\ntwo ü\n".encode()
    with tf.gfile.Open(name) as file:
        assert list(file) == ["one\n", "two ü\n"]
        assert file.size() == 11
    tf.gfile.Copy(name, name + "2")
    with pytest.raises(tf.errors.AlreadyExistsError):
        tf.gfile.Copy(name, name + "2")
    tf.gfile.Rename(name + "2", name, overwrite=True)
    assert tf.gfile.ListDirectory(str(folder)) == ["text"]
    assert tf.gfile.Glob(str(folder / "t*")) == [name]
    tf.gfile.Remove(name)
    with pytest.raises(tf.errors.NotFoundError):
        gfile.GFile(name).read()
    with pytest.raises(tf.errors.NotFoundError):
        tf.gfile.Remove(name)
    tf.gfile.DeleteRecursively(str(tmp_path / "a"))
    assert not tf.gfile.Exists(str(folder))

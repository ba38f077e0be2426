"""`graphflow trace` and the progress of `graphflow run`."""

from __future__ import annotations

import io
import json
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

import graphflow as tf
from graphflow.cli import main, progress
from graphflow.compat import standin

PROGRAM = """
import tensorflow as tf
with tf.device("/cpu:0"):
    x = tf.random_normal([200, 200], seed=1)
with tf.device("/cpu:1"):
    y = tf.reduce_sum(tf.matmul(x, x))
with tf.Session(config=tf.ConfigProto(device_count={"CPU": 2})) as session:
    for _ in range(5):
        session.run(y)
"""


@pytest.fixture
def program(monkeypatch: Any, tmp_path: Path) -> Iterator[Path]:
    monkeypatch.setattr(sys, "argv", list(sys.argv))
    monkeypatch.setattr(sys, "path", list(sys.path))
    path = tmp_path / "program.py"
    path.write_text(PROGRAM)
    with tf.Graph().as_default():
        yield path
    standin.uninstall()


def test_trace_tells_how_devices_spent_a_step(program, tmp_path, capsys):
    saved = tmp_path / "trace.json"
    assert main(["trace", "--save", str(saved), str(program)]) == 0
    out = capsys.readouterr().out
    assert "run 5 times" in out
    assert all(word in out for word in ("compute", "transfer", "wait", "idle", "CPU:0", "CPU:1"))
    bars = [e for e in json.loads(saved.read_text())["traceEvents"] if e["ph"] == "X"]
    assert {e["name"] for e in bars} >= {"MatMul", "Send", "Recv"}


def test_a_program_without_sessions_has_nothing_to_trace(program, capsys):
    program.write_text("print('hello')")
    assert main(["trace", str(program)]) == 2
    assert "nothing to trace" in capsys.readouterr().err


def test_progress_counts_runs_and_shows_one_that_is_late(monkeypatch):
    monkeypatch.setattr(progress, "LATE", 0.05)
    screen = Console(file=io.StringIO(), width=100)
    inside, go = threading.Event(), threading.Event()

    def slow() -> Any:
        inside.set()
        go.wait(20)
        return 1.0

    with tf.Graph().as_default(), progress.progress(screen) as counter:
        y = tf.py_func(slow, [], tf.float32)
        bad = tf.Assert(False, ["no"])
        with tf.Session() as session:
            with pytest.raises(tf.errors.InvalidArgumentError):
                session.run(bad)
            thread = threading.Thread(target=session.run, args=(y,))
            thread.start()
            assert inside.wait(20)
            threading.Event().wait(0.1)
            seen = Console(file=io.StringIO(), width=100)
            seen.print(counter)
            go.set()
            thread.join(20)
    assert "waiting for" in seen.file.getvalue()  # type: ignore[attr-defined]
    assert (counter.done, counter.failed) == (2, 1)


def test_a_task_prints_how_it_gets_on(program, capsys, monkeypatch):
    monkeypatch.setattr(progress, "EVERY", 0.05)
    program.write_text(PROGRAM + "        __import__('time').sleep(0.05)\n")
    assert progress.in_task(str(program), []) == 0
    *lines, last = capsys.readouterr().err.splitlines()
    assert lines
    assert last.startswith("5 runs, ")
    program.write_text("pass")
    assert progress.in_task(str(program), []) == 0
    assert capsys.readouterr().err == ""

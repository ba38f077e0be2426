"""Sessions whose process ends, and is started again from the top."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

import graphflow as tf
from graphflow.base import errors
from graphflow.checkpoint import files, tree
from graphflow.checkpoint.record import RecordFile
from graphflow.execute.numerics import Numerics
from graphflow.session import resume
from tests.distribute.in_process import InProcess

STEPS = 23


class Stop(Exception):
    """The process ends here, as far as the session can tell."""


@pytest.fixture
def graph() -> Iterator[None]:
    with tf.Graph().as_default():
        yield


def program(folder: Any, stop: int = STEPS, cluster: Any = None, **options: Any) -> list[Any]:
    """Train with random numbers and a queue; ends after `stop` steps as if it had crashed."""
    rng = np.random.default_rng(0)
    with tf.Graph().as_default():
        x = tf.placeholder(tf.float32, [None, 3])
        w = tf.Variable(tf.truncated_normal([3, 2], seed=1))
        queue = tf.RandomShuffleQueue(64, 3, [tf.float32], shapes=[[]], seed=4)
        put = queue.enqueue(tf.random_uniform([]))
        loss = tf.reduce_sum(tf.nn.dropout(tf.matmul(x, w), 0.5) ** 2) + queue.dequeue()
        train = tf.train.AdamOptimizer(0.1).minimize(loss)
        session = tf.Session(cluster=cluster, resume=folder, resume_every=5, **options)
        try:
            found = [session.run(tf.global_variables_initializer())]
            for _ in range(6):
                session.run(put)
            for step in range(STEPS):
                if step == stop:
                    raise Stop
                feed = {x: rng.normal(size=(step % 4 + 1, 3))}
                found.append(session.run([loss, train], feed)[0])
                session.run(put)
            return [*found, *session.run([w, queue.size()])]
        finally:
            session.close()


def same(one: list[Any], other: list[Any]) -> None:
    for a, b in zip(one, other, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("stop", [0, 1, 7, 15])
def test_a_script_goes_on_where_it_was(tmp_path, stop):
    wanted = program(tmp_path / "whole", seed=5)
    with pytest.raises(Stop):
        program(tmp_path / "cut", stop, seed=5)
    same(program(tmp_path / "cut"), wanted)
    same(program(tmp_path / "cut"), wanted)  # and where it was done already


def test_a_session_on_workers_goes_on_with_other_workers(tmp_path):
    wanted = program(tmp_path / "whole", seed=5)
    with InProcess(2, every=4) as cluster, pytest.raises(Stop):
        program(tmp_path / "cut", 12, cluster, seed=5)
    with InProcess(2, every=4) as cluster:
        (tmp_path / "cut" / "note").write_text("ours is not the only file")
        same(program(tmp_path / "cut", cluster=cluster), wanted)
    with InProcess(3, every=4) as cluster, pytest.raises(Stop):
        program(tmp_path / "three", 12, cluster, seed=5)
    with (
        InProcess(2, every=4) as cluster,
        pytest.raises(errors.InvalidArgumentError, match=r"state is that of workers .*task:2, "),
    ):
        program(tmp_path / "three", cluster=cluster)


def test_gradients_that_were_given_are_there_when_a_script_goes_on(tmp_path):
    def script(stop: int) -> list[float]:
        with tf.Graph().as_default(), tf.Session(resume=tmp_path, resume_every=3) as session:
            dense = tf.ConditionalAccumulator(tf.float32, [])
            rows = tf.SparseConditionalAccumulator(tf.float32, [4])
            x = tf.placeholder(tf.float32, [])
            row = [tf.constant([2], tf.int64), tf.reshape(x, [1]), [4]]
            gives = [dense.apply_grad(x, 0, rank=0), rows.apply_grad(*row, 0, rank=0)]
            for step in range(stop):
                session.run(gives, {x: step})
            return session.run([dense.take_grad(5), rows.take_grad(5)[1]]) if stop == 5 else []

    script(4)
    dense, rows = script(5)
    assert (dense, rows.tolist()) == (2.0, [2.0])


def test_runs_before_the_last_state_are_not_executed_again(tmp_path, monkeypatch):
    from graphflow.execute.local import LocalExecutable

    with pytest.raises(Stop):
        program(tmp_path, 20)
    runs = []
    real = LocalExecutable.run
    monkeypatch.setattr(LocalExecutable, "run", lambda *a, **k: runs.append(1) or real(*a, **k))
    with pytest.raises(Stop):
        program(tmp_path, 20)
    assert 0 < len(runs) <= 5
    states = [p.name for p in tmp_path.iterdir() if p.name.startswith("state-")]
    assert len([name for name in states if name.endswith(".index")]) == 1


def test_another_script_is_told_so(tmp_path, graph):
    with pytest.raises(Stop):
        program(tmp_path, 12)
    with (
        tf.Session(resume=tmp_path) as session,
        pytest.raises(errors.FailedPreconditionError, match=r"run 1 of this script is .*another"),
    ):
        session.run(tf.constant(1.0))


def test_other_feeds_are_told_so(tmp_path, graph):
    x = tf.placeholder(tf.float32, [])
    double = 2 * x
    for value in (1.0, 2.0):
        with tf.Session(resume=tmp_path, resume_every=1) as session:
            if value == 1.0:
                assert session.run(double, {x: value}) == 2.0
            else:
                with pytest.raises(errors.FailedPreconditionError, match="feeds other values"):
                    session.run(double, {x: value})
                assert session.run(double, {x: 1.0}) == 2.0  # nothing has happened


def trained(folder: Any, power: int = 2, rate: float = 0.1, back: bool = False) -> float:
    """The same names, whatever is computed."""
    with tf.Graph().as_default(), tf.Session(resume=folder, resume_every=3) as session:
        w = tf.Variable(1.0)
        square = tf.while_loop(
            lambda i, _: i < power, lambda i, x: (i + 1, (i if back else x) * x), (1.0, w)
        )
        step = tf.train.GradientDescentOptimizer(rate).minimize(square[1])
        session.run(w.initializer)
        for _ in range(2):
            session.run(step)
        return float(session.run(w))


@pytest.mark.parametrize("other", [{"power": 3}, {"rate": 0.2}, {"back": True}], ids=str)
def test_a_script_that_was_changed_is_told_so(tmp_path, other):
    """Also where what was done is answered from the folder."""
    value = trained(tmp_path)
    with pytest.raises(errors.FailedPreconditionError, match="run 2 of this script computes some"):
        trained(tmp_path, **other)
    assert trained(tmp_path) == value


@pytest.mark.parametrize("dtype", [tf.float64, tf.float32, tf.int64, tf.bool])
def test_scalars_come_back_as_they_were(tmp_path, graph, dtype):
    x = tf.placeholder(dtype, [])
    y = tf.identity(x)
    fetched = []
    for _ in range(2):
        with tf.Session(resume=tmp_path, resume_every=1) as session:
            fetched.append(session.run(y, {x: 1}))
    first, again = fetched
    assert type(again) is type(first)
    assert again.tobytes() == first.tobytes()


def test_what_depends_on_more_is_found_out(tmp_path, graph):
    calls = iter(range(10))
    value = tf.py_func(lambda: np.float32(next(calls)), [], tf.float32)
    with tf.Session(resume=tmp_path) as session:
        session.run(value)
    with (
        tf.Session(resume=tmp_path) as session,
        pytest.raises(errors.InternalError, match="run 1 gives other values"),
    ):
        session.run(value)


def test_errors_come_again(tmp_path, graph):
    x = tf.placeholder(tf.int32, [1])
    bad, text = tf.reshape(tf.zeros([4]), x), tf.constant([b"text"])
    for _ in range(2):
        with tf.Session(resume=tmp_path, resume_every=1) as session:
            with pytest.raises(errors.InvalidArgumentError):
                session.run(bad, {x: [3]})
            assert session.run(text)[0] == b"text"


def test_other_libraries_and_seeds_are_told_so(tmp_path, graph, monkeypatch):
    monkeypatch.setenv("GRAPHFLOW_TIER", "auto")
    tf.Session(resume=tmp_path, seed=1).close()
    with pytest.raises(ValueError, match="seed 1, not 2"):
        tf.Session(resume=tmp_path, seed=2)
    monkeypatch.setenv("GRAPHFLOW_TIER", "reference")
    with pytest.raises(errors.FailedPreconditionError, match="tier was 'native', is 'reference'"):
        tf.Session(resume=tmp_path)


def test_a_session_goes_on_with_the_tier_that_it_began_with(tmp_path, graph, monkeypatch):
    monkeypatch.setenv("GRAPHFLOW_TIER", "reference")
    tf.Session(resume=tmp_path, seed=1).close()
    monkeypatch.setenv("GRAPHFLOW_TIER", "auto")
    with tf.Session(resume=tmp_path) as session:
        assert session._target.numerics.tier == "reference"


def test_a_folder_of_another_form_is_refused(tmp_path, graph, monkeypatch):
    tf.Session(resume=tmp_path / "now").close()
    now = resume.FORM
    monkeypatch.setattr(resume, "FORM", now + 1)
    told = (
        f"runs holds runs of a session, form {now}, and .* reads runs of a session, "
        f"form {now + 1}: go on with"
    )
    with pytest.raises(errors.FailedPreconditionError, match=told):
        tf.Session(resume=tmp_path / "now")
    (tmp_path / "before").mkdir()
    formless = RecordFile(str(tmp_path / "before" / "runs"), "", 0)
    formless._first = [1, ["reference", 1, "NumPy", ""]]  # seed and numeric plan
    formless.open()
    formless.close()
    with pytest.raises(errors.FailedPreconditionError, match="holds records without a form"):
        tf.Session(resume=tmp_path / "before")


def test_a_folder_of_a_later_form_is_refused_whatever_it_holds(tmp_path, monkeypatch):
    class Later(NamedTuple):
        number: int

    path = str(tmp_path / "runs")
    later = RecordFile(path, "runs of a session", resume.FORM + 1)
    with monkeypatch.context() as patch:
        patch.setitem(tree._TUPLES, "Later", Later)
        later.open()
        later.append([Later(1)])
        later.close()
    with pytest.raises(errors.FailedPreconditionError, match=f"form {resume.FORM + 1}, and this"):
        tf.Session(resume=tmp_path)


_QUEUE = "_came _drawn _items _refuses _reserved capacity closed name"
_ACCUMULATOR = "_closed _gifts _given _mean name step"


def test_what_a_folder_holds_has_the_fields_that_it_had():
    """Otherwise those of before cannot be read: then add one to `resume.FORM`."""
    tuples = {kind: kind._fields for kind in (*tree._TUPLES.values(), resume.Done, Numerics)}
    assert {kind.__name__: " ".join(fields) for kind, fields in tuples.items()} == {
        "StateKey": "container name",
        "RandomStream": "stream",
        "Entry": "value version",
        "Element": "number parts",
        "Given": "rank number step gradient",
        "Rows": "indices values shape",
        "Done": "names computes feeds values error",
        "Numerics": "tier threads library kernels",
    }
    arguments = {
        "QueueState": (1,),
        "ShuffleState": (1, 0, [1, 2]),
        "PriorityState": (1,),
        "AccumulatorState": (True,),
        "SparseAccumulatorState": (True,),
        "Gate": (),
    }
    objects = {name: kind("x", *arguments[name]) for name, kind in tree._OBJECTS.items()}
    assert {name: " ".join(sorted(each.__getstate__())) for name, each in objects.items()} == {
        "QueueState": _QUEUE,
        "ShuffleState": "_came _drawn _items _least _refuses _reserved _seeds capacity closed name",
        "PriorityState": _QUEUE,
        "AccumulatorState": _ACCUMULATOR,
        "SparseAccumulatorState": _ACCUMULATOR,
        "Gate": "_ahead name step",
    }


def test_after_an_interrupt_the_script_has_to_start_again(tmp_path, graph):
    """Whether a run that was interrupted has taken effect nobody knows; the log must not go on as
    if it had not."""
    hits = iter([False, True, False, False])

    def hit(x: Any) -> Any:
        if next(hits):
            signal.raise_signal(signal.SIGINT)
        return x

    v = tf.Variable(1.0)
    grow = tf.assign(v, tf.py_func(hit, [v * 2.0], tf.float32))
    with tf.Session(resume=tmp_path, seed=1) as session:
        session.run(v.initializer)
        session.run(grow)
        with pytest.raises(KeyboardInterrupt):
            session.run(grow)
        for _ in range(2):
            with pytest.raises(errors.FailedPreconditionError, match="run 3 was interrupted"):
                session.run(grow)
    with tf.Session(resume=tmp_path) as session:
        session.run(v.initializer)
        assert [session.run(grow), session.run(grow)] == [2.0, 4.0]


def test_a_record_that_was_cut_short_does_not_count(tmp_path):
    wanted = program(tmp_path / "whole", seed=5)
    with pytest.raises(Stop):
        program(tmp_path / "cut", 13, seed=5)
    log = tmp_path / "cut" / "runs"
    data = log.read_bytes()
    for cut in (1, 40, 200):
        shutil.rmtree(tmp_path / "copy", ignore_errors=True)
        shutil.copytree(tmp_path / "cut", tmp_path / "copy")
        (tmp_path / "copy" / "runs").write_bytes(data[:-cut])
        same(program(tmp_path / "copy"), wanted)


def test_a_killed_process(tmp_path):
    """kill -9 in the middle of training, twice, at steps that nobody has chosen."""
    script = """
        import os, signal, sys, threading
        from pathlib import Path
        from tests.session.test_resume import program
        folder, seconds = sys.argv[1], float(sys.argv[2])
        if seconds:
            threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGKILL)).start()
        print([repr(x) for x in program(folder, seed=5)])
        """
    root = Path(tf.__file__).parents[1]

    def run(folder: str, seconds: float) -> Any:
        arguments = [sys.executable, "-c", textwrap.dedent(script), str(tmp_path / folder)]
        environment = {**os.environ, "PYTHONPATH": str(root)}
        return subprocess.run(
            [*arguments, str(seconds)], capture_output=True, text=True, timeout=200,
            cwd=root, env=environment, check=False,
        )  # fmt: skip

    wanted = run("whole", 0)
    assert wanted.returncode == 0, wanted.stderr
    for seconds in (0.02, 0.06):
        run("cut", seconds)
    assert run("cut", 0).stdout == wanted.stdout


class Dead(BaseException):
    """The process is killed here: nothing after this moment reaches the disk."""


class Dying(files.Disk):
    """Ends the process at the n-th operation of a kind on files whose names have a part."""

    def __init__(self, kind: str, part: str, count: int):
        self.kind, self.part, self.count = kind, part, count

    def __getattribute__(self, kind: str) -> Any:
        if not hasattr(files.Disk, kind):
            return super().__getattribute__(kind)

        def operation(what: Any, *more: Any) -> Any:
            name = os.fspath(what) if isinstance(what, (str, os.PathLike)) else str(what.name)
            if self.count > 0 and kind == self.kind and self.part in name:
                self.count -= 1
                if self.count == 0 and kind == "write":  # half of it
                    files.Disk.write(self, what, memoryview(more[0]).cast("B")[: len(more[0]) // 2])
            if self.count == 0:
                raise Dead
            return getattr(files.Disk, kind)(self, what, *more)

        return operation


@pytest.mark.parametrize(
    ("kind", "part", "count"),
    [
        ("create", "", 1),  # nothing is there yet
        ("write", "runs", 11),
        ("sync", "runs", 2),
        ("create", "state-", 3),  # of two files: that of the values, and the index
        ("create", "state-", 4),
        ("write", "state-", 5),
        ("sync", "state-", 4),
        ("rename", "state-", 3),
        ("rename", "state-", 4),
        ("sync_folder", "", 5),
        ("remove", "state-", 1),
    ],
)
def test_a_process_is_killed_again_and_again_while_it_writes(
    tmp_path, monkeypatch, kind, part, count
):
    """At what its record and its copies of the state are made of: the driver's failpoints."""
    wanted = program(tmp_path / "whole", seed=5)
    deaths = 0
    while True:
        disk = Dying(kind, part, count)
        monkeypatch.setattr(files, "DISK", disk)
        try:
            found = program(tmp_path / "cut", seed=5)
        except Dead:
            deaths += 1
            assert deaths < 40
            if kind == "create" and not part:
                break
        else:
            break
    monkeypatch.undo()
    assert deaths
    same(program(tmp_path / "cut", seed=5), wanted)
    if disk.count:
        same(found, wanted)


# ---- a disk that is full


class Full(files.Disk):
    """Has room for so many bytes, in files whose names have a part."""

    def __init__(self, room: int, part: str = ""):
        self.room, self.part = room, part

    def write(self, file: Any, data: bytes | memoryview) -> None:
        if self.part in str(file.name):
            whole = len(memoryview(data).cast("B"))
            taken = min(whole, self.room)
            super().write(file, memoryview(data).cast("B")[:taken])
            self.room -= taken
            if taken < whole:
                raise OSError(errno.ENOSPC, "No space left on device")
        else:
            super().write(file, data)


@pytest.mark.parametrize("room", [10, 700, 2000, 5000, 9000])
@pytest.mark.parametrize("workers", [0, 2])
def test_a_full_disk_ends_the_session_and_says_how_to_go_on(tmp_path, monkeypatch, room, workers):
    """Whatever is being written then; where it is a copy of the state, the one before stands."""
    wanted = program(tmp_path / "whole", seed=5)

    def attempt() -> list[Any]:
        if not workers:
            return program(tmp_path / "cut", seed=5)
        with InProcess(workers, every=4) as cluster:
            return program(tmp_path / "cut", cluster=cluster, seed=5)

    monkeypatch.setattr(files, "DISK", Full(room))
    with pytest.raises(errors.ResourceExhaustedError, match="No space left") as caught:
        attempt()
    if room > 10:  # else there is no session yet
        assert "Make room, and start the script again" in "".join(caught.value.__notes__)
    monkeypatch.undo()
    same(attempt(), wanted)


def test_a_session_whose_run_was_not_written_down_runs_no_other_one(tmp_path, monkeypatch, graph):
    a = tf.Variable(1.0)
    up = a.assign_add(1.0)
    with tf.Session(resume=tmp_path / "f") as session:
        session.run(a.initializer)
        monkeypatch.setattr(files, "DISK", Full(20))
        with pytest.raises(errors.ResourceExhaustedError):
            session.run(up)
        monkeypatch.undo()
        for _ in range(2):
            with pytest.raises(errors.FailedPreconditionError, match="run 2 was executed, but"):
                session.run(up)
    with tf.Session(resume=tmp_path / "f") as session:
        session.run(a.initializer)
        assert session.run(up) == 2.0


def test_a_state_for_which_there_is_no_room_is_kept_later(tmp_path, monkeypatch, caplog):
    wanted = program(tmp_path / "whole", seed=5)
    disk = Full(100, "state-")
    monkeypatch.setattr(files, "DISK", disk)
    same(program(tmp_path / "cut", seed=5), wanted)
    assert "is not kept" in caplog.text
    assert not list((tmp_path / "cut").glob("state-*.index"))
    with pytest.raises(Stop):
        program(tmp_path / "other", 12, seed=5)
    disk.room = 1 << 30
    same(program(tmp_path / "other", seed=5), wanted)
    assert list((tmp_path / "other").glob("state-*.index"))


def test_a_file_system_without_room(tmp_path):
    """A real one, of 8 kB."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=8k", "none", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("file systems cannot be mounted here")
    try:
        wanted = program(tmp_path / "whole", seed=5)
        with pytest.raises(errors.ResourceExhaustedError, match="No space left"):
            program(folder / "f", seed=5)
        subprocess.run([*mount[:4], "remount,size=4m", *mount[5:]], check=True)
        same(program(folder / "f", seed=5), wanted)
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)

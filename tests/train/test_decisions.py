"""What chance decides in asynchronous training is written down, and decided again."""

from __future__ import annotations

import errno
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import graphflow as tf
from graphflow.base import errors
from graphflow.checkpoint import files
from graphflow.distribute import decisions, replayer
from graphflow.distribute.messages import Ticket
from graphflow.distribute.server_state import SharedAttempt, SharedStore
from graphflow.execute.context import Resources
from graphflow.execute.inputs import InputLog
from graphflow.train import monitored_session
from tests.queue_kinds import QUEUES, elements
from tests.until import PATIENCE

Program = Callable[[tf.train.Server, int, Callable[[int], Any]], Any]


@pytest.fixture(autouse=True)
def no_patience(monkeypatch: Any) -> None:
    """A program that loses its server ends soon."""
    monkeypatch.setattr(monitored_session, "RETURNING", 1.0)
    monkeypatch.setattr(replayer, "PATIENCE", PATIENCE)


def data(worker: int) -> Any:
    return np.random.default_rng(worker).normal(size=(64, 8, 5)).astype(np.float32)


@contextmanager
def servers(workers: int, **options: Any) -> Iterator[list[tf.train.Server]]:
    spec = {"ps": ["ps0:1"], "worker": [f"worker{i}:1" for i in range(workers)]}
    ps = tf.train.Server(spec, "ps", 0, **options)
    found = [tf.train.Server(spec, "worker", i) for i in range(workers)]
    try:
        yield found
    finally:
        for server in [*found, ps]:
            server.stop()


def model(worker: int, step: Any, pause: Callable[[int], Any]) -> Any:
    def slow(value: Any) -> Any:
        pause(worker)
        return value

    x = tf.py_func(slow, [tf.gather(tf.constant(data(worker)), step)], tf.float32)
    x.set_shape([8, 5])
    w = tf.get_variable("w", [5, 3], initializer=tf.constant_initializer(0.1))
    return tf.reduce_mean(tf.square(tf.tanh(tf.matmul(x, w)) - 0.3))


def asynchronous(server: tf.train.Server, worker: int, pause: Callable[[int], Any]) -> list[float]:
    """Workers apply gradients, each at a time of its own, until there were twenty in all."""
    setter = tf.train.replica_device_setter(1, worker_device=f"/job:worker/task:{worker}")
    with tf.Graph().as_default():
        with tf.device(setter):
            step = tf.train.get_or_create_global_step()
            loss = model(worker, step, pause)
            train = tf.train.MomentumOptimizer(0.3, 0.9).minimize(loss, step)
        losses = []
        hooks = [tf.train.StopAtStepHook(last_step=20)]
        with tf.train.MonitoredTrainingSession(server.target, worker == 0, hooks=hooks) as session:
            while not session.should_stop():
                losses.append(float(session.run([loss, train])[0]))
        return losses


def with_backup(server: tf.train.Server, worker: int, pause: Callable[[int], Any]) -> list[float]:
    """Two gradients of three make a step; who is last of all waits for ever."""
    setter = tf.train.replica_device_setter(1, worker_device=f"/job:worker/task:{worker}")
    with tf.Graph().as_default():
        with tf.device(setter):
            step = tf.train.get_or_create_global_step()
            loss = model(worker, step, pause)
            optimizer = tf.train.SyncReplicasOptimizer(tf.train.MomentumOptimizer(0.3, 0.9), 2, 3)
            train = optimizer.minimize(loss, step)
        hook = optimizer.make_session_run_hook(worker == 0, num_tokens=0)
        losses = []
        with suppress(errors.OpError), tf.train.MonitoredTrainingSession(
            server.target, worker == 0, hooks=[hook]
        ) as session:  # fmt: skip
            now = 0
            while now < 8:
                now, found, _ = session.run([step, loss, train])
                losses.append(float(found))
        return losses


KINDS = {
    "first in, first out": lambda: tf.FIFOQueue(8, tf.float32, [5], shared_name="examples"),
    "shuffled": lambda: tf.RandomShuffleQueue(
        8, 2, tf.float32, [5], seed=3, shared_name="examples"
    ),
}


def queued(kind: str, server: tf.train.Server, worker: int, pause: Any) -> list[float]:
    """Workers take examples from one queue, and apply what they learn from each."""
    examples = data(9).reshape(-1, 5)[:24]
    setter = tf.train.replica_device_setter(1, worker_device=f"/job:worker/task:{worker}")
    with tf.Graph().as_default():
        with tf.device(setter):
            step = tf.train.get_or_create_global_step()
            w = tf.get_variable("w", [5, 3], initializer=tf.constant_initializer(0.1))
        with tf.device("/job:ps/task:0"):
            queue = KINDS[kind]()
            fill, close = queue.enqueue_many([examples]), queue.close()
            x = queue.dequeue()
            there = tf.FIFOQueue(1, [tf.int32], [[]], shared_name="there")
            come, meet = there.enqueue(worker), there.dequeue()
        with tf.device(setter):
            x = tf.py_func(lambda value: (pause(worker), value)[1], [x], tf.float32)
            product = tf.matmul(tf.reshape(x, [1, 5]), w)
            loss = tf.reduce_sum(tf.square(tf.tanh(product) - 0.3))
            train = tf.train.MomentumOptimizer(0.3, 0.9).minimize(loss, step)
        found = []
        with tf.train.MonitoredTrainingSession(server.target, worker == 0) as session:
            if worker:
                session.run(come)
            else:  # both begin at once
                session.run(meet)
                session.run(fill)
                session.run(close)
            while not session.should_stop():  # until the queue is empty
                found.append(float(session.run([loss, train])[0]))
        return found


def train(program: Program, workers: int, late: int, **options: Any) -> tuple[Any, Any]:
    """Each worker's losses, and the weights; one worker is later than the others."""

    meet, met = threading.Barrier(workers), set[int]()

    def pause(worker: int) -> None:
        # All take part from the beginning, however late a busy machine starts one; but a replay has
        # each begin in its turn.
        if worker not in met and "replay_decisions" not in options:
            met.add(worker)
            meet.wait(PATIENCE)
        time.sleep(0.03 if worker == late else 0.001)

    with ThreadPoolExecutor(workers) as pool:
        with servers(workers, **options) as found:
            runs = [pool.submit(program, s, i, pause) for i, s in enumerate(found)]
            enough = workers - (program is with_backup)
            for _, run in zip(range(enough), as_completed(runs, PATIENCE), strict=False):
                run.result()
            with tf.Graph().as_default(), tf.device("/job:ps/task:0"):
                w = tf.get_variable("w", [5, 3])
                with tf.Session(found[0].target) as session:
                    weights = session.run(w)
        return [run.result(PATIENCE) for run in runs], weights


FROM_QUEUES = [partial(queued, kind) for kind in KINDS]


@pytest.mark.parametrize(
    ("program", "workers"),
    [(asynchronous, 2), (with_backup, 3), *[(each, 2) for each in FROM_QUEUES]],
    ids=["asynchronous", "backup", *KINDS],
)
def test_a_replay_has_the_bits_of_the_run_that_was_logged(tmp_path, program, workers):
    losses, weights = train(program, workers, late=workers - 1, record_decisions=str(tmp_path))
    others, _ = train(program, workers, late=0)
    assert others != losses  # chance decides
    again, same = train(program, workers, late=0, replay_decisions=str(tmp_path))
    compared = 0
    for before, now in zip(losses, again, strict=True):
        both = min(len(before), len(now))  # the last worker is stopped, sooner or later
        compared += both
        assert now[:both] == before[:both]
    assert compared >= 16
    np.testing.assert_array_equal(same, weights)


def taken(kind: str, late: int, **options: Any) -> list[Any]:
    """What two workers take from one queue, each at a time of its own; now and then a run fails,
    and what it took goes back."""

    def work(worker: int, target: str) -> list[float]:
        with tf.Graph().as_default():
            with tf.device("/job:ps/task:0"):
                queue = QUEUES[kind](shared_name="elements")
                total = tf.Variable(0.0, name="total")
                x = queue.dequeue()[1]
                add = total.assign_add(x)
            with tf.device(f"/job:worker/task:{worker}"), tf.control_dependencies([x]):
                divisor = tf.placeholder(tf.int32, [])
                check = tf.floordiv(1, divisor)
            found = []
            with tf.Session(target) as session:
                for step in range(5):
                    if step % 2:
                        with pytest.raises(errors.InvalidArgumentError):
                            session.run([x, add, check], {divisor: 0})
                    time.sleep(0.01 if worker == late else 0.0)
                    found += session.run([x, add, check], {divisor: 1})[:2]
            return found

    with servers(2, **options) as found, tf.Graph().as_default(), ThreadPoolExecutor(2) as pool:
        with tf.device("/job:ps/task:0"):
            queue = QUEUES[kind](shared_name="elements")
            total = tf.Variable(0.0, name="total")
        with tf.Session(found[0].target) as session:
            session.run([total.initializer, queue.enqueue_many(elements())])
            runs = [pool.submit(work, i, server.target) for i, server in enumerate(found)]
            return [*[run.result(60) for run in runs], *session.run([total, queue.size()])]


@pytest.mark.parametrize("kind", QUEUES)
def test_a_replay_hands_out_the_elements_of_each_kind_of_queue_as_it_was(tmp_path, kind):
    found = taken(kind, late=1, record_decisions=str(tmp_path))
    values = [value for worker in found[:2] for value in worker[::2]]
    assert len(set(values)) == 10
    assert found[2:] == [sum(values), 2]
    assert taken(kind, late=0, replay_decisions=str(tmp_path)) == found


def test_the_log_tells_which_gradients_were_left_out(tmp_path):
    train(with_backup, 3, late=2, record_decisions=str(tmp_path))
    (path,) = Path(tmp_path).iterdir()
    records = decisions.log_of(str(path)).records
    taken = [each for kind, *rest in records if kind == "taken" for each in rest[1]]
    assert sum(rank < 2 for rank, _ in taken) > sum(rank == 2 for rank, _ in taken)
    opened = [record[1] for record in records if record[0] == "part"]
    assert len({(tuple(each)) for each in opened}) == len(opened)


def test_what_only_takes_input_is_logged_when_it_begins(tmp_path):
    """Nobody waits for its commit, which comes with the next message, if there is one."""
    with (
        servers(2, record_decisions=str(tmp_path)) as found,
        tf.Graph().as_default(),
        tf.device("/job:ps/task:0"),
    ):
        accumulator = tf.ConditionalAccumulator(tf.float32, [], shared_name="a")
        with tf.device("/job:worker/task:0"):
            gradient = tf.tanh(1.0)
        give = accumulator.apply_grad(gradient, 0)
        with tf.Session(found[0].target) as session:
            session.run(give)
    (path,) = Path(tmp_path).iterdir()
    assert [record[0] for record in decisions.log_of(str(path)).records] == ["read"]


def test_a_server_without_a_log_asks_nobody():
    with servers(1) as found:
        state = found[0]._serving._member.task.state
        assert state.decisions is None


def test_a_log_is_not_overwritten_and_must_be_there(tmp_path):
    with servers(1, record_decisions=str(tmp_path)):
        pass
    with pytest.raises(errors.AlreadyExistsError, match="replay it, or take another"):
        tf.train.Server({"ps": ["a:1"]}, "ps", 0, record_decisions=str(tmp_path))
    with pytest.raises(errors.NotFoundError, match="no decisions"):
        tf.train.Server({"ps": ["a:1"]}, "ps", 0, replay_decisions=str(tmp_path / "no"))
    with pytest.raises(ValueError, match="exclude"):
        tf.train.Server({"ps": ["a:1"]}, "ps", 0, record_decisions="a", replay_decisions="b")


def test_a_log_that_cannot_be_read_is_told_of(tmp_path):
    with servers(1, record_decisions=str(tmp_path)):
        pass
    (path,) = tmp_path.iterdir()
    path.unlink()
    path.mkdir()
    with pytest.raises(errors.UnknownError, match=f"cannot read {path}: Is a directory$"):
        tf.train.Server({"ps": ["a:1"]}, "ps", 0, replay_decisions=str(tmp_path))


def test_a_log_of_another_form_is_refused(tmp_path, monkeypatch):
    with servers(1, record_decisions=str(tmp_path)):
        pass
    monkeypatch.setattr(decisions, "FORM", decisions.FORM + 1)
    with pytest.raises(errors.FailedPreconditionError, match="decisions of a server, form 2, and"):
        tf.train.Server({"ps": ["a:1"]}, "ps", 0, replay_decisions=str(tmp_path))


def part(opener: str, turn: int = 1) -> decisions.Part:
    return decisions.Part(opener, 1, "plan", turn)


def log(path: str, *entries: tuple[str, int, int], failed: tuple[str, ...] = ()) -> Any:
    """One of parts, each with its opener, its turn, and what it has seen; the first of some have
    failed."""
    file = decisions.log_of(path)
    file.open()
    for opener, turn, seen in entries:
        kind = "failed" if opener in failed and turn == 1 else "part"
        file.append([kind, list(part(opener, turn)), seen])
    file.close()
    return replayer.Replayer(path)


def test_parts_begin_and_are_committed_in_their_turn(tmp_path):
    """b has seen what a has not: it begins after a's first commit, and is committed last."""
    replay = log(str(tmp_path / "log"), ("a", 1, 0), ("a", 2, 1), ("b", 1, 1))
    told: list[str] = []
    never = threading.Event()

    def do(opener: str, turn: int = 1) -> None:
        place = replay.begin(
            part(opener, turn), True, lambda: told.append(f"{opener} begins"), never
        )
        assert place is not None
        assert place.commit(lambda: told.append(f"{opener} ends")).wait(PATIENCE)

    with ThreadPoolExecutor(2) as pool:
        late = pool.submit(do, "b")
        time.sleep(0.05)
        assert not told
        do("a")
        early = pool.submit(do, "a", 2)
        late.result(PATIENCE)
        early.result(PATIENCE)
    assert told[:2] == ["a begins", "a ends"]
    assert sorted(told[2:4]) == ["a begins", "b begins"]
    assert told[4:] == ["a ends", "b ends"]
    do("c")  # of whom the log says nothing: the rest is chance
    replay.close()


def refused(**options: Any) -> list[Any]:
    """A program that tries something in vain between its steps."""
    with servers(1, **options) as found, tf.Graph().as_default():
        with tf.device("/job:ps/task:0"):
            total = tf.Variable(0.0)
            add = total.assign_add(1.0)
            check = tf.Assert(total > 9.0, [total])
            with tf.control_dependencies([check]):
                more = total.assign_add(100.0)
        with tf.Session(found[0].target) as session:
            session.run(total.initializer)
            told = []
            for _ in range(3):
                session.run(add)
                with pytest.raises(errors.InvalidArgumentError) as caught:
                    session.run(more)
                told.append(caught.value.message)
            return [*told, session.run(total)]


def test_what_fails_whenever_it_is_run_fails_in_a_replay(tmp_path):
    found = refused(record_decisions=str(tmp_path))
    assert len(set(found)) == 4
    assert refused(replay_decisions=str(tmp_path)) == found


def going_on(late: int, **options: Any) -> list[Any]:
    """Two workers, each at a time of its own, whose runs now and then fail; then they go on to
    others, before they run the same again."""

    def work(worker: int, target: str) -> list[Any]:
        with tf.Graph().as_default():
            with tf.device("/job:ps/task:0"):
                total = tf.Variable(0.0, name="total")
                least = tf.placeholder(tf.float32, [])
                here = total.assign_add(1.0)
                with tf.control_dependencies([tf.Assert(total >= least, [total])]):
                    checked = total.assign_add(100.0)
                with tf.device(f"/job:worker/task:{worker}"):
                    divisor = tf.placeholder(tf.int32, [])
                    apart = tf.floordiv(1, divisor)
                both = [total.assign_add(10.0), apart]
            found = []
            with tf.Session(target) as session:
                for step in range(6):
                    time.sleep(0.005 if worker == late else 0.0)
                    limit = 1e9 if step % 3 == 1 else 0.0
                    try:
                        found.append(session.run(checked, {least: limit}))
                    except errors.InvalidArgumentError as error:
                        found.append(error.message)
                    found.append(session.run(here))
                    with pytest.raises(errors.InvalidArgumentError):
                        session.run(both, {divisor: 0})
                    found += session.run([here, total])
                    found.append(session.run(both, {divisor: 1})[0])
            return found

    with servers(2, **options) as found, tf.Graph().as_default(), ThreadPoolExecutor(2) as pool:
        with tf.device("/job:ps/task:0"):
            total = tf.Variable(0.0, name="total")
        with tf.Session(found[0].target) as session:
            session.run(total.initializer)
            runs = [pool.submit(work, i, server.target) for i, server in enumerate(found)]
            return [run.result(PATIENCE) for run in runs]


def test_what_fails_now_and_then_fails_in_a_replay_when_it_had(tmp_path):
    """On the server, which says what it has seen, or on a worker; and the client goes on."""
    found = going_on(late=1, record_decisions=str(tmp_path))
    assert sum(isinstance(each, str) for worker in found for each in worker) == 4
    assert going_on(late=0, replay_decisions=str(tmp_path)) == found


def counted(steps: int, **options: Any) -> float:
    with servers(1, **options) as found, tf.Graph().as_default():
        with tf.device("/job:ps/task:0"):
            total = tf.Variable(0.0)
            add = total.assign_add(1.0)
        with tf.Session(found[0].target) as session:
            session.run(total.initializer)
            for _ in range(steps):
                session.run(add)
            return float(session.run(total))


def test_a_log_for_which_there_is_no_room_ends_and_what_it_would_tell_goes_on(
    tmp_path, monkeypatch, caplog
):
    class Full(files.Disk):
        writes = 0

        def write(self, file: Any, data: Any) -> None:
            self.writes += 1
            if self.writes == 4:  # half of it, and then there would be room again
                super().write(file, data[: len(data) // 2])
                raise OSError(errno.ENOSPC, "No space left on device")
            super().write(file, data)

    monkeypatch.setattr(files, "DISK", Full())
    assert counted(5, record_decisions=str(tmp_path)) == 5.0  # and no run failed that was applied
    assert [r.getMessage() for r in caplog.records if "no more decisions" in r.getMessage()]
    monkeypatch.undo()
    (path,) = Path(tmp_path).iterdir()
    assert len(decisions.log_of(str(path)).records) == 2
    monkeypatch.setattr(replayer, "PATIENCE", PATIENCE)
    assert counted(5, replay_decisions=str(tmp_path)) == 5.0


def test_a_log_that_has_no_room_to_begin_is_not_in_the_way_of_the_next_one(tmp_path, monkeypatch):
    class Full(files.Disk):
        def write(self, file: Any, data: Any) -> None:
            super().write(file, data[:7])
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files, "DISK", Full())
    with pytest.raises(
        errors.ResourceExhaustedError, match=r"cannot write .*: No space left on device$"
    ):
        tf.train.Server({"ps": ["a:1"]}, "ps", 0, record_decisions=str(tmp_path))
    monkeypatch.undo()
    assert counted(1, record_decisions=str(tmp_path)) == 1.0


def test_what_had_failed_and_does_not_is_told(tmp_path, caplog):
    entries, never = [("a", 1, 0), ("a", 2, 1), ("b", 1, 1), ("b", 2, 2)], threading.Event()
    replay = log(str(tmp_path / "log"), *entries, failed=("b",))
    replay.begin(part("a"), True, lambda: None, never).commit(lambda: None).wait(PATIENCE)
    done: list[int] = []
    replay.begin(part("b"), True, lambda: None, never).commit(lambda: done.append(1))
    assert done
    assert "b's run 1 of plan plan is committed, and had failed" in caplog.text
    with pytest.raises(errors.FailedPreconditionError, match="had failed when it was logged"):
        replay.begin(part("a", 2), True, lambda: None, never)
    replay.close()


@pytest.mark.parametrize("went_on", [True, False])
def test_what_had_failed_is_waited_for_if_its_session_went_on(tmp_path, went_on):
    """It sees what it saw; else the end of the session was why, and may come sooner now."""
    entries, never = [("b", 1, 0), ("a", 1, 0), *[("b", 2, 1)] * went_on], threading.Event()
    replay = log(str(tmp_path / "log"), *entries, failed=("b",))
    done = replay.begin(part("a"), True, lambda: None, never).commit(lambda: None)
    if went_on:
        assert not done.wait(0.02)
        replay.begin(part("b"), True, lambda: None, never)
    assert done.wait(PATIENCE)
    replay.close()


def test_what_had_failed_and_is_cancelled_before_its_turn_is_waited_for_no_more(tmp_path):
    """Another worker's part was quicker to fail."""
    entries, never = [("a", 1, 0), ("b", 1, 1), ("a", 2, 1), ("b", 2, 2)], threading.Event()
    replay = log(str(tmp_path / "log"), *entries, failed=("b",))
    cancelled = threading.Event()
    cancelled.set()
    with pytest.raises(errors.CancelledError):
        replay.begin(part("b"), True, lambda: None, cancelled)
    for turn in (1, 2):
        place = replay.begin(part("a", turn), True, lambda: None, never)
        assert place.commit(lambda: None).wait(PATIENCE)
    replay.close()


@pytest.mark.parametrize("first", ["fail", "abandon"])
def test_nothing_is_kept_of_what_has_failed(tmp_path, first):
    replay = log(str(tmp_path / "log"), ("a", 1, 0), ("a", 2, 0), failed=("a",))
    place = replay.begin(part("a"), True, lambda: "state", threading.Event())
    for each in (first, {"fail": "abandon", "abandon": "fail"}[first]):
        getattr(place, each)()
    assert not replay._states
    replay.close()


def test_a_run_that_failed_with_elements_is_tried_in_the_turn_of_the_next_of_its_plan(tmp_path):
    path = str(tmp_path / "log")
    file = decisions.log_of(path)
    file.open()
    for kind, turn, numbers in ("failed", 1, [7, 8]), ("part", 2, [7]):
        file.append(["dequeued", list(part("a", turn)), "q", numbers])
        file.append([kind, list(part("a", turn)), 0])
    file.close()
    replay, never = replayer.Replayer(path), threading.Event()
    saw = []
    for turn in (1, 2):

        def snapshot(before: Any = None, turn: int = turn) -> Any:
            saw.append(before or turn)
            return saw[-1]

        place = replay.begin(part("a", turn), True, snapshot, never)
        assert replay.coming("q") == {7}
        assert place.wanted("q") == [7]
        place.took("q", [7])
        assert not replay.coming("q")
        if turn == 1:
            place.abandon()
            place.fail()
    assert saw == [1, 1]
    assert place.commit(lambda: None).wait(PATIENCE)
    replay.close()


@pytest.mark.parametrize("first", ["begun", "over"])
def test_a_run_may_fail_before_its_part_has_begun_here(first):
    class Told:
        times = 0

        def fail(self) -> None:
            self.times += 1

    place: Any = Told()
    store, never = SharedStore(), threading.Event()
    attempt = SharedAttempt(Ticket(0, 1, 1), store, "s", Resources(), 0, InputLog(), never)
    if first == "begun":
        attempt.begun(place)
        attempt.over()
    else:
        attempt.over()
        attempt.begun(place)
    assert place.times == 1


def test_another_program_than_the_one_that_was_logged_is_told_so(tmp_path, monkeypatch):
    monkeypatch.setattr(replayer, "PATIENCE", 0.1)
    replay = log(str(tmp_path / "log"), ("a", 1, 0))
    with pytest.raises(errors.FailedPreconditionError, match="a's run 1 of plan plan next"):
        replay.begin(part("c"), True, lambda: None, threading.Event())
    cancelled = threading.Event()
    cancelled.set()
    with pytest.raises(errors.CancelledError):
        replay.begin(part("c"), True, lambda: None, cancelled)
    replay.close()


def test_commits_wait_for_one_that_never_comes_no_longer_than_that(tmp_path, monkeypatch, caplog):
    """They are decided and cannot fail; but nothing more begins, as if it were a replay."""
    monkeypatch.setattr(replayer, "PATIENCE", 0.1)
    replay = log(str(tmp_path / "log"), ("a", 1, 0), ("b", 1, 0), ("c", 1, 0))
    told: list[str] = []
    replay.begin(part("a"), True, lambda: None, threading.Event())  # and never ends
    places = [replay.begin(part(opener), True, lambda: None, threading.Event()) for opener in "cb"]
    done = [
        place.commit(lambda opener=opener: told.append(opener))
        for place, opener in zip(places, "cb", strict=True)
    ]
    assert all(each.wait(PATIENCE) for each in done)
    assert told == ["c", "b"]
    assert "followed no more: c's run 1 of plan plan is not due" in caplog.text
    with pytest.raises(errors.FailedPreconditionError, match="a's run 1 of plan plan next"):
        replay.begin(part("d"), True, lambda: None, threading.Event())
    replay.close()


def test_who_failed_and_is_tried_again_sees_what_it_saw(tmp_path):
    """Others were let go on when it had begun."""
    replay = log(str(tmp_path / "log"), ("a", 1, 0), ("b", 1, 0))
    state = [0]

    def snapshot(before: Any = None) -> Any:
        seen.append(state[0] if before is None else before)
        return seen[-1]

    def up() -> None:
        state[0] += 1

    seen: list[int] = []
    b = replay.begin(part("b"), True, snapshot, threading.Event())
    a = replay.begin(part("a"), True, snapshot, threading.Event())
    assert a.commit(up).wait(PATIENCE)
    b.abandon()
    b = replay.begin(part("b"), True, snapshot, threading.Event())
    assert b.commit(up).wait(PATIENCE)
    assert seen == [0, 0, 0]
    replay.close()


def test_a_server_that_ends_lets_go_who_waits_for_a_turn(tmp_path):
    replay = log(str(tmp_path / "log"), ("a", 1, 0), ("b", 1, 0))
    places = [replay.begin(part(o), True, lambda: None, threading.Event()) for o in "ab"]
    done = places[1].commit(lambda: None)
    assert not done.wait(0.02)
    replay.close()
    assert done.wait(PATIENCE)

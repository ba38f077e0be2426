"""Clients of servers that end between what they tell one server and the next."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import numpy as np
import pytest

import graphflow as tf
from graphflow.base import errors
from graphflow.distribute import failpoints
from graphflow.distribute.server_state import SharedStore
from tests.distribute.four_tasks import client, four_tasks
from tests.until import PATIENCE, until


@pytest.fixture
def cluster() -> Iterator[dict[str, tf.train.Server]]:
    with four_tasks() as found:
        yield found


class Died(Exception):
    """Stands for the end of a client's process."""


def dies(moment: int, stores: list[SharedStore]) -> threading.Event:
    """Have the client end when it tells a server of a decision for that time, and those that it
    has told before have carried it out; set when it has."""
    before = sum(store.version for store in stores)
    dead = threading.Event()

    def end() -> None:
        until(lambda: sum(store.version for store in stores) >= before + moment - 1)
        dead.set()
        raise Died

    failpoints.arm("decided", moment, end)
    return dead


@pytest.mark.parametrize(("moment", "update"), [(1, 0), (2, 1)])
@pytest.mark.parametrize("first", [0, 1])
def test_servers_agree_on_what_becomes_of_a_run_whose_client_ends_between_them(
    cluster, moment, update, first
):
    """Told to none, it is undone; told to one, it is committed by all; and room that it has kept
    in a queue is free."""
    with tf.Graph().as_default() as graph:
        parts = []
        for ps in (0, 1):
            with tf.device(f"/job:ps/task:{ps}"):
                v = tf.Variable(0, name=f"v{ps}")
                parts.append((v, v.assign_add(1)))
        with tf.device("/job:ps/task:1"):
            queue = tf.FIFOQueue(1, [tf.int32], shapes=[[]], shared_name="room")
            put, size = queue.enqueue(7), queue.size()
            take = queue.dequeue()
    (v0, up0), (v1, up1) = parts
    a = tf.Session(cluster["worker0"].target, graph=graph)
    b = tf.Session(cluster["worker1"].target, graph=graph)
    a.run([v0.initializer, v1.initializer])
    both = [cluster[f"ps{i}"]._serving._member.task for i in (first, 1 - first)]
    dead = dies(moment, [each.state.store for each in both])
    opener = cluster["worker0"]._serving.name
    with ThreadPoolExecutor(3) as pool:
        running = pool.submit(a.run, [up0, up1, put] if first else [up0, up1])
        assert dead.wait(PATIENCE)
        for done in [pool.submit(each.forget, opener, 1) for each in both]:  # as a job does
            done.result(PATIENCE)
        a.target.conductor.abandon()  # a dead client waits for nothing
        with suppress(Died, errors.OpError):  # nobody hears it where a server's thread has died
            running.result(PATIENCE)
    assert b.run([v0, v1]) == [update, update]
    if first:
        assert b.run(size) == update
        assert not update or b.run(take) == 7
    b.run(put)
    b.run([up0, up1])
    assert b.run([v0, v1]) == [update + 1, update + 1]
    a.close()
    b.close()


def test_a_server_that_was_asked_for_the_outcome_takes_no_decision_any_more(cluster):
    """The client lives, and one server takes it for dead: all have undone the run then."""
    a, _, up, init = client(cluster["worker0"])
    with a.graph.as_default(), tf.device("/job:ps/task:1"):
        u = tf.Variable(0, name="u")
        both = tf.group(up, u.assign_add(1))
    a.run([init, u.initializer])
    opener = cluster["worker0"]._serving.name
    asked = cluster["ps1"]._serving._member.task
    failpoints.arm("decided", 1, lambda: asked.forget(opener, 1))
    with pytest.raises(errors.UnavailableError):
        a.run(both)
    b, w, up_b, _ = client(cluster["worker1"])
    np.testing.assert_array_equal(b.run(w), np.zeros(4))
    b.run(up_b)
    a.close()
    b.close()


def test_sessions_that_a_lost_task_has_opened_are_forgotten(cluster):
    a, v_read, up, init = client(cluster["worker0"])
    b, w, up_b, _ = client(cluster["worker1"])
    a.run(init)
    b.run(up_b)
    a.run(up)
    cluster["ps0"]._serving._member.task.forget("/job:worker/replica:0/task:0", 1)
    with pytest.raises(errors.UnavailableError, match=r"job:ps.*task:0.*session is not known"):
        a.run(v_read)
    with pytest.raises(errors.UnavailableError, match=r"job:ps.*task:0.*session is not known"):
        a.run(up)
    np.testing.assert_array_equal(b.run(w), np.full(4, 2))
    a.close()
    b.close()


def test_a_task_that_lives_on_after_its_loss_opens_no_session_any_more(cluster):
    """Ray has lost its machine; the process in its place does what it would do."""
    a, v_read, up, init = client(cluster["worker0"])
    a.run(init)
    for ps in ("ps0", "ps1"):
        cluster[ps]._serving._member.task.forget("/job:worker/replica:0/task:0", 1)
    with pytest.raises(errors.UnavailableError):  # and begins another one, as a program would
        a.run(up)
    with pytest.raises(errors.FailedPreconditionError, match="before it was lost: another process"):
        tf.Session(cluster["worker0"].target, graph=a.graph)
    assert not cluster["ps0"]._serving._member.task._hosts
    there = cluster["worker0"]._serving
    there.opener = there.opener._replace(incarnation=1)
    with tf.Session(cluster["worker0"].target, graph=a.graph) as again:
        again.run(up)
        np.testing.assert_array_equal(again.run(v_read), np.ones(4))
    a.close()

"""Copies of workers' state at each other, and what they cost the driver."""

from __future__ import annotations

import pickle
import random
from typing import Any

import numpy as np
import pytest

import graphflow as tf
from graphflow.distribute import buddies
from graphflow.distribute.messages import Rebuild, Save, Ticket
from graphflow.distribute.snapshot import Snapshot, difference
from graphflow.distribute.tables import Table
from graphflow.execute.store import Entry
from tests.distribute.in_process import InProcess
from tests.distribute.programs import train

T0, T1 = "/job:worker/task:0", "/job:worker/task:1"
STEPS = 14
CLUSTER = {"workers": 3, "every": 2, "deadline": 5.0, "backup_every": 100}


def test_the_buddy_is_the_next_worker_on_another_machine():
    assert buddies.buddies(["a"], {}) == {}
    assert buddies.buddies(["a", "b", "c"], {}) == {"a": "b", "b": "c", "c": "a"}
    nodes = {"a": "one", "b": "one", "c": "two", "d": "two"}
    assert buddies.buddies(list(nodes), nodes) == {"a": "c", "b": "c", "c": "a", "d": "a"}


class Wire:
    """Carries what is sent in any order, pickled."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []

    def send(self, worker: str, ticket: Ticket, key: str, value: Any) -> None:
        self.sent.append(pickle.dumps((ticket, key, value)))

    def carry(self, copies: buddies.Copies, order: random.Random) -> int:
        """Deliver all; how many bytes that was."""
        sent, self.sent = self.sent, []
        order.shuffle(sent)
        for each in sent:
            copies.deliver(*pickle.loads(each))
        return sum(map(len, sent))


def state(**values: Any) -> Snapshot:
    return Snapshot({key: Entry(value, 1) for key, value in values.items()}, {}, {})


def assert_same(found: Snapshot | None, wanted: Snapshot) -> None:
    assert found is not None
    assert found.entries.keys() == wanted.entries.keys()
    for one, other in zip(found.entries.values(), wanted.entries.values(), strict=True):
        values = [v.copy() if isinstance(v, Table) else v for v in (one.value, other.value)]
        np.testing.assert_array_equal(*values)


@pytest.mark.parametrize("seed", range(5))
def test_what_has_changed_since_the_last_cut_is_sent_and_put_together(seed):
    wire, copies, order = Wire(), buddies.Copies(), random.Random(seed)
    channel: Any = wire
    table = Table(np.zeros((4000, 64), np.float32))
    one = state(table=table, fixed=np.ones(50_000), small=np.float32(3.0), counter=7)
    buddies.send(channel, "b", Ticket(0, 0, 1), "a", one)
    whole = wire.carry(copies, order)
    rows = np.array([3, 3999])
    changed = {
        **one.entries,
        "table": Entry(table.updated(rows, np.ones((2, 64), np.float32)), 2),
        "counter": Entry(8, 2),
        "new": Entry(np.arange(5.0), 2),
    }
    two = Snapshot(changed, {}, {})
    buddies.send(channel, "b", Ticket(0, 0, 2), "a", difference(two, one), since=1)
    assert wire.carry(copies, order) < whole / 100
    assert_same(copies.wait("a", 2), two)
    assert_same(copies.wait("a", 1), one)
    copies.forget(2)
    assert copies.wait("a", 1) is None
    buddies.send(channel, "a", Ticket(1, 0, 2), "a", copies.wait("a", 2))
    own = buddies.Copies()
    wire.carry(own, order)
    assert_same(own.wait("a", 2), two)


# ---- sessions


def sent(cluster: InProcess, kind: type) -> list[Any]:
    return [message for _, message in cluster.log if isinstance(message, kind)]


def run(cluster: InProcess, undisturbed: Any, kills: dict[int, list[int]]) -> dict[str, int]:
    """Train while workers are killed; bytes of state that came to the driver."""
    counts: dict[str, int] = {}
    steps = iter(range(1, 1000))

    def on_step(session: Any) -> None:
        now = next(steps)
        conductor = session.target.conductor
        conductor._until(lambda: not conductor._machine.saving)
        for victim in kills.get(now, ()):
            cluster.kill(victim)
        if now == STEPS:
            for worker, found in session.target.statistics().items():
                counts[worker] = found.get("copied", 0)

    losses, weights = train(cluster, STEPS, scopes=(T0, T1), on_step=on_step)
    np.testing.assert_array_equal(losses, undisturbed[0])
    for one, other in zip(weights, undisturbed[1], strict=True):
        np.testing.assert_array_equal(one, other)
    return counts


@pytest.mark.parametrize("victim", [0, 1, 2])
def test_a_lost_worker_gets_its_state_from_its_buddy(cluster, graph, undisturbed, victim):
    counts = run(cluster, undisturbed, {7: [victim], 11: [victim]})
    assert set(counts.values()) == {0}, "nothing went through the driver"
    rebuilds = sent(cluster, Rebuild)
    assert any(m.worker for m in rebuilds)
    assert all(m.snapshot is None for m in rebuilds)


def test_a_worker_and_its_buddy_are_lost_at_once(cluster, graph, undisturbed):
    """All go back to the cut of which the driver has the copies: here, before the first run."""
    run(cluster, undisturbed, {7: [0, 1], 11: [1, 2]})
    assert 0 in {m.cut for m in sent(cluster, Rebuild)}


def test_at_some_cuts_the_copies_come_to_the_driver(cluster, graph, undisturbed):
    cluster.backup_every = 3
    counts = run(cluster, undisturbed, {10: [0, 1]})
    assert counts[cluster.names[0]] > 0
    cut = sent(cluster, Rebuild)[-1].cut
    saves = {m.cut: m.copying for m in sent(cluster, Save)}
    whole = [c for c, copying in saves.items() if copying is None]
    assert whole[:2] == [3, 6]
    assert cut in whole


def test_copies_that_were_lost_with_a_buddy_are_made_anew(cluster, graph, undisturbed):
    """First the buddy of worker 0 is lost, and soon afterwards worker 0."""
    run(cluster, undisturbed, {7: [1], 8: [0]})
    assert all(m.cut for m in sent(cluster, Rebuild))


def test_a_buddy_is_lost_while_it_hands_a_copy_over(cluster, graph, undisturbed):
    def before(worker: str, message: Any) -> None:
        if isinstance(message, Rebuild) and message.wards:
            cluster.before = lambda worker, message: None
            cluster.kill(1)

    cluster.before = before
    run(cluster, undisturbed, {7: [0]})


def test_what_is_copied_does_not_grow_with_the_table(cluster, graph):
    """Only rows that have changed go to the buddy."""
    with tf.device(T0):
        v = tf.get_variable("t", [1 << 16, 16], initializer=tf.zeros_initializer())
        add = tf.scatter_add(v, [5, 6], np.ones((2, 16), np.float32)).op
    sizes: list[int] = []
    with tf.Session(cluster=cluster) as session:
        session.run(v.initializer)
        copies = cluster.host(1)._copies
        deliver = copies.deliver

        def counted(ticket: Ticket, key: str, value: Any) -> None:
            sizes.append(len(pickle.dumps(value)))
            deliver(ticket, key, value)

        copies.deliver = counted  # type: ignore[method-assign]
        conductor = session.target.conductor
        for _ in range(9):
            session.run(add)
            conductor._until(lambda: not conductor._machine.saving)  # beside the next run otherwise
        assert len(sizes) > 2
        assert sum(size > 1 << 10 for size in sizes) == 1
        cluster.kill(0)
        np.testing.assert_array_equal(session.run(v)[4:8, 0], [0, 9, 9, 0])

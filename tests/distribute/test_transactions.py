"""Two-phase transactions: what is prepared can be committed."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from graphflow.distribute.messages import Ticket
from graphflow.distribute.transactions import Ahead, Attempt, Promised, ShardStore
from graphflow.execute.context import Resources
from graphflow.execute.inputs import InputLog
from graphflow.execute.store import Conflict

ONE, TWO, THREE = Ticket(0, 1, 1), Ticket(0, 2, 2), Ticket(0, 3, 3)


@pytest.fixture
def store():
    return ShardStore()


def attempt(store, ticket):
    return Attempt(ticket, store, Resources(), 0, InputLog(), threading.Event())


def test_a_prepared_write_is_not_seen_until_it_is_committed(store):
    one = attempt(store, ONE)
    one.transaction.write("x", 1)
    one.prepare()
    assert "x" not in store
    one.commit()
    assert store.begin().read("x") == 1


def test_a_promise_keeps_others_out_until_it_is_kept_or_withdrawn(store):
    one, two = attempt(store, ONE), attempt(store, TWO)
    for each in (one, two):
        each.transaction.write("x", each.ticket.run)
    one.prepare()
    with pytest.raises(Promised) as caught:
        two.prepare()
    assert caught.value.holder == ONE
    two.abort()  # it holds nothing, and must not take back what another one holds
    three = attempt(store, TWO)
    three.transaction.write("x", 3)
    with pytest.raises(Promised):
        three.prepare()
    one.abort()
    three.prepare()
    three.commit()
    assert store.begin().read("x") == 3


def test_what_was_read_and_has_changed_is_a_conflict(store):
    first = attempt(store, ONE)
    first.transaction.write("x", 1)
    late = attempt(store, TWO)
    late.transaction.write("x", late.transaction.get("x", 0) + 1)
    first.prepare()
    first.commit()
    with pytest.raises(Conflict) as caught:
        late.prepare()
    assert not isinstance(caught.value, Promised)


def test_views_of_memory_that_is_not_ours_are_copied_when_they_are_kept(store):
    view, own = np.zeros(3), np.zeros(3)
    view.flags.writeable = False
    one = attempt(store, ONE)
    one.transaction.write("view", view)
    one.transaction.write("own", own)
    one.prepare()
    one.commit()
    after = store.begin()
    assert after.read("view") is not view
    assert after.read("own") is own


class Output:
    def __init__(self, room=True):
        self.room, self.events = room, []

    def reserve(self):
        if not self.room:
            raise TimeoutError("full")
        self.events.append("reserved")

    def unreserve(self):
        self.events.append("given back")

    def __call__(self):
        self.events.append("released")


def test_output_is_reserved_first_and_released_at_the_commit(store):
    one, output = attempt(store, ONE), Output()
    one.output(output)
    assert one.releases
    one.prepare()
    assert output.events == ["reserved"]
    one.commit()
    assert output.events == ["reserved", "released"]


def test_output_that_has_no_room_gives_back_what_was_reserved(store):
    one, output = attempt(store, ONE), Output()
    one.output(output)
    one.output(Output(room=False))
    one.transaction.write("x", 1)
    with pytest.raises(TimeoutError):
        one.prepare()
    one.abort()
    assert output.events == ["reserved", "given back"]
    assert not store._promises


def test_who_builds_on_a_prepared_attempt_sees_its_writes_and_promises_after_it(store):
    first = attempt(store, ONE)
    first.transaction.write("x", 1)
    base = store.entries
    first.prepare()
    second = attempt(Ahead(store, base, [first]), TWO)
    second.transaction.write("x", second.transaction.read("x") + 1)
    second.prepare()
    first.commit()
    assert store.begin().read("x") == 1
    third = attempt(store, THREE)
    third.transaction.write("x", 9)
    with pytest.raises(Promised) as caught:
        third.prepare()
    assert caught.value.holder == TWO
    second.commit()
    assert store.begin().read("x") == 2
    assert not store._promises


def test_who_builds_on_an_attempt_that_was_undone_is_in_conflict(store):
    first = attempt(store, ONE)
    first.transaction.write("x", 1)
    first.prepare()
    second = attempt(Ahead(store, store.entries, [first]), TWO)
    second.transaction.write("x", second.transaction.read("x") + 1)
    first.abort()
    with pytest.raises(Conflict):
        second.prepare()
    second.abort()
    assert "x" not in store
    assert not store._promises


def test_attempts_that_build_on_each_other_may_be_undone_in_any_order(store):
    first = attempt(store, ONE)
    first.transaction.write("x", 1)
    first.prepare()
    second = attempt(Ahead(store, store.entries, [first]), TWO)
    second.transaction.write("x", 2)
    second.prepare()
    first.abort()
    second.abort()
    assert not store._promises

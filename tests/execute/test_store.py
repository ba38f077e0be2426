"""Transactions: all or nothing, snapshots, conflicts, and what concurrent runs add up to."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphflow.base.errors import FailedPreconditionError
from graphflow.execute.store import Conflict, Store


def committed(store, **values):
    t = store.begin()
    for key, value in values.items():
        t.write(key, value)
    return t.commit()


def test_a_read_sees_the_snapshot_and_its_own_writes():
    store = Store()
    committed(store, a=1)
    t = store.begin()
    committed(store, a=2)
    assert t.read("a") == 1
    t.write("a", 3)
    assert t.read("a") == 3


def test_an_abort_changes_nothing():
    store = Store()
    committed(store, a=1)
    t = store.begin()
    t.write("a", 2)
    t.write("b", 2)
    t.abort()
    assert store.begin().read("a") == 1
    assert "b" not in store


def test_what_has_no_value_cannot_be_read():
    with pytest.raises(FailedPreconditionError, match="uninitialized value a"):
        Store().begin().read("a")


def test_the_second_of_two_read_modify_writes_conflicts_and_applies_nothing():
    store = Store()
    committed(store, a=1, b=1)
    one, two = store.begin(), store.begin()
    one.write("a", one.read("a") + 1)
    two.write("a", two.read("a") + 1)
    two.write("b", 9)
    one.commit()
    with pytest.raises(Conflict):
        two.commit()
    assert store.begin().read("a") == 2
    assert store.begin().read("b") == 1


def test_writes_that_depend_on_nothing_do_not_conflict():
    store = Store()
    one, two = store.begin(), store.begin()
    one.write("a", 1)
    two.write("a", 2)
    one.commit()
    two.commit()
    assert store.begin().read("a") == 2


def test_versions_tell_the_order_of_commits():
    store = Store()
    first = committed(store, a=1)
    second = committed(store, b=1)
    assert (store.version_of("a"), store.version_of("b")) == (first, second)
    assert second > first
    assert store.version_of("c") == 0
    assert store.begin().commit() == 0


_EVENTS = st.tuples(
    st.integers(0, 3), st.sampled_from(["begin", "add", "commit"]), st.sampled_from("abc")
)


@given(st.lists(_EVENTS, max_size=60))
def test_increments_of_interleaved_transactions_are_never_lost(script):
    """Whatever the interleaving, each counter ends at the number of increments committed."""
    store = Store()
    committed(store, a=0, b=0, c=0)
    open_, added, total = {}, {}, {"a": 0, "b": 0, "c": 0}
    for who, what, key in script:
        if what == "begin" or who not in open_:
            open_[who], added[who] = store.begin(), []
        elif what == "add":
            t = open_[who]
            t.write(key, t.read(key) + 1)
            added[who].append(key)
        else:
            try:
                open_.pop(who).commit()
            except Conflict:
                continue
            for k in added[who]:
                total[k] += 1
    t = store.begin()
    assert {k: t.read(k) for k in total} == total


def test_many_are_read_and_written_as_one_by_one():
    store = Store()
    committed(store, a=1, b=2)
    t = store.begin()
    assert t.read_all(["b", "a"]) == [2, 1]
    t.write_all({"a": 3, "c": 4})
    assert t.read_all(["a", "b", "c"]) == [3, 2, 4]
    with pytest.raises(FailedPreconditionError, match="d"):
        t.read_all(["a", "d"])
    with pytest.raises(FailedPreconditionError, match="d"):
        store.begin().read_all(["d", "a"])
    other = store.begin()
    other.read_all(["b"])
    other.write("b", 5)
    committed(store, b=6)
    with pytest.raises(Conflict):  # what was read counts
        other.commit()
    t.commit()
    assert store.begin().read_all(["a", "b", "c"]) == [3, 6, 4]

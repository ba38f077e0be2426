"""Versions of a table: each stays what it was, whatever is written to others."""

from __future__ import annotations

import gc
import pickle
import weakref

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from graphflow.distribute.tables import Table

ROWS, WIDTH = 8, 3

changes = st.lists(
    st.tuples(
        st.integers(0, 100),  # which version
        st.sets(st.integers(0, ROWS - 1)).map(sorted),
        st.sampled_from(["write", "write", "write", "take", "forget"]),
    ),
    max_size=30,
)


@given(changes)
@settings(max_examples=200, deadline=None)
def test_each_version_stays_what_it_was(steps):
    """Against copies: a tree of versions, of which any may be read whole, written to, forgotten."""
    first = np.arange(ROWS * WIDTH, dtype=np.float32).reshape(ROWS, WIDTH)
    versions = [(Table(first.copy()), first)]
    taken = []
    for number, (which, rows, what) in enumerate(steps):
        table, model = versions[which % len(versions)]
        if what == "take":
            taken.append((table.take(), model))
        elif what == "forget":
            del versions[which % len(versions)]
            versions = versions or [(Table(first.copy()), first)]
        else:
            new = model.copy()
            new[rows] = values = np.full((len(rows), WIDTH), 1000 + number, np.float32)
            versions.append((table.updated(np.array(rows, np.int64), values), new))
        for table, model in versions:
            np.testing.assert_array_equal(table.look_up(np.arange(ROWS)), model)
            np.testing.assert_array_equal(table.look_up(np.int32(5)), model[5])
        for array, model in taken:
            np.testing.assert_array_equal(array, model)
    for table, model in versions:
        np.testing.assert_array_equal(table.copy(), model)
        np.testing.assert_array_equal(pickle.loads(pickle.dumps(table)), model)


def write(table, rows, value=1.0):
    rows = np.array(rows)
    return table.updated(rows, np.full((len(rows), table.shape[1]), value, table.dtype))


def test_a_write_goes_to_the_same_memory_until_somebody_has_taken_it():
    one = Table(np.zeros((ROWS, WIDTH)))
    two = write(one, [1, 2])
    assert two.take() is one._memory.array
    three = write(two, [3])
    assert three._memory is not one._memory
    assert write(three, [4])._memory is three._memory


def test_the_log_of_a_version_goes_with_it_and_never_outgrows_the_table():
    one = Table(np.zeros((ROWS, WIDTH)))
    kept = weakref.ref(one)
    new = write(one, [1])
    for _ in range(3 * ROWS):
        new = write(new, [1])
    assert new._memory is not one._memory  # as the first version was wanted all the time
    del one
    gc.collect()
    assert kept() is None
    memory = new._memory
    for _ in range(100 * ROWS):
        new = write(new, [1])
    assert new._memory is memory


def test_what_has_changed_between_two_versions():
    one = Table(np.zeros((ROWS, WIDTH)))
    two = write(write(one, [1, 2]), [2, 5])
    three = write(two, [0])
    assert two.changed_since(one).tolist() == [1, 2, 5]
    assert three.changed_since(two).tolist() == [0]
    assert three.changed_since(three).tolist() == []
    assert one.changed_since(two) is None
    back = write(one, [7])  # `two` and `three` come to nothing
    assert back.changed_since(one).tolist() == [7]
    assert two.copy()[:, 0].tolist() == [0, 1, 1, 0, 0, 1, 0, 0]


def test_a_long_history_is_forgotten_at_once():
    table = first = Table(np.zeros((100_000, 1)))
    for i in range(50_000):
        table = write(table, [i])
    first = weakref.ref(first)
    gc.collect()
    assert first() is None

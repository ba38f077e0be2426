"""Those who watch the runs of all sessions see each, and may ask for a trace."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

import graphflow as tf
from graphflow.session import watching
from graphflow.session.watching import Call, watched_by


def test_watchers_see_runs_from_outside_in_and_change_what_is_asked() -> None:
    told: list[str] = []
    metadata = tf.RunMetadata()

    @contextmanager
    def outer(call: Call) -> Iterator[Call]:
        told.append(f"begins {call.fetches.name}")
        options = tf.RunOptions(trace_level=tf.RunOptions.FULL_TRACE)
        try:
            yield call._replace(options=options, run_metadata=metadata)
        finally:
            told.append("ends")

    @contextmanager
    def inner(call: Call) -> Iterator[Call]:
        assert call.run_metadata is metadata
        told.append("inside")
        yield call

    with tf.Graph().as_default(), tf.Session() as session:
        y = tf.add(tf.constant(1.0), 2.0, name="y")
        bad = tf.Assert(False, ["no"], name="bad")
        with watched_by(outer), watched_by(inner):
            assert session.run(y) == 3.0
            with pytest.raises(tf.errors.InvalidArgumentError):
                session.run(bad)
        assert session.run(y) == 3.0
    assert told == ["begins y:0", "inside", "ends", "begins bad", "inside", "ends"]
    assert metadata.step_stats is not None
    assert not watching.watchers

"""A session for those tests that need no particular one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import graphflow as tf


@pytest.fixture
def session() -> Iterator[tf.Session]:
    """On a graph of its own, which is the default."""
    with tf.Graph().as_default(), tf.Session() as session:
        yield session

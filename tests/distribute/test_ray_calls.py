"""What becomes of calls of actors, with stand-ins for these."""

from __future__ import annotations

from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any

import pytest

from graphflow.distribute.messages import Ticket

pytestmark = pytest.mark.ray

TICKET = Ticket(0, 1, 1)


class Method:
    """Of an actor."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.answer: Future[None] = Future()

    def remote(self, *arguments: Any) -> Any:
        self.calls.append(arguments)
        return SimpleNamespace(future=lambda: self.answer)


@pytest.fixture
def actor(monkeypatch: pytest.MonkeyPatch) -> Any:
    ray = pytest.importorskip("ray")
    monkeypatch.setattr(ray, "is_initialized", lambda: True)
    return SimpleNamespace(deliver=Method(), undelivered=Method())


def test_a_value_that_an_actor_cannot_read_is_told_to_it(actor):
    """Ray has called nothing there: the value failed on its way to `deliver`."""
    from graphflow.distribute.ray_calls import hand

    hand(actor, "session", TICKET, "key", 1.0)
    assert actor.deliver.calls == [("session", TICKET, "key", 1.0)]
    actor.deliver.answer.set_exception(MemoryError("while it was unpickled"))
    assert actor.undelivered.calls == [("session", TICKET, "key", "while it was unpickled")]
    actor.undelivered.answer.set_exception(OSError("it is gone"))  # which is noticed elsewhere


def test_of_a_value_that_was_taken_nothing_is_told(actor):
    from graphflow.distribute.ray_calls import hand

    hand(actor, "session", TICKET, "key", 1.0)
    actor.deliver.answer.set_result(None)
    assert not actor.undelivered.calls

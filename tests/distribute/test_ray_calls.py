"""What becomes of calls of actors, with stand-ins for these."""

from __future__ import annotations

from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any

import pytest

from graphflow.distribute.channel import Gone
from graphflow.distribute.messages import Save, Step, Ticket

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


class Actor:
    """Each of its methods is made when it is first asked for."""

    def __getattr__(self, name: str) -> Method:
        made = self.__dict__[name] = Method()
        return made


@pytest.fixture(autouse=True)
def no_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    import ray

    monkeypatch.setattr(ray, "is_initialized", lambda: True)


@pytest.fixture
def actor() -> Actor:
    return Actor()


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


def ended() -> Exception:
    """Of a worker that was lost."""
    from ray.exceptions import RayActorError

    return RayActorError()


@pytest.mark.parametrize(
    ("message", "lost"), [(Step(1, (), TICKET, 1, (), False), True), (Save(1, (), 0, 1, 0), False)]
)
def test_a_worker_that_cannot_read_a_step_is_lost(message, lost):
    """It takes nothing that comes after that step.  Of a copy, the answer may be too much."""
    from ray.exceptions import RayTaskError

    from graphflow.distribute.ray_transport import RayLink

    actor, came = Actor(), []
    reserve: Any = None
    RayLink("session", {"a": actor}, reserve).send("a", message, came.append)
    method = actor.step if lost else actor.notice
    assert method.calls == [("session", message)]
    method.answer.set_exception(RayTaskError("step", "", MemoryError("of the worker")))
    assert came == [Gone("MemoryError: of the worker", worker_lost=lost)]


@pytest.mark.parametrize(
    ("answer", "heard"),
    [
        (lambda: None, None),
        (ended, None),  # which is noticed elsewhere
        (lambda: MemoryError("of a peer"), Gone("of a peer", worker_lost=False)),
    ],
    ids=["met", "lost", "failed"],
)
def test_a_worker_in_the_place_of_another_waits_until_peers_know_it(answer, heard):
    """One that lives and does not would send values to the old one, where nobody takes them."""
    from graphflow.distribute.ray_transport import RayLink

    peers, fresh, came = {"b": Actor(), "c": Actor()}, Actor(), []
    reserve: Any = SimpleNamespace(replacement=lambda *_: fresh, replaced=lambda *_: None)
    RayLink("session", {"a": Actor(), **peers}, reserve).replace("a", came.append)
    fresh.describe.answer.set_result("what it has")
    for peer, told in zip(peers.values(), (answer(), None), strict=True):
        assert not came
        assert peer.meet.calls == [({"a": fresh},)]
        if told is None:
            peer.meet.answer.set_result(None)
        else:
            peer.meet.answer.set_exception(told)
    assert came == [heard]


def test_workers_that_live_and_do_not_learn_where_values_go_are_named(monkeypatch):
    import ray
    from ray.exceptions import RayTaskError

    from graphflow.distribute.ray_transport import locate

    def get(reference: Any) -> None:
        if isinstance(reference, Exception):
            raise reference

    failed = RayTaskError("locate", "MemoryError: of a peer", MemoryError("of a peer"))
    calls = {"a": "answers", "b": ended(), "c": failed, "d": "does not"}

    def actor(what: Any) -> Any:
        return SimpleNamespace(locate=SimpleNamespace(remote=lambda _: what))

    monkeypatch.setattr(ray, "get", get)
    monkeypatch.setattr(ray, "wait", lambda references, **_: (references[:3], references[3:]))
    assert locate({name: actor(what) for name, what in calls.items()}, {}, 0.5) == {
        "c": "MemoryError: of a peer",
        "d": "it did not answer within 0.5 s",
    }

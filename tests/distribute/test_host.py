"""One session on one worker: who waits there for what never comes."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import pytest

from graphflow.base.errors import CancelledError
from graphflow.distribute.host import Host
from graphflow.distribute.messages import Applied, Notice, Refused, Save, Saved, Step, Ticket
from tests.until import PATIENCE, until

# They come after a message that does not.
LATER = [
    Notice(2, ()),
    Save(2, (), 0, 1, 0),
    Step(2, (), Ticket(0, 1, 1), 1, (), False),
    Step(2, (), Ticket(0, 1, 1), 1, (), False, None, Ticket(0, 2, 2)),
]


@pytest.fixture
def host() -> Iterator[Host]:
    channel: Any = SimpleNamespace(bell=threading.Condition)
    host = Host(0, channel, patience=1000 * PATIENCE)
    yield host
    host.close()


def told(host: Host, message: Any) -> Any:
    return (host.step if isinstance(message, Step) else host.notice)(message)


def cancelled(answer: Any) -> bool:
    """A notice has no error: it says what is applied, which is true."""
    return answer == Applied(0) or isinstance(answer.error, CancelledError)


@pytest.mark.parametrize("message", LATER)
def test_closing_wakes_who_waits_for_his_turn(host, message):
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(told, host, message)
        until(lambda: host._machine._ahead)
        host.close()
        assert isinstance(answer.result(PATIENCE), (Applied, Saved, Refused))
        assert cancelled(answer.result())


@pytest.mark.parametrize("message", LATER)
def test_nobody_waits_for_his_turn_once_it_is_closed(host, message):
    host.close()
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(told, host, message).result(PATIENCE)
    assert isinstance(answer, (Applied, Saved, Refused))
    assert cancelled(answer)


def test_who_was_woken_by_the_end_does_nothing_when_his_turn_comes(host):
    host.close()
    told(host, LATER[2])
    assert told(host, Notice(1, ())) == Applied(0)
    assert not host._machine.states
    assert not host._work

"""Who takes part in the fast transport, with workers in this process and a stand-in for Ray."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from graphflow.base.errors import UnavailableError
from graphflow.distribute.fast.network import Network
from graphflow.distribute.fast.peers import Address
from graphflow.distribute.fast.service import Service
from tests.until import PATIENCE


class Calls:
    """Attributes:
    deaf: workers that do not learn where values are taken, and why.
    """

    def __init__(self) -> None:
        self.deaf: dict[str, str] = {}
        self.services: list[Service] = []

    def join(self, actors: Any, given: Mapping[str, Any], patience: float) -> dict[str, Address]:
        for _, invitation, _ in given.values():
            self.services.append(Service(invitation, lambda session: None))
        return {name: Address("here", f"local {name}", "", 0) for name in given}

    def locate(self, actors: Any, addresses: Any, patience: float) -> dict[str, str]:
        return self.deaf

    def outlive(self, actor: Any, ended: Any) -> None:
        pass


class Listener:
    def __init__(self) -> None:
        self.heard: list[tuple[str, str]] = []

    def lost(self, name: str, reason: str) -> None:
        self.heard.append((name, reason))


@pytest.fixture
def calls() -> Calls:
    return Calls()


@pytest.fixture
def network(calls: Calls) -> Iterator[Network]:
    network = Network(calls, "127.0.0.1", shared_memory=True, tls=False, patience=PATIENCE)
    yield network
    network.close()
    for service in calls.services:
        service.close()


WHAT = "it does not learn where the others take values: it did not answer"


def test_who_does_not_learn_of_a_new_worker_is_lost_and_that_one_is_not(network, calls):
    """Its values would go to the old one, and the new one would wait for them for ever: both give
    signs of life."""
    listener, actors = Listener(), {"a": 1, "b": 2}
    network.join(actors, ["a", "b"])
    network.exchange.audience.add(listener)
    calls.deaf = {"b": "it did not answer"}
    network.join(actors | {"a": 3}, ["a"])
    assert listener.heard == [("a", "another one has taken its place"), ("b", WHAT)]
    assert network.exchange.has("a")
    assert not network.exchange.has("b")


def test_a_new_worker_that_does_not_learn_of_the_others_is_told_of(network, calls):
    calls.deaf = {"b": "it did not answer"}
    with pytest.raises(UnavailableError, match=f"b was lost: {WHAT}"):
        network.join({"a": 1, "b": 2}, ["a", "b"])

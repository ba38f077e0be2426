"""Who takes part in the fast transport of a cluster: keys, addresses, joining and replacing."""

from __future__ import annotations

import os
import secrets
import threading
from collections import Counter
from collections.abc import Collection, Mapping
from typing import Any, Protocol

from graphflow.base.errors import UnavailableError
from graphflow.distribute.fast import certificates
from graphflow.distribute.fast.exchange import Exchange, Invitation
from graphflow.distribute.fast.peers import Access, Address


class Calls(Protocol):
    """Authenticated calls to the workers: Ray's.  An actor stands for a worker here."""

    def join(
        self, actors: Mapping[str, Any], given: Mapping[str, tuple[Any, ...]], patience: float
    ) -> dict[str, Address]:
        """Have workers take part, each with its name, its invitation and the access to its peers;
        where they take values.

        Raises:
          TimeoutError: names one that does not answer.
          UnavailableError: one has ended.
        """
        ...

    def locate(
        self, actors: Mapping[str, Any], addresses: Mapping[str, Address], patience: float
    ) -> Mapping[str, str]:
        """Tell workers where all take values; those that live and do not know it, and why."""
        ...

    def outlive(self, actor: Any, ended: Any) -> None:
        """Call `ended` with the reason when a worker ends, or cannot be reached any more."""
        ...


class Network:
    """The fast transport of a cluster, at its driver.

    Attributes:
      job: names the driver.
      exchange: reaches the workers.
    """

    def __init__(
        self, calls: Calls, interface: str, shared_memory: bool, tls: bool, patience: float
    ):
        """Args:
        calls: to the workers.
        interface: address to listen on.
        shared_memory: use what only processes of one machine have, where they are on one.
        tls: encrypt values between machines.
        patience: seconds that a worker may take to join.
        """
        self.job = f"{os.getpid()}-{secrets.token_hex(4)}"
        certificate = certificates.make(f"graphflow-{self.job}") if tls else ("", "")
        key = secrets.token_bytes(32)
        self.exchange = Exchange(interface, local=shared_memory)
        self._access = Access(self.job, key, interface, shared_memory, *certificate)
        self._calls = calls
        self._patience = patience
        self._lock = threading.Lock()
        self._joined: dict[str, Any] = {}  # worker -> its actor
        self._addresses: dict[str, Address] = {}

    @property
    def dropped(self) -> Counter[str]:
        """Connections to the driver "refused", frames "malformed" or "replayed", so far."""
        return self.exchange.dropped

    def join(self, actors: Mapping[str, Any], workers: Collection[str]) -> None:
        """Connect workers to the driver and to each other, where they are not; those that have
        taken the place of others, too.

        Args:
          actors: all workers of the cluster.
          workers: names of some.

        Raises:
          UnavailableError: one has ended, or cannot connect.
        """
        with self._lock:
            fresh = [w for w in workers if self._joined.get(w) is not actors[w]]
            if not fresh:
                return
            invitations = {}
            for worker in fresh:
                self.exchange.lose(worker, "another one has taken its place")
                invitations[worker] = self.exchange.invite(worker)
            try:
                self._connect(actors, invitations)
            except TimeoutError as error:
                raise UnavailableError(
                    None,
                    None,
                    f"worker {error} did not connect to the driver within {self._patience:g} s: "
                    'can it reach its ports? transport="ray", or protocol="ray" of a server, needs '
                    "none",
                ) from error
            self._joined |= {worker: actors[worker] for worker in fresh}

    def _connect(self, actors: Mapping[str, Any], invitations: Mapping[str, Invitation]) -> None:
        given = {worker: (worker, i, self._access) for worker, i in invitations.items()}
        self._addresses |= self._calls.join(actors, given, self._patience)
        deaf = self._calls.locate(actors, self._addresses, self._patience)
        for worker, reason in deaf.items():  # it would send them to where nobody takes them
            what = f"it does not learn where the others take values: {reason}"
            self.exchange.lose(worker, what)
            if worker in invitations:
                raise UnavailableError(None, None, f"{worker} was lost: {what}")
        for worker, invitation in invitations.items():
            self.exchange.settle(invitation, self._addresses[worker].local)
            self._calls.outlive(actors[worker], _Ended(self.exchange, worker, invitation))
            self.exchange.greet(worker, self._patience)

    def close(self) -> None:
        """Close all connections of the driver."""
        self.exchange.close()


class _Ended:
    """Tells the exchange that a worker has ended, if it is still that one."""

    def __init__(self, exchange: Exchange, worker: str, invitation: Invitation):
        self._exchange = exchange
        self._worker = worker
        self._invitation = invitation

    def __call__(self, reason: str) -> None:
        self._exchange.lose(self._worker, reason, self._invitation)

"""Ray: starts workers, carries messages to them, and tells who has ended; `ray_worker` is what it
starts.  Nothing imports this module before a cluster is wanted.
"""

from __future__ import annotations

import inspect
import itertools
import math
import os
import socket
import sys
import threading
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol

import ray
from ray.exceptions import RayActorError, RayError

from graphflow.base.errors import UnavailableError
from graphflow.distribute.addresses import FIXED, launched
from graphflow.distribute.channel import Gone, Hear, Link
from graphflow.distribute.fast.peers import Address
from graphflow.distribute.messages import Message, Step
from graphflow.distribute.processors import BIND
from graphflow.distribute.ray_calls import UNTAKEN, call, gone, reason
from graphflow.distribute.ray_worker import GROUPS, LOOPBACK, Description, Executor

# Of a Ray that is started here; `cluster/` has the same.  A machine is given up after a second
# instead of 15; a frozen worker, and its share of the machine, after 0.1 s instead of 5.
TUNED = {
    "health_check_initial_delay_ms": 0,
    "health_check_period_ms": 300,
    "health_check_timeout_ms": 1000,
    "health_check_failure_threshold": 3,
    "kill_worker_timeout_milliseconds": 100,
}
KNOCKING = 10.0  # seconds for a head to accept a connection
# A process that a busy machine ends later than a second after it was killed is not left behind, for
# Python to warn of; older Rays have no choice.
_PATIENTLY = {
    name: True for name in inspect.signature(ray.shutdown).parameters if name.startswith("wait_for")
}


class Reserve(Protocol):
    """Where actors for lost workers come from."""

    def replacement(self, worker: str, lost: Any) -> Any:
        """The actor that takes the place of one that was lost; at once."""
        ...

    def replaced(self, worker: str, found: Description) -> None:
        """It is up."""
        ...


class RayLink(Link):
    """The driver's way to the workers of one session: actor calls."""

    def __init__(self, session: str, actors: Mapping[str, Any], reserve: Reserve):
        """Args:
        session: its name.
        actors: worker -> its actor.
        reserve: where those come from that take the place of lost ones.
        """
        self._session = session
        self._actors = dict(actors)
        self._reserve = reserve

    def send(self, worker: str, message: Message, hear: Hear) -> None:
        actor = self._actors[worker]
        if isinstance(message, Step):  # one that it could not read is missing in the sequence
            call(actor.step, (self._session, message), hear, UNTAKEN)
        else:
            call(actor.notice, (self._session, message), hear)

    def call(self, worker: str, method: str, *arguments: Any, hear: Hear) -> None:
        call(self._actors[worker].call, (self._session, method, arguments), hear)

    def ping(self, worker: str, hear: Hear) -> None:
        call(self._actors[worker].ping, (), hear)

    def collect(self, worker: str, serial: int, hear: Hear) -> None:
        """Ask for an answer that a worker keeps, see `Executor.collect`."""
        call(self._actors[worker].collect, (serial,), hear)

    def replace(self, worker: str, hear: Hear) -> None:
        if not ray.is_initialized():
            hear(Gone("the connection to Ray was closed"))
            return
        try:
            actor = self._actors[worker] = self._reserve.replacement(worker, self._actors[worker])
        except RayError as error:
            hear(gone(error))
            return
        peers = [peer for name, peer in self._actors.items() if name != worker]
        left = itertools.count(len(peers) - 1, -1)
        failed: list[Gone] = []

        def met(answer: Any) -> None:
            """A peer knows the new worker.  One that is lost, too, is noticed elsewhere; one that
            lives, and does not know it, would send values to the old one."""
            if isinstance(answer, Gone) and not answer.worker_lost:
                failed.append(answer)
            if next(left) == 0:
                hear(failed[0] if failed else None)

        def introduce(found: Any) -> None:
            """The new worker is up; or it is not."""
            if isinstance(found, Gone):
                hear(found)
                return
            self._reserve.replaced(worker, found)
            if not peers:
                hear(None)
            for peer in peers:
                call(peer.meet, ({worker: actor},), met)

        call(actor.describe, (dict(self._actors),), introduce)


# ---- starting and ending


class _Connection:
    """This process's connection to Ray, which clusters share, where one of them has made it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users = 0
        self._ours = False

    def open(self, options: Mapping[str, Any]) -> None:
        with self._lock:
            if not ray.is_initialized():
                _knock(options.get("address") or "")
                ray.init(**options)
                self._users, self._ours = 0, True
            self._users += 1

    def close(self) -> None:
        with self._lock:
            self._users -= 1
            if self._ours and self._users == 0:
                ray.shutdown(**_PATIENTLY)
                self._ours = False


def _knock(address: str) -> None:
    """See that something listens at "host:port", where Ray itself would try for minutes.

    Raises:
      UnavailableError: nothing does.
    """
    host, colon, port = address.rpartition(":")
    if not colon or "://" in address or not port.isdecimal():
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), KNOCKING).close()
    except OSError as error:
        raise UnavailableError(
            None,
            None,
            f"no Ray answers at {address} ({error}): give the address of a head that runs (`ray "
            f"start --head --port={port}` starts one), or none to have one started here",
        ) from error


_connection = _Connection()


def connect(address: str | None, cpus: float, gpus: int, object_store_memory: int) -> None:
    """Make sure that this process is connected to Ray, until `disconnect`.

    Raises:
      RuntimeError: it is, and a Ray of its own is wanted.
    """
    quiet = {"log_to_driver": False, "logging_level": "ERROR"}
    if address not in (None, "local"):
        package = _source()
        shipped = {"py_modules": [str(package)]} if package else None
        _connection.open({"address": address, "runtime_env": shipped, **quiet})
        return
    if address == "local" and ray.is_initialized():
        raise RuntimeError(
            "this process is connected to Ray already: leave the address out to use that"
        )
    own = {
        "address": "local",  # None would follow a file that an older Ray may have left
        "num_cpus": max(math.ceil(cpus), os.cpu_count() or 1),
        "num_gpus": gpus or None,
        "include_dashboard": False,
        "object_store_memory": object_store_memory,
        "_node_ip_address": LOOPBACK,
        "_system_config": TUNED,
    }
    _connection.open(own | quiet)


def disconnect() -> None:
    """Take back a `connect`: the last one ends the connection, and the Ray, that the first one
    has started."""
    _connection.close()


def start_worker(
    cpus: float,
    gpus: float,
    reserve: bool = True,
    bind: bool = False,
    disable_aslr: bool = False,
) -> Any:
    """Start the actor of a worker; a handle, at once.  Without a reservation it starts wherever
    there is a machine, and computes as if it had one.  With `bind` it is bound to processors when
    it takes part; with `disable_aslr` its addresses are those of all others."""
    actor: Any = ray.remote(concurrency_groups=GROUPS)(Executor)
    return actor.options(
        num_cpus=cpus if reserve else 0,
        num_gpus=gpus if reserve else 0,
        max_restarts=0,  # a restarted actor would answer on blank state
        max_task_retries=0,
        scheduling_strategy="SPREAD",
        runtime_env=_environment(cpus, bind, disable_aslr),
    ).remote()


def warm(actor: Any, peers: Mapping[str, Any]) -> None:
    """Connect this process to a spare, and the spare to the workers, before it is needed: the first
    call of a worker takes 0.1 to 0.6 s, and later ones a few milliseconds."""
    call(actor.describe, (dict(peers),), lambda answer: None)


def _environment(cpus: float, bind: bool = False, disable_aslr: bool = False) -> dict[str, Any]:
    """As many BLAS threads as cores, the driver's own graphflow, and its priority."""
    threads = str(max(1, int(cpus)))
    variables = dict.fromkeys(
        ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), threads
    )
    # Ray's workers have 15 otherwise, and so a thirtieth of the weight of whatever else runs there:
    # beside two busy processes on two cores, a step of nothing took 3.7 ms instead of 0.18.
    variables["RAY_worker_niceness"] = "0"
    if bind:
        variables[BIND] = threads
    package = _source()
    if package:  # for workers of this machine; others get it by `connect`, or share the disk
        path = [str(package.parent), os.environ.get("PYTHONPATH", "")]
        variables["PYTHONPATH"] = os.pathsep.join(filter(None, path))
    found: dict[str, Any] = {"env_vars": variables}
    if disable_aslr:
        variables[FIXED] = "1"
        job = ray.get_runtime_context().runtime_env
        found["py_executable"] = launched(sys.executable, job)
    return found


def _source() -> Path | None:
    """This package where it is not installed, so that workers may lack it."""
    package = Path(__file__).parents[1]
    installed = package.parent.name in ("site-packages", "dist-packages")
    return None if installed else package


def describe(actors: Mapping[str, Any], patience: float) -> dict[str, Description]:
    """Wait until all workers are up; what each has.

    Raises:
      TimeoutError: names those that are not.
      RayError: one could not be started.
    """
    return _results(
        {name: actor.describe.remote(dict(actors)) for name, actor in actors.items()}, patience
    )


def ended(actors: Mapping[str, Any], patience: float) -> dict[str, Any]:
    """Those of the workers that are gone; who does not answer in time is not among them."""
    calls = {name: actor.ping.remote() for name, actor in actors.items()}
    answered, _ = ray.wait(list(calls.values()), num_returns=len(calls), timeout=patience)
    gone = {}
    for name, asked in calls.items():
        if asked in answered:
            try:
                ray.get(asked)
            except RayActorError:
                gone[name] = actors[name]
    return gone


def interface(found: Iterable[Description]) -> str:
    """The address on which this process listens for these workers: loopback, where all of them
    are on this machine."""
    here = ray.get_runtime_context().get_node_id()
    return LOOPBACK if all(f.node == here for f in found) else ray.util.get_node_ip_address()


def join(
    actors: Mapping[str, Any], given: Mapping[str, tuple[Any, ...]], patience: float
) -> dict[str, Address]:
    """See `fast.network.Calls`."""
    try:
        return _results({w: actors[w].join.remote(*each) for w, each in given.items()}, patience)
    except RayError as error:
        raise UnavailableError(None, None, f"a worker did not join: {reason(error)}") from error


def locate(
    actors: Mapping[str, Any], addresses: Mapping[str, Address], patience: float
) -> dict[str, str]:
    """See `fast.network.Calls`."""
    calls = {name: actor.locate.remote(dict(addresses)) for name, actor in actors.items()}
    answered, _ = ray.wait(list(calls.values()), num_returns=len(calls), timeout=patience)
    deaf = {}
    for name, asked in calls.items():
        if asked not in answered:
            deaf[name] = f"it did not answer within {patience:g} s"
            continue
        try:
            ray.get(asked)
        except RayError as error:
            told = gone(error)
            if not told.worker_lost:  # else that is noticed elsewhere
                deaf[name] = told.reason
    return deaf


def outlive(actor: Any, ended: Callable[[str], None]) -> None:
    """See `fast.network.Calls`."""

    def tell(answer: Any) -> None:
        ended(answer.reason if isinstance(answer, Gone) else "it has ended")

    call(actor.live, (), tell)


def _results(calls: Mapping[str, Any], patience: float) -> dict[str, Any]:
    """What several workers answer.

    Raises:
      TimeoutError: names one that does not.
    """
    ray.wait(list(calls.values()), num_returns=len(calls), timeout=patience)
    found = {}
    for name, reference in calls.items():
        if not ray.wait([reference], timeout=0)[0]:
            raise TimeoutError(name)
        found[name] = ray.get(reference)
    return found


def resources() -> Mapping[str, float]:
    """What Ray has in all, by name."""
    return ray.cluster_resources()


def room(cpus: float, gpus: float) -> int:
    """For how many workers there are resources that nobody uses."""
    free = ray.available_resources()
    needs = {"CPU": cpus, "GPU": gpus}
    return int(min([free.get(name, 0) // each for name, each in needs.items() if each] or [1]))


def end_worker(actor: Any) -> None:
    """End a worker, whatever it does."""
    if ray.is_initialized():
        ray.kill(actor, no_restart=True)

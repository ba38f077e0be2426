"""Schedules of parallel training, simulated: pipelines, all-reduce, parameter servers.

For what-if: how long a step would take on machines that one doesn't have.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import numpy as np

from graphflow.base.devices import local
from graphflow.base.errors import InvalidArgumentError
from graphflow.place.devices import Device, Link, Topology
from graphflow.place.problem import Problem
from graphflow.place.simulate import Schedule, simulate

Seconds = np.ndarray[Any, np.dtype[np.float64]]
Order = Literal["gpipe", "1f1b"]


# ---- pipelines


@dataclass(frozen=True, eq=False)
class Pipeline:
    """A simulated pipeline.

    Attributes:
      schedule: forward tasks "F stage.microbatch" and backward tasks "B ...", stage by device.
      stages, microbatches: how many.
    """

    schedule: Schedule
    stages: int
    microbatches: int

    @property
    def makespan(self) -> float:
        """Seconds of one step."""
        return self.schedule.makespan

    @property
    def bubble(self) -> float:
        """Share of the devices' time in which they wait."""
        return sum(self.schedule.idle) / (self.stages * self.makespan)


def pipeline(
    forward: Sequence[float],
    microbatches: int,
    *,
    backward: Sequence[float] | None = None,
    order: Order = "gpipe",
    link: Link | None = None,
    size: float = 0.0,
) -> Pipeline:
    """A step of pipeline parallelism: each stage on a device of its own.

    With K equal stages, M microbatches and messages for free, the bubble is (K-1)/(M+K-1) in
    both orders; "1f1b" keeps at most K microbatches' values per stage, "gpipe" all M.

    Args:
      forward: seconds of one microbatch in each stage.
      microbatches: how many.
      backward: seconds of its gradient in each stage; None: forward alone, as in inference.
      order: "gpipe" (all forward, then all backward) or "1f1b" (one forward, one backward).
      link: between neighbours; None: messages take no time.
      size: bytes of a microbatch's values between stages, gradients alike.

    Raises:
      InvalidArgumentError: there is no stage or microbatch, or the lengths differ.

    Sources: Huang et al., "GPipe", 2019; Narayanan et al., "PipeDream", 2019.
    """
    stages = len(forward)
    if not stages or microbatches < 1:
        raise _invalid(f"a pipeline of {stages} stages and {microbatches} microbatches is empty")
    if backward is not None and len(backward) != stages:
        raise _invalid(f"{stages} stages have {len(backward)} backward times")
    build = _PipelineTasks(forward, microbatches, backward, size)
    topology = _devices(stages, link or Link(0.0, float("inf")))
    problem = build.problem(topology)
    rank = [0.0] * len(build.names)
    for stage in range(stages):
        steps = stage_order(order, stage, stages, microbatches, backward is not None)
        for position, (way, microbatch) in enumerate(steps):
            rank[build.number[way, stage, microbatch]] = -float(position)
    where = [stage for _, stage, _ in build.number]
    return Pipeline(simulate(problem, where, rank, strict=True), stages, microbatches)


def stage_order(
    order: Order, stage: int, stages: int, microbatches: int, backward: bool
) -> list[tuple[str, int]]:
    """What a stage does, one after the other: ("F" or "B", microbatch)."""
    forward = [("F", m) for m in range(microbatches)]
    if not backward:
        return forward
    back = [("B", m) for m in range(microbatches)]
    if order == "gpipe":
        return forward + back
    ahead = min(stages - stage, microbatches)  # forward passes before the first backward one
    steps = forward[:ahead]
    for m in range(microbatches):
        steps.append(back[m])
        steps += forward[ahead + m : ahead + m + 1]
    return steps


class _PipelineTasks:
    """Tasks in an order in which they may run: forward by stage, then backward."""

    def __init__(
        self,
        forward: Sequence[float],
        microbatches: int,
        backward: Sequence[float] | None,
        size: float,
    ):
        self.names: list[str] = []
        self.number: dict[tuple[str, int, int], int] = {}
        self.seconds: list[float] = []
        self.needs: list[list[int]] = []
        self.size = size
        stages = range(len(forward))
        for s in stages:
            for m in range(microbatches):
                self._add(("F", s, m), forward[s], [("F", s - 1, m)])
        if backward is not None:
            for s in reversed(stages):
                for m in range(microbatches):
                    self._add(("B", s, m), backward[s], [("F", s, m), ("B", s + 1, m)])

    def _add(
        self, key: tuple[str, int, int], seconds: float, before: list[tuple[str, int, int]]
    ) -> None:
        self.number[key] = len(self.names)
        self.names.append(f"{key[0]} {key[1]}.{key[2]}")
        self.seconds.append(seconds)
        self.needs.append([self.number[b] for b in before if b in self.number])

    def problem(self, topology: Topology) -> Problem:
        n, devices = len(self.names), len(topology.devices)
        return Problem(
            topology,
            self.names,
            [[s] * devices for s in self.seconds],
            self.needs,
            range(n),  # each task makes one value
            [self.size] * n,
            range(n),
            [range(devices)] * n,
            {},
        )


def _devices(count: int, link: Link) -> Topology:
    """A chain of equal devices."""
    names = [local("CPU", i) for i in range(count)]
    links = {}
    for a, b in pairwise(names):
        links[a, b] = links[b, a] = link
    return Topology(tuple([Device(name) for name in names]), links)


# ---- all-reduce


def ring_all_reduce(
    size: float, links: Link | Sequence[Link], ready: Sequence[float] | Seconds
) -> Seconds:
    """When each device has the sum, by a ring: n - 1 rounds to add up, n - 1 to hand round.

    Where all n are ready at once and links are equal, that takes
    2 (n-1) alpha + 2 (n-1)/n size / beta seconds.

    Args:
      size: bytes to sum on each device.
      links: from each device to the next, or one link for all.
      ready: when each device has its part, shape [n].

    Raises:
      InvalidArgumentError: there is no device, or the number of links differs.

    Source: Patarasuk and Yuan, "Bandwidth optimal all-reduce algorithms", 2009.
    """
    have = np.array(ready, float)
    n = have.size
    if not n:
        raise _invalid("an all-reduce needs at least one device")
    every = [links] * n if isinstance(links, Link) else list(links)
    if len(every) != n:
        raise _invalid(f"a ring of {n} devices has {n} links, not {len(every)}")
    if n == 1:
        return have
    hop = np.array([link.time(size / n) for link in every])
    free = np.zeros(n)  # when the way from device i to the next one is free again
    for _ in range(2 * (n - 1)):
        free = np.maximum(have, free) + hop
        # Device i goes on with what it just got; its own part was there all the time.
        have = np.maximum(have, np.roll(free, 1))
    return have


# ---- synchronous steps with parameter servers


@dataclass(frozen=True, eq=False)
class ServedStep:
    """A synchronous step with parameter servers.

    Attributes:
      pushed: worker -> when all its gradients have arrived; inf where nobody waited for it.
      updated: when the servers have updated the parameters.
      pulled: worker -> when it has the new parameters.
    """

    pushed: Seconds
    updated: float
    pulled: Seconds

    @property
    def makespan(self) -> float:
        """Seconds until every worker has the new parameters."""
        return float(self.pulled.max())


def parameter_servers(
    compute: Sequence[float] | Seconds,
    size: float,
    link: Link,
    *,
    servers: int = 1,
    backups: int = 0,
    update: float = 0.0,
) -> ServedStep:
    """One synchronous step: workers compute, push gradients, wait for the update, pull.

    Parameters are spread evenly over the servers.  A server takes one message at a time, in the
    order in which they come, and so does a worker.  With b backup workers the update is made
    from the first n - b gradients; the others are dropped, and so are their messages.

    For n workers that finish at once, n messages pass each server's link each way:
    2 n (alpha + size / (servers beta)), if n is at least the number of servers.

    Args:
      compute: seconds that each worker computes, shape [n].
      size: bytes of all parameters, gradients alike.
      link: between any worker and any server.
      servers: how many.
      backups: workers whose gradients are not waited for.
      update: seconds that a server takes to update its part.

    Raises:
      InvalidArgumentError: there are no workers left to wait for, or no servers.

    Source: Chen et al., "Revisiting distributed synchronous SGD", 2016.
    """
    done = np.asarray(compute, float)
    n = done.size
    if not 0 <= backups < n or servers < 1:
        raise _invalid(f"{n} workers, {backups} of them backups, and {servers} servers: no step")
    hop = link.time(size / servers)
    first = np.argsort(done, kind="stable")[: n - backups]
    pushed = np.full(n, np.inf)
    pushed[first] = _relay(done[first], servers, hop)
    updated = float(pushed[first].max()) + update
    return ServedStep(pushed, updated, _relay(np.full(n, updated), servers, hop))


def _relay(ready: Seconds, servers: int, hop: float) -> Seconds:
    """When each worker has exchanged one message with each server.

    Workers begin with different servers, so that those who start at once do not queue up at
    the same one.
    """
    server = np.zeros(servers)
    worker = ready.copy()
    for turn in range(servers):
        for i in np.argsort(worker, kind="stable"):
            s = (i + turn) % servers
            server[s] = worker[i] = max(server[s], worker[i]) + hop
    return worker


def synchronous_steps(compute: Seconds, backups: int = 0) -> Seconds:
    """Seconds of each synchronous step where messages are free: the (n - b)-th fastest worker.

    Args:
      compute: seconds of each worker in each step, shape [steps, n].
      backups: workers that are not waited for.

    Raises:
      InvalidArgumentError: nobody is left to wait for.
    """
    times = np.asarray(compute, float)
    if times.ndim != 2 or not 0 <= backups < times.shape[1]:
        raise _invalid(f"steps of shape {times.shape} with {backups} backup workers")
    return np.sort(times, axis=1)[:, times.shape[1] - backups - 1]


def _invalid(message: str) -> InvalidArgumentError:
    return InvalidArgumentError(None, None, message)

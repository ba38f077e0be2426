"""What devices of one machine share: cores and the way to memory, which slow each other's work.

Two virtual CPUs of a machine with one core, say, take twice as long for everything when both are
at work; vector operations of two cores share the bandwidth of the memory.  A task takes of both
what the roofline says that it needs; what waits for something else, such as a Python function
that sleeps, slows nobody.
"""

from __future__ import annotations

from graphflow.place.devices import Host
from graphflow.place.problem import Problem

COARSE, FINE = 1e-2, 1e-9  # of a task's time
Needs = tuple[float, float]  # of a device's arithmetic, of its way to memory, as shares of its time


class Sharing:
    """Who is at work, and the time that devices lose to each other and to values that come in."""

    def __init__(self, problem: Problem):
        self.problem = problem
        topology = problem.topology
        machines: dict[str, _Machine] = {}
        self.machine: list[_Machine | None] = []
        for device in topology.devices:
            name = topology.machine(device.name)
            if name in topology.hosts and device.kind == "CPU" and problem.work:
                machines.setdefault(name, _Machine(topology.hosts[name]))
            self.machine.append(machines.get(name))
        self.need: list[Needs | None] = [None] * len(topology.devices)  # None: it is idle
        self.lost = [0.0] * len(topology.devices)

    def started(self, task: int, device: int, now: float) -> None:
        """The device is at work from now on."""
        self.need[device] = needs = self._needs(task, device)
        machine = self.machine[device]
        if machine is not None:
            machine.settle(now, self.lost)
            machine.set(device, needs)

    def moved(self, source: int, target: int, travel: float) -> None:
        """A value has come that took so long: who computes loses time over it."""
        problem = self.problem
        for device, load in (
            (source, problem.source_load[source][target]),
            (target, problem.target_load[source][target]),
        ):
            needs = self.need[device]
            if needs is not None:
                self.lost[device] += load * travel * max(needs)

    def stopped(self, task: int, device: int, now: float) -> float:
        """The device would be done now, if it had not lost time since it was asked last.

        Returns:
          Seconds to make up for, and then to ask again; 0: it is done.
        """
        machine = self.machine[device]
        slowdown = 1.0
        if machine is not None:
            machine.settle(now, self.lost)
            slowdown = machine.slowdown(device)
        seconds, lost = self.problem.seconds[task][device], self.lost[device]
        if lost > COARSE * seconds:  # others may be through before: ask again at once
            self.lost[device] = 0.0
            return lost
        if lost > FINE * seconds:
            self.lost[device] = lost - lost * slowdown  # what it will lose in that time
            return lost * slowdown
        self.lost[device], self.need[device] = 0.0, None
        if machine is not None:
            machine.set(device, None)
        return 0.0

    def _needs(self, task: int, device: int) -> Needs:
        seconds = self.problem.seconds[task][device]
        if not seconds:
            return 0.0, 0.0
        if not self.problem.work:
            return 1.0, 1.0
        flops, moved = self.problem.work[task]
        facts = self.problem.topology.devices[device]
        arithmetic, traffic = flops / facts.flops, moved / facts.bandwidth
        return min(1.0, arithmetic / seconds), min(1.0, traffic / seconds)


class _Machine:
    """What those devices of one machine need that are at work, and how far that is too much."""

    def __init__(self, host: Host):
        self.host = host
        self.needs: dict[int, Needs] = {}
        self.excess: Needs = (0.0, 0.0)
        self.since = 0.0

    def set(self, device: int, needs: Needs | None) -> None:
        """From now on the device needs that; None: nothing."""
        if needs is None:
            self.needs.pop(device, None)
        else:
            self.needs[device] = needs
        compute, memory = (sum([needs[k] for needs in self.needs.values()]) for k in (0, 1))
        self.excess = (
            max(0.0, compute / self.host.compute - 1.0),
            max(0.0, memory / self.host.memory - 1.0),
        )

    def slowdown(self, device: int) -> float:
        """How many times as long as alone the device takes now."""
        needs = self.needs[device]
        return 1.0 + max(needs[0] * self.excess[0], needs[1] * self.excess[1])

    def settle(self, now: float, lost: list[float]) -> None:
        """Enter what each device has lost since the last change."""
        passed, self.since = now - self.since, now
        if passed > 0 and self.excess != (0.0, 0.0):
            for device in self.needs:
                lost[device] += passed * (1.0 - 1.0 / self.slowdown(device))

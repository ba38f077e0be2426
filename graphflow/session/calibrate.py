"""Measure devices, links and what they share: a few seconds, once per machine."""

from __future__ import annotations

import hashlib
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

from graphflow.place.devices import Device, Host, Link, Starts, Topology
from graphflow.place.profile import Profile, cache_folder, load, machine, store
from graphflow.session import probes
from graphflow.session.probes import Open

PAIRS = 6  # links that are measured; others of the same kind are taken to be like them
TOGETHER = 8  # devices of a machine that are put to work at once


def calibrated(
    open_session: Open, topology: Topology, path: Path | None
) -> tuple[Topology, Profile]:
    """What was stored for these devices on this machine, else what is measured now, and stored.

    Args:
      open_session: graph -> session on the devices.
      topology: the devices.
      path: the file; None: one in the user's cache.
    """
    names = [d.name for d in topology.devices]
    path = path or cache_folder() / f"calibration-{machine()}-{_key(topology)}.json"
    known = load(path, names)
    if known is not None:
        return _on_hosts_of(topology, known[0]), known[1]
    known = measure(open_session, topology), Profile()
    try:
        store(*known, path)
    except OSError as error:  # it holds for this session nevertheless
        warnings.warn(f"the calibration was not stored: {error}", stacklevel=2)
    return known


def _key(topology: Topology) -> str:
    """What is the same when the same devices are opened again.  Names of machines are drawn anew
    by each Ray, so that nothing is found again where there are several."""
    machines = [topology.machine(d.name) for d in topology.devices]
    apart = machines if len(set(machines)) > 1 else []
    facts = [(d.name, d.flops, d.bandwidth) for d in topology.devices]
    return hashlib.sha256(f"{facts} {apart} {topology.transport}".encode()).hexdigest()[:16]


def _on_hosts_of(topology: Topology, known: Topology) -> Topology:
    """What was measured, with what is not measured as it is now."""
    pairs = list(zip(topology.devices, known.devices, strict=True))
    now = {known.machine(old.name): topology.machine(new.name) for new, old in pairs}
    return replace(
        known,
        devices=tuple([replace(old, host=new.host, memory=new.memory) for new, old in pairs]),
        hosts={now[name]: host for name, host in known.hosts.items() if name in now},
        transport=topology.transport,
        keepers=topology.keepers,
    )


def measure(open_session: Open, topology: Topology) -> Topology:
    """The topology with measured speeds, links, starts, and what devices share."""
    names = [d.name for d in topology.devices]
    step = probes.steps(open_session, names[:1])
    devices = tuple([_device(open_session, d) for d in topology.devices])
    links: dict[tuple[str, str], Link] = {}
    kinds: dict[tuple[Any, ...], Link] = {}
    for a in names:
        for b in names:
            if a == b:
                continue
            assumed = topology.link(a, b)
            kind = assumed, topology[a].kind, topology[b].kind
            if kind not in kinds or len(links) < PAIRS:
                kinds[kind] = _link(open_session, a, b, step)
            links[a, b] = kinds[kind]
    starts = _starts(open_session, topology, step)
    hosts = _hosts(open_session, topology)
    return replace(topology, devices=devices, links=links, starts=starts, hosts=hosts)


def _device(open_session: Open, device: Device) -> Device:
    flops, bandwidth, launch = probes.speeds(open_session, device.name)
    return replace(device, flops=flops, bandwidth=bandwidth, launch=launch)


def _starts(open_session: Open, topology: Topology, step: float) -> Starts:
    first, assumed = topology.devices[0], topology.starts
    device, process = assumed.device, assumed.process
    same = [d for d in topology.devices[1:] if d.process == first.process]
    other = [d for d in topology.devices if d.process != first.process]
    if same:
        device = max(0.0, probes.steps(open_session, [first.name, same[0].name]) - step)
    if other:
        process = max(0.0, probes.steps(open_session, [first.name, other[0].name]) - step)
    return Starts(step, device, process)


def _link(open_session: Open, a: str, b: str, step: float) -> Link:
    """From the time that a value takes to and fro, small and large, and from what both ends
    lose by it."""
    count = probes.SIDE**2  # of a matrix: larger messages gain by their size, smaller ones lose
    small, large = (probes.hops(open_session, a, b, size) for size in (1, count))
    here = probes.hops(open_session, a, a, count)
    together = probes.steps(open_session, [a, b])
    alpha = max(1e-7, (small - together) / probes.HOPS)
    moving = max(1e-9, (large - small - max(0.0, here - step)) / probes.HOPS)
    link = Link(alpha, 4.0 * count / moving)
    travel = link.time(4.0 * count)
    held, *loads = [min(1.0, t / travel) for t in probes.traffic(open_session, a, b)]
    return replace(link, hold=held, source_load=loads[0], target_load=loads[1])


def _hosts(open_session: Open, topology: Topology) -> dict[str, Host]:
    """What the CPUs of each machine share; GPUs have all that they need to themselves."""
    machines: dict[str, list[str]] = {}
    for device in topology.devices:
        if device.kind == "CPU":
            machines.setdefault(topology.machine(device.name), []).append(device.name)
    return {
        name: probes.sharing(open_session, devices[:TOGETHER])
        for name, devices in machines.items()
        if len(devices) > 1
    }

"""What runs where at which speed: devices, the links between them, and the cluster they form."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from graphflow.base.devices import DeviceSpec, local, parse
from graphflow.base.errors import InvalidArgumentError

GIB = 1 << 30
CONTAINERS = (  # where control groups, version 2 and 1, tell the limit of a container's memory
    Path("/sys/fs/cgroup/memory.max"),
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)


@dataclass(frozen=True, slots=True)
class Link:
    """A way for tensors: sending n bytes takes alpha + n / beta seconds.

    Attributes:
      alpha: seconds per message.
      beta: bytes per second.
      hold: share of that time in which the sending device can do nothing else, as it copies.
      source_load, target_load: share of that time which the devices at the two ends lose, if
        they compute meanwhile: to copies, threads and processes that need their cores.
    """

    alpha: float
    beta: float
    hold: float = 0.0
    source_load: float = 0.0
    target_load: float = 0.0

    def time(self, size: float) -> float:
        """Seconds that `size` bytes take."""
        return self.alpha + size / self.beta


# Assumed where nothing was measured.  In one process a tensor travels by reference, but waking
# the thread that waits for it takes 8 us.
SAME_DEVICE = Link(0.0, float("inf"))
SAME_PROCESS = Link(10e-6, 50e9)
TO_GPU = Link(10e-6, 25e9)  # PCIe 4 x16
BETWEEN_GPUS = Link(10e-6, 50e9)  # of one machine
SAME_HOST = Link(40e-6, 5e9)  # shared memory and a doorbell
NETWORK = Link(100e-6, 1.1e9)  # 10 Gbit Ethernet


@dataclass(frozen=True, slots=True)
class Device:
    """A device and its speed.  An op takes max(flops / F, bytes / B) + launch seconds on it.

    Attributes:
      name: its full name, such as "/job:worker/replica:0/task:1/device:GPU:0".
      flops: F, floating-point operations per second.
      bandwidth: B, bytes per second to and from its memory.
      memory: bytes that it can hold; infinite where it is not known.
      launch: seconds that starting one op takes.
      host: the machine it is in; devices of one task share a process, those of one host a
        machine.  "": each task is its own machine.
    """

    name: str
    flops: float = 200e9
    bandwidth: float = 36e9
    memory: float = 8 * GIB
    launch: float = 1e-6
    host: str = ""

    def __post_init__(self) -> None:
        for what in ("flops", "bandwidth", "memory", "launch"):
            value = getattr(self, what)
            if not (value >= 0 if what == "launch" else value > 0):  # NaN is neither
                raise InvalidArgumentError(
                    None, None, f"{what} of {self.name} must be a positive number, not {value}"
                )

    @property
    def spec(self) -> DeviceSpec:
        return parse(self.name)

    @property
    def kind(self) -> str:
        """ "CPU" or "GPU"."""
        return self.spec.device_type or "CPU"

    @property
    def process(self) -> str:
        """The task that runs it."""
        return str(self.spec._replace(device_type=None, device_index=None))


def assumed_device(name: str, **measured: Any) -> Device:
    """A device of that name with default parameters of its kind, but for those given.

    A CPU is taken as one core with AVX-512 (200 GFLOP/s, 36 GB/s), a GPU as a data-centre one
    in float32 (20 TFLOP/s, 1.5 TB/s, 5 us per launch).
    """
    full = str(parse(local()).merged(parse(name)))
    if parse(full).device_type == "GPU":
        defaults = {"flops": 20e12, "bandwidth": 1.5e12, "memory": 16 * GIB, "launch": 5e-6}
        return Device(full, **(defaults | measured))
    return Device(full, **measured)


class Host(NamedTuple):
    """What the devices of one machine share.

    Attributes:
      compute: how many of them can do arithmetic at full speed at once; infinite: all.
      memory: how many can move bytes at full speed at once.
    """

    compute: float = float("inf")
    memory: float = float("inf")


class Starts(NamedTuple):
    """What a step costs besides its operations.

    Attributes:
      step: seconds of any step.
      device: seconds more for each device after the first (25 us measured).
      process: seconds more for each process after the first (an actor call: about 1 ms).
    """

    step: float = 0.0
    device: float = 30e-6
    process: float = 1e-3

    def seconds(self, devices: int, processes: int) -> float:
        """For a step on so many devices of so many processes."""
        return self.step + self.device * max(0, devices - 1) + self.process * max(0, processes - 1)


@dataclass(frozen=True)
class Topology:
    """The devices of a cluster and the links between them.

    Attributes:
      devices: in the order of their numbers; ties between them go to the first.
      links: the links that were measured, by (from, to); others are assumed by kind and
        distance.
      starts: what a step costs besides.
      hosts: machine -> what its devices share, where that was measured.
      transport: what carries values between processes, by name: links that were measured with
        one of them hold for no other.
      keepers: process whose state is kept as of the last steps at which that was done -> the
        process that has it, too; "": none of these.  See `copies`.
    """

    devices: tuple[Device, ...]
    links: Mapping[tuple[str, str], Link] = field(default_factory=dict)
    starts: Starts = field(default_factory=Starts)
    hosts: Mapping[str, Host] = field(default_factory=dict)
    transport: str = ""
    keepers: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.devices:
            raise InvalidArgumentError(None, None, "a topology needs at least one device")
        names = [d.name for d in self.devices]
        if len(set(names)) != len(names):
            raise InvalidArgumentError(None, None, f"a device is given twice: {', '.join(names)}")
        unknown = {n for pair in self.links for n in pair} - set(names)
        if unknown:
            raise InvalidArgumentError(
                None, None, f"links of devices that are not there: {', '.join(sorted(unknown))}"
            )
        object.__setattr__(self, "links", MappingProxyType(dict(self.links)))
        object.__setattr__(self, "hosts", MappingProxyType(dict(self.hosts)))
        object.__setattr__(self, "keepers", MappingProxyType(dict(self.keepers)))

    @cached_property
    def by_name(self) -> Mapping[str, Device]:
        return {d.name: d for d in self.devices}

    @cached_property
    def index(self) -> Mapping[str, int]:
        return {d.name: i for i, d in enumerate(self.devices)}

    def __getitem__(self, name: str) -> Device:
        return self.by_name[name]

    @cached_property
    def _facts(self) -> Mapping[str, tuple[str, str, str]]:
        """Name -> kind, process, machine: parsed once, as a cluster has many pairs."""
        return {d.name: (d.kind, d.process, d.host or d.process) for d in self.devices}

    def machine(self, name: str) -> str:
        """The machine that a device is in."""
        return self._facts[name][2]

    def link(self, source: str, target: str) -> Link:
        """The link from one device to another."""
        if source == target:
            return SAME_DEVICE
        return self.links.get((source, target)) or self._assumed(source, target)

    def _assumed(self, source: str, target: str) -> Link:
        (kind, process, machine), other = self._facts[source], self._facts[target]
        if process == other[1]:
            if kind == other[0]:
                return SAME_PROCESS if kind == "CPU" else BETWEEN_GPUS
            return TO_GPU
        return SAME_HOST if machine == other[2] else NETWORK

    def channels(self, source: str, target: str) -> tuple[str, ...]:
        """What a transfer occupies: transfers that share an entry wait for each other.

        Between machines that is the sender's way out and the receiver's way in; inside of one,
        each ordered pair of devices has its own way.
        """
        a, b = self.machine(source), self.machine(target)
        return (f"{source}->{target}",) if a == b else (f"{a} out", f"{b} in")

    def matching(self, request: str | DeviceSpec) -> tuple[Device, ...]:
        """Devices that a full or partial name stands for.

        Raises:
          ValueError: the text names no device.
        """
        spec = parse(request)
        return tuple([d for d in self.devices if spec.matches(d.spec)])

    def __hash__(self) -> int:
        return hash((self.devices, tuple(sorted(self.links.items(), key=lambda item: item[0]))))


def topology_of(names: Iterable[str]) -> Topology:
    """Devices of the given names with assumed parameters."""
    return Topology(tuple([assumed_device(name) for name in names]))


def machine_memory() -> int:
    """Bytes of memory that the processes of this machine, or of this container, may have."""
    found = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    for limit in CONTAINERS:
        with suppress(OSError, ValueError):  # there is none: "max", or no such file
            found.append(int(limit.read_text()))
    return min(found)


def local_topology(cpus: int = 1, gpus: int | Sequence[int] = 0) -> Topology:
    """The devices of this process; its CPUs share the machine's memory.

    Args:
      cpus: how many.
      gpus: how many, or the bytes of memory of each.
    """
    memory = machine_memory()
    devices = [assumed_device(local("CPU", i), memory=memory) for i in range(cpus)]
    if isinstance(gpus, int):
        devices += [assumed_device(local("GPU", i)) for i in range(gpus)]
    else:
        devices += [assumed_device(local("GPU", i), memory=m) for i, m in enumerate(gpus)]
    return Topology(tuple(devices))

"""What a cluster is asked for, checked before anything is started, and the devices that it gets."""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Integral, Real
from types import MappingProxyType
from typing import Any

from graphflow.base.errors import InvalidArgumentError
from graphflow.place import Device, Topology, assumed_device

TRANSPORTS = ("fast", "sockets", "ray")
# Arguments of a cluster: of which kind, and the least that each may be.
_LEAST: Mapping[str, tuple[Any, int]] = MappingProxyType(
    {
        "workers": (Integral, 1),
        "min_workers": (Integral, 1),
        "spares": (Integral, 0),
        "gpus_per_worker": (Integral, 0),
        "snapshot_every": (Integral, 1),
        "backup_every": (Integral, 1),
        "object_store_memory": (Integral, 0),
        "cpus_per_worker": (Real, 0),
        "deadline": (Real, 0),
        "start_deadline": (Real, 0),
    }
)
_NOUNS: Mapping[Any, str] = MappingProxyType({Integral: "a whole number", Real: "a number"})


def check_numbers(**given: Any) -> None:
    """See that arguments are what they may be.

    Raises:
      TypeError: one is of another kind.
      ValueError: one is too small.
    """
    for name, value in given.items():
        kind, least = _LEAST[name]
        if not isinstance(value, kind) or isinstance(value, bool):
            told = type(value).__name__
            raise TypeError(f"{name}={value!r}: it must be {_NOUNS[kind]}, not a {told}")
        if not value >= least:
            raise ValueError(f"{name}={value}: it must be at least {least}")
        if name.endswith("deadline") and not value > 0:
            raise ValueError(f"{name}={value}: it must be positive")


def chosen_transport(transport: str | None, address: str | None, tls: bool) -> str:
    """The transport to use; see `Cluster`.

    Raises:
      ValueError: there is none of that name, or it does not encrypt.
    """
    if transport is None:
        transport = "ray" if (address or "").startswith("ray://") else "fast"
    if transport not in TRANSPORTS:
        raise ValueError(f"transport={transport!r}: it must be one of {', '.join(TRANSPORTS)}")
    if tls and transport == "ray":
        raise ValueError('tls=True: with transport="ray", Ray encrypts (RAY_USE_TLS)')
    return transport


def check_resources(have: Mapping[str, float], cpus: float, gpus: float) -> None:
    """Raises:
    InvalidArgumentError: Ray has not as many CPUs and GPUs.
    """
    for name, needed in (("CPU", cpus), ("GPU", gpus)):
        if have.get(name, 0) < needed:
            raise InvalidArgumentError(
                None,
                None,
                f"the workers need {needed:g} {name}s, but Ray has {have.get(name, 0):g}: ask for "
                f"fewer workers, or {name.lower()}s_per_worker",
            )


def topology_of(
    workers: Mapping[str, Any],
    cpus: float,
    gpus: int,
    transport: str,
    keepers: Mapping[str, str],
) -> Topology:
    """The devices of workers, from what these tell of themselves.

    Raises:
      InvalidArgumentError: GPUs that Ray gave cannot be used.
    """
    devices: list[Device] = []
    for name, found in workers.items():
        usable = len(found.gpu_memory)
        if usable < len(found.gpus):
            raise InvalidArgumentError(
                None,
                None,
                f"Ray gave {name} {len(found.gpus)} GPUs, but CuPy can use {usable}: install "
                "graphflow[gpu12] where the workers run, or use gpus_per_worker=0",
            )
        speed = {"flops": 200e9 * max(1, int(cpus)), "host": found.node, "memory": found.memory}
        devices.append(assumed_device(f"{name}/device:CPU:0", **speed))
        devices += [
            assumed_device(f"{name}/device:GPU:{i}", host=found.node, memory=memory)
            for i, memory in enumerate(found.gpu_memory[:gpus])
        ]
    return Topology(tuple(devices), transport=transport, keepers=keepers)

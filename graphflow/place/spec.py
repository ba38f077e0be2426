"""Clusters described in YAML or JSON: for what-if, they need not exist.

hosts:
  - count: 4            # machines like this one; 1 if left out
    job: worker         # of their tasks; "worker" if left out
    cpus: 1             # CPU devices per machine, 1 if left out; a mapping gives their speeds:
    gpus: {count: 8, flops: 15T, bandwidth: 900G, memory: 16GiB, launch: 5e-6}
    shares: {compute: 2, memory: 1.2}   # how many of its CPUs compute, and read and write
                        # memory, at full speed at once; all if left out
links:                  # what is left out is assumed by distance, as for real clusters
  - {from: /job:worker/task:0/gpu:0, to: /job:worker/task:0/gpu:1, alpha: 5e-6, beta: 150G}
network: {alpha: 30e-6, beta: 12G}      # between any two machines
starts: {step: 1e-3, device: 30e-6, process: 1e-3}

Speeds are in FLOP/s and bytes/s, times in seconds, memory in bytes.
"""

from __future__ import annotations

import importlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from graphflow.base.devices import parse
from graphflow.base.errors import InvalidArgumentError
from graphflow.place.devices import Device, Host, Link, Starts, Topology, assumed_device

UNITS = {"": 1.0, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15}
UNITS |= {"Ki": 2.0**10, "Mi": 2.0**20, "Gi": 2.0**30, "Ti": 2.0**40}
NUMBER = re.compile(r"\s*([-+0-9.eE]+)\s*(Ki|Mi|Gi|Ti|k|M|G|T|P)?i?(?:B|FLOP)?(?:/s|s)?\s*")
SPEEDS = ("flops", "bandwidth", "memory", "launch")
MOST = 10_000  # devices


def read_cluster(path: str | Path) -> Topology:
    """The cluster that a file describes.

    Args:
      path: .json, or YAML.

    Raises:
      InvalidArgumentError: it describes no cluster; the message says where.
      OSError: it cannot be read.
    """
    path = Path(path)
    text = path.read_text(encoding="utf-8")
    try:
        return cluster_of(_parsed(path, text))
    except InvalidArgumentError as error:
        raise InvalidArgumentError(None, None, f"{path}: {error.message}") from error


def _parsed(path: Path, text: str) -> Any:
    if path.suffix == ".json":
        try:
            return json.loads(text)
        except ValueError as error:
            raise _wrong("", f"this is not JSON: {error}") from error
    try:
        yaml = importlib.import_module("yaml")
    except ImportError as error:
        raise _wrong("", "YAML needs PyYAML (pip install pyyaml); JSON needs nothing") from error
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise _wrong("", f"this is not YAML: {error}") from error


def cluster_of(spec: Any) -> Topology:
    """The cluster that a mapping describes; see the top of this module.

    Raises:
      InvalidArgumentError: a key is unknown, or a value is not what it must be.
    """
    spec = _mapping(spec, "the cluster", ("hosts", "links", "network", "starts"))
    hosts = spec.get("hosts")
    if not isinstance(hosts, list) or not hosts:
        raise _wrong("hosts", "a list of machines is needed")
    devices: list[Device] = []
    shares: dict[str, Host] = {}
    tasks: dict[str, int] = {}
    for i, host in enumerate(hosts):
        devices += _host(host, f"hosts[{i}]", tasks, shares)
        if len(devices) > MOST:
            raise _wrong("hosts", f"more than {MOST} devices")
    starts = _mapping(spec.get("starts") or {}, "starts", Starts._fields)
    defaults = Starts()._asdict()
    given = {k: _number(v, f"starts.{k}", 0.0) for k, v in starts.items()}
    return Topology(tuple(devices), _links(spec, devices), Starts(**(defaults | given)), shares)


def _host(spec: Any, where: str, tasks: dict[str, int], shares: dict[str, Host]) -> list[Device]:
    spec = _mapping(spec, where, ("count", "job", "cpus", "gpus", "shares"))
    shared = _mapping(spec.get("shares") or {}, f"{where}.shares", Host._fields)
    host = Host(**{k: _number(v, f"{where}.shares.{k}", 1.0) for k, v in shared.items()})
    job = str(spec.get("job", "worker"))
    found = []
    count = _count(spec.get("count", 1), f"{where}.count")
    if count * (1 + sum(_many(spec.get(k, d)) for k, d in (("cpus", 1), ("gpus", 0)))) > 10 * MOST:
        raise _wrong(where, f"more than {MOST} devices")
    for _ in range(count):
        task = tasks.get(job, 0)
        tasks[job] = task + 1
        for key, kind, default in (("cpus", "cpu", 1), ("gpus", "gpu", 0)):
            number, speeds = _devices(spec.get(key, default), f"{where}.{key}")
            names = [f"/job:{job}/task:{task}/{kind}:{i}" for i in range(number)]
            found += [assumed_device(n, host=f"{job}{task}", **speeds) for n in names]
        if shared:
            shares[f"{job}{task}"] = host
    if not found:
        raise _wrong(where, "a machine needs a device")
    return found


def _many(value: Any) -> int:
    count = value.get("count", 1) if isinstance(value, Mapping) else value
    return count if isinstance(count, int) else 0


def _devices(value: Any, where: str) -> tuple[int, dict[str, float]]:
    if not isinstance(value, Mapping):
        return _count(value, where), {}
    value = _mapping(value, where, ("count", *SPEEDS))
    speeds = {k: _number(value[k], f"{where}.{k}", 0.0) for k in SPEEDS if k in value}
    return _count(value.get("count", 1), f"{where}.count"), speeds


def _links(spec: Mapping[str, Any], devices: list[Device]) -> dict[tuple[str, str], Link]:
    links: dict[tuple[str, str], Link] = {}
    if spec.get("network"):
        network = _link(spec["network"], "network", ())
        links = {(a.name, b.name): network for a in devices for b in devices if a.host != b.host}
    full = {d.name for d in devices}
    for i, each in enumerate(spec.get("links") or ()):
        where = f"links[{i}]"
        link = _link(each, where, ("from", "to"))
        ends = []
        for key in ("from", "to"):
            try:
                name = assumed_device(str(parse(str(each.get(key, ""))))).name
            except ValueError as error:
                raise _wrong(f"{where}.{key}", str(error)) from error
            if name not in full:
                raise _wrong(f"{where}.{key}", f"there is no device {each.get(key)!r}")
            ends.append(name)
        links[ends[0], ends[1]] = link
        links.setdefault((ends[1], ends[0]), link)
    return links


def _link(value: Any, where: str, more: tuple[str, ...]) -> Link:
    value = _mapping(value, where, ("alpha", "beta", *more))
    if "beta" not in value:
        raise _wrong(where, "beta, in bytes per second, is needed")
    beta = _number(value["beta"], f"{where}.beta", 0.0)
    if beta <= 0:
        raise _wrong(f"{where}.beta", "must be positive")
    return Link(_number(value.get("alpha", 0.0), f"{where}.alpha", 0.0), beta)


def _mapping(value: Any, where: str, known: tuple[str, ...]) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise _wrong(where, f"a mapping is needed, not {value!r}")
    unknown = [str(k) for k in value if k not in known]
    if unknown:
        raise _wrong(where, f"unknown: {', '.join(unknown)}; known: {', '.join(known)}")
    return value


def _count(value: Any, where: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise _wrong(where, f"a whole number is needed, not {value!r}")
    return value


def _number(value: Any, where: str, least: float) -> float:
    """A number, or text such as "16GiB", "900 G", "5e-6" (which YAML takes for text)."""
    found = float("nan")
    if isinstance(value, int | float) and not isinstance(value, bool):
        found = float(value)
    elif isinstance(value, str) and (match := NUMBER.fullmatch(value)):
        try:
            found = float(match[1]) * UNITS[match[2] or ""]
        except ValueError:
            found = float("nan")
    if not least <= found < float("inf"):
        raise _wrong(where, f"a number of at least {least:g} is needed, not {value!r}")
    return found


def _wrong(where: str, what: str) -> InvalidArgumentError:
    return InvalidArgumentError(None, None, f"{where}: {what}" if where else what)

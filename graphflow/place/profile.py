"""What was measured: seconds of ops, speeds of devices and links, kept from run to run.

`Profile` holds an exponential mean per op, shape, dtype and device.  `Calibration` holds a
topology.  Both are plain JSON, with a version and the machine they are of.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from itertools import zip_longest
from pathlib import Path
from typing import Any, Protocol

from graphflow.base.errors import OpError
from graphflow.build.tensor import Operation
from graphflow.place.cost import CostModel
from graphflow.place.devices import Device, Host, Link, Starts, Topology

VERSION = 2
NEW = 0.3  # weight of a new measurement
OFF, GAIN = 0.20, 0.05  # re-plan where predictions are off by more, and more is gained
SHAPING = ("transpose_a", "transpose_b", "strides", "padding", "axis", "axes", "ksize", "perm")


class Span(Protocol):
    """What a traced run tells of one kernel; `execute.trace.Span` is one."""

    @property
    def name(self) -> str: ...
    @property
    def device(self) -> str: ...
    @property
    def start(self) -> float: ...
    @property
    def seconds(self) -> float: ...


def extents(spans: Iterable[Span]) -> list[Any]:
    """The spans, each until the next one on its device begins.

    What lies between is not waiting, as receives have spans of their own: values are freed
    there, which takes 0.1 ms for some megabytes, and the next kernel is called.
    """
    by_device: dict[str, list[Any]] = {}
    for span in sorted(spans, key=lambda s: s.start):
        by_device.setdefault(span.device, []).append(span)
    return [
        span
        if after is None
        else span._replace(seconds=max(span.seconds, after.start - span.start))
        for row in by_device.values()
        for span, after in zip_longest(row, row[1:])
    ]


def signature(operation: Operation, model: CostModel) -> str:
    """Operation type, shapes, dtypes and what else decides how long it takes."""
    tensors = (*operation.inputs, *operation.outputs)
    shapes = [f"{t.dtype.name}{list(model.filled(t.dims))}" for t in tensors]
    attrs = [f"{k}={operation.attrs[k]}" for k in SHAPING if k in operation.attrs]
    return " ".join([operation.type, *shapes, *attrs])


@dataclass
class Profile:
    """Measured seconds of operations.

    Attributes:
      means: device -> signature -> exponential mean of seconds.
    """

    means: dict[str, dict[str, float]] = field(default_factory=dict)

    def observe(
        self, spans: Iterable[Span], operations: Mapping[str, Operation], model: CostModel
    ) -> float:
        """Take in the spans of a step.

        Args:
          spans: of a traced run; those of unknown operations, such as sends, are skipped.
          operations: by name.
          model: fills unknown sizes.

        Returns:
          The seconds of all spans that were taken in.
        """
        total = 0.0
        for span in spans:
            operation = operations.get(span.name)
            if operation is None or not 0 <= span.seconds < float("inf"):
                continue
            total += span.seconds
            known = self.means.setdefault(span.device, {})
            key = signature(operation, model)
            old = known.get(key)
            known[key] = span.seconds if old is None else old + NEW * (span.seconds - old)
        return total

    def seconds(self, operation: Operation, device: str, model: CostModel) -> float | None:
        """The mean for such operations on the device; None: never seen there."""
        known = self.means.get(device)
        return known.get(signature(operation, model)) if known else None


def worth_replanning(predicted: float, measured: float, current: float, better: float) -> bool:
    """Is another plan to take over?

    Args:
      predicted: seconds of a step, as the plan in use was chosen for.
      measured: seconds that it takes.
      current: what the refined model predicts for the plan in use.
      better: what it predicts for the new plan.
    """
    if predicted <= 0 or current <= 0:
        return measured > 0 and better < current
    return abs(measured / predicted - 1) > OFF and 1 - better / current > GAIN


def machine() -> str:
    """What a calibration is valid for: processor, cores, NumPy."""
    import numpy as np

    text = f"{platform.node()} {platform.processor()} {platform.machine()} {os.cpu_count()}"
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                text += line
                break
    except OSError:
        pass
    return hashlib.sha256(f"{text} {np.__version__}".encode()).hexdigest()[:16]


def cache_folder() -> Path:
    """Where calibrations are kept: $GRAPHFLOW_CACHE, else in the user's cache."""
    given = os.environ.get("GRAPHFLOW_CACHE")
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(given) if given else Path(home) / "graphflow"


def store(topology: Topology, profile: Profile, path: Path) -> None:
    """Write atomically."""
    content = {
        "version": VERSION,
        "machine": machine(),
        "devices": [asdict(d) for d in topology.devices],
        "links": [[a, b, *asdict(link).values()] for (a, b), link in topology.links.items()],
        "starts": list(topology.starts),
        "hosts": {name: list(host) for name, host in topology.hosts.items()},
        "means": profile.means,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.{os.getpid()}")
    partial.write_text(json.dumps(content, indent=1))
    os.replace(partial, path)


def load(path: Path, names: Iterable[str]) -> tuple[Topology, Profile] | None:
    """What was stored for these devices on this machine; None where there is nothing of use:
    no file, another version, another machine, other devices, or not what `store` writes."""
    try:
        content: dict[str, Any] = json.loads(path.read_text())
        if (content["version"], content["machine"]) != (VERSION, machine()):
            return None
        devices = tuple([Device(**d) for d in content["devices"]])
        links = {(a, b): Link(*values) for a, b, *values in content["links"]}
        hosts = {name: Host(*shares) for name, shares in content["hosts"].items()}
        topology = Topology(devices, links, Starts(*content["starts"]), hosts)
        profile = Profile({d: dict(known) for d, known in content["means"].items()})
    except (OSError, ValueError, KeyError, TypeError, AttributeError, OpError):
        return None
    return (topology, profile) if [d.name for d in devices] == list(names) else None

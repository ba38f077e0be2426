"""Device names: "/job:worker/replica:0/task:1/device:GPU:0", in part or whole."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

_PART = re.compile(
    r"^(?:job:(?P<job>[A-Za-z]\w*)"
    r"|replica:(?P<replica>\d+|\*)"
    r"|task:(?P<task>\d+|\*)"
    r"|device:(?P<kind>[A-Za-z]\w*)(?::(?P<index>\d+|\*))?"
    r"|(?P<short>[cC][pP][uU]|[gG][pP][uU])(?::(?P<short_index>\d+|\*))?)$"
)


class DeviceSpec(NamedTuple):
    """A device name in parts; None where a part is left open."""

    job: str | None = None
    replica: int | None = None
    task: int | None = None
    device_type: str | None = None
    device_index: int | None = None

    @staticmethod
    def from_string(spec: str) -> DeviceSpec:
        """See `parse`."""
        return parse(spec)

    def to_string(self) -> str:
        return str(self)

    def make_merged_spec(self, dev: DeviceSpec) -> DeviceSpec:
        """See `merged`."""
        return self.merged(dev)

    def replace(self, **parts: Any) -> DeviceSpec:
        """This one, with other parts."""
        return self._replace(**parts)

    def merge_from(self, dev: DeviceSpec) -> None:
        """Raises:
        TypeError: a spec does not change; use `make_merged_spec`.
        """
        raise TypeError("a DeviceSpec does not change: take what make_merged_spec returns")

    def parse_from_string(self, spec: str) -> DeviceSpec:
        """See `parse`; this one does not change, unlike TensorFlow's."""
        return parse(spec)

    def merged(self, other: DeviceSpec) -> DeviceSpec:
        """This one, with the parts that `other` gives taken from there."""
        kind_changes = other.device_type not in (None, self.device_type)
        base = self._replace(device_index=None) if kind_changes else self
        return base._replace(**{k: v for k, v in other._asdict().items() if v is not None})

    def matches(self, other: DeviceSpec) -> bool:
        """Does every part that this one gives agree with `other`?"""
        return all(a is None or a == b for a, b in zip(self, other, strict=True))

    def __str__(self) -> str:
        parts = []
        if self.job is not None:
            parts.append(f"/job:{self.job}")
        if self.replica is not None:
            parts.append(f"/replica:{self.replica}")
        if self.task is not None:
            parts.append(f"/task:{self.task}")
        if self.device_type is not None:
            index = "*" if self.device_index is None else self.device_index
            parts.append(f"/device:{self.device_type}:{index}")
        return "".join(parts)


def parse(text: Any) -> DeviceSpec:
    """Parse a device name.

    Raises:
      ValueError: the text names no device.
    """
    if isinstance(text, DeviceSpec):
        return text
    spec = DeviceSpec()
    for part in str(text).split("/"):
        if not part:
            continue
        found = _PART.match(part)
        if found is None:
            raise ValueError(
                f"unknown device {text!r}: {part!r} is not of the form job:NAME, task:N, "
                "device:TYPE:N, cpu:N or gpu:N"
            )
        spec = spec._replace(**{k: v for k, v in _fields(found).items() if v is not None})
    return spec


def _fields(found: re.Match[str]) -> dict[str, Any]:
    groups = found.groupdict()
    kind = groups["kind"] or groups["short"]
    index = groups["index"] if groups["kind"] else groups["short_index"]
    return {
        "job": groups["job"],
        "replica": _number(groups["replica"]),
        "task": _number(groups["task"]),
        "device_type": kind.upper() if kind else None,
        "device_index": _number(index),
    }


def _number(text: str | None) -> int | None:
    return None if text is None or text == "*" else int(text)


def short(device: str) -> str:
    """A device as part of a name: "worker_0_1_GPU_0"."""
    parts = [str(p) for p in parse(device) if p is not None]
    return "_".join(parts)


def local(kind: str = "CPU", index: int = 0) -> str:
    """Full name of a device of this process."""
    return f"/job:localhost/replica:0/task:0/device:{kind}:{index}"

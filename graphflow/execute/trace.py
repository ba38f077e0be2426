"""When each kernel of a run was called, for those who want to see it."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

from graphflow.compile.plan import Plan

_KINDS = MappingProxyType({"Send": "transfer", "Recv": "wait", "AllReducePart": "transfer"})
_COLOURS = MappingProxyType(  # of Chrome's palette
    {"compute": "good", "transfer": "thread_state_runnable", "wait": "grey"}
)


class Span(NamedTuple):
    """One call of a kernel.

    Attributes:
      name: the operation's name.
      op: its type.
      device: where it ran.
      start: seconds since the run began.
      seconds: how long it took.
    """

    name: str
    op: str
    device: str
    start: float
    seconds: float


class Trace:
    """Collects the spans of one run, from all its devices."""

    def __init__(self) -> None:
        self.spans: list[Span] = []
        self._lock = threading.Lock()
        self._began = time.perf_counter()
        self._date = time.time()

    def dated(self) -> list[Span]:
        """The spans, with their starts as seconds of the wall clock: those of several processes
        can be put together as far as their machines' clocks agree."""
        return [span._replace(start=span.start + self._date) for span in self.spans]

    def timed(self, calls: Sequence[Any], plan: Plan, device: str) -> list[Any]:
        """The calls of a program, each entering its span when it returns."""
        return [
            call._replace(function=self.watched(call.function, step.name, step.opdef.name, device))
            for call, step in zip(calls, plan.steps, strict=True)
        ]

    def restart(self) -> None:
        """Forget what was entered: it is done again."""
        with self._lock:
            self.spans.clear()
            self._began = time.perf_counter()
            self._date = time.time()

    def watched(
        self, function: Callable[..., Any], name: str, op: str, device: str
    ) -> Callable[..., Any]:
        """The function, entering a span each time that it returns."""
        clock = time.perf_counter

        def call(*arguments: Any) -> Any:
            start = clock()
            result = function(*arguments)
            span = Span(name, op, device, start - self._began, clock() - start)
            with self._lock:
                self.spans.append(span)
            return result

        return call


class NodeStats(NamedTuple):
    """A span as TensorFlow tells it, in microseconds: when it began since the run did, and how
    long it took from then on."""

    node_name: str
    timeline_label: str
    all_start_micros: int
    op_end_rel_micros: int
    all_end_rel_micros: int
    op_start_rel_micros: int = 0


class DeviceStats(NamedTuple):
    """What a device has run, in the order of time."""

    device: str
    node_stats: list[NodeStats]


class StepStats(list[Span]):
    """The spans of a run."""

    @property
    def dev_stats(self) -> list[DeviceStats]:
        """The same by device, as in TensorFlow's message of this name."""
        found: dict[str, list[NodeStats]] = {span.device: [] for span in self}
        for span in sorted(self, key=lambda span: span.start):
            took = round(span.seconds * 1e6)
            label = f"{span.name} = {span.op}()"
            begun = round(span.start * 1e6)
            found[span.device].append(NodeStats(span.name, label, begun, took, took))
        return [DeviceStats(device, found[device]) for device in sorted(found)]


def aligned(spans: Iterable[Span]) -> StepStats:
    """Dated spans of several processes, as seconds since the first one began."""
    every = list(spans)
    origin = min((span.start for span in every), default=0.0)
    return StepStats([span._replace(start=span.start - origin) for span in every])


def kind_of(span: Span) -> str:
    """What a device does in a span: it computes, hands values over, or waits for them."""
    return _KINDS.get(span.op, "compute")


class Share(NamedTuple):
    """Seconds that a device spent, by what it did; `idle` is the rest of the run."""

    compute: float
    transfer: float
    wait: float
    idle: float


def shares(spans: Sequence[Span]) -> dict[str, Share]:
    """Device -> how it spent the run."""
    if not spans:
        return {}
    began = min(s.start for s in spans)
    length = max(s.start + s.seconds for s in spans) - began
    found = {}
    for device in sorted({s.device for s in spans}):
        spent = dict.fromkeys(("compute", "transfer", "wait"), 0.0)
        for span in spans:
            if span.device == device:
                spent[kind_of(span)] += span.seconds
        found[device] = Share(**spent, idle=max(0.0, length - sum(spent.values())))
    return found


def chrome_trace(spans: Sequence[Span]) -> str:
    """The spans as JSON for chrome://tracing and Perfetto.

    A process per worker, a row per device, a bar per kernel, coloured by whether it computes,
    hands over or waits, and an arrow from each sender to its receiver.
    """
    devices = sorted({span.device for span in spans})
    workers = sorted({_worker(device) for device in devices})
    rows = {d: {"pid": workers.index(_worker(d)), "tid": i} for i, d in enumerate(devices)}
    events: list[dict[str, Any]] = [
        {"name": "process_name", "ph": "M", "pid": i, "args": {"name": worker}}
        for i, worker in enumerate(workers)
    ]
    events += [
        {"name": "thread_name", "ph": "M", **row, "args": {"name": device}}
        for device, row in rows.items()
    ]
    events += [
        {
            "name": span.op,
            "cat": kind_of(span),
            "cname": _COLOURS[kind_of(span)],
            "ph": "X",
            **rows[span.device],
            "ts": span.start * 1e6,
            "dur": span.seconds * 1e6,
            "args": {"name": span.name},
        }
        for span in spans
    ]
    events += _arrows(spans, rows)
    return json.dumps({"traceEvents": events, "displayTimeUnit": "ms"})


def _worker(device: str) -> str:
    return device.partition("/device:")[0]


def _arrows(spans: Sequence[Span], rows: Mapping[str, Any]) -> list[dict[str, Any]]:
    """From each sender, when it has handed its values over, to where they are taken."""
    sent = {s.name.replace("/_send_", "/_recv_"): s for s in spans if s.op == "Send"}
    arrows: list[dict[str, Any]] = []
    for number, got in enumerate(s for s in spans if s.op == "Recv" and s.name in sent):
        given = sent[got.name]
        common = {"name": "value", "cat": "transfer", "id": number}
        ends = (given.start + given.seconds) * 1e6, (got.start + got.seconds) * 1e6
        arrows += [
            {**common, "ph": "s", **rows[given.device], "ts": ends[0]},
            {**common, "ph": "f", "bp": "e", **rows[got.device], "ts": ends[1]},
        ]
    return arrows

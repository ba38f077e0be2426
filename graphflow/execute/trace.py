"""When each kernel of a run was called, for those who want to see it."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from graphflow.compile.plan import Plan


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

    def timed(self, calls: Sequence[Any], plan: Plan, device: str) -> list[Any]:
        """The calls of a program, each entering its span when it returns."""
        return [
            call._replace(function=self._timed(call.function, step.name, step.opdef.name, device))
            for call, step in zip(calls, plan.steps, strict=True)
        ]

    def _timed(
        self, function: Callable[..., Any], name: str, op: str, device: str
    ) -> Callable[..., Any]:
        clock = time.perf_counter

        def call(*arguments: Any) -> Any:
            start = clock()
            result = function(*arguments)
            span = Span(name, op, device, start - self._began, clock() - start)
            with self._lock:
                self.spans.append(span)
            return result

        return call


def chrome_trace(spans: Sequence[Span]) -> str:
    """The spans as JSON for chrome://tracing and Perfetto: a row per device."""
    devices = sorted({span.device for span in spans})
    rows = {device: i for i, device in enumerate(devices)}
    events: list[dict[str, Any]] = [
        {"name": "thread_name", "ph": "M", "pid": 0, "tid": i, "args": {"name": device}}
        for device, i in rows.items()
    ]
    events += [
        {
            "name": span.op,
            "cat": "kernel",
            "ph": "X",
            "pid": 0,
            "tid": rows[span.device],
            "ts": span.start * 1e6,
            "dur": span.seconds * 1e6,
            "args": {"name": span.name},
        }
        for span in spans
    ]
    return json.dumps({"traceEvents": events, "displayTimeUnit": "ms"})

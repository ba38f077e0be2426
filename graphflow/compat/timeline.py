"""`tensorflow.python.client.timeline`: traces of runs for Chrome."""

from __future__ import annotations

from typing import Any

from graphflow.execute.trace import chrome_trace


class Timeline:
    """What the `step_stats` of a traced run show."""

    def __init__(self, step_stats: Any, graph: Any = None):
        self._spans = list(step_stats)

    def generate_chrome_trace_format(
        self, show_dataflow: bool = True, show_memory: bool = False, op_time: str = "schedule"
    ) -> str:
        """JSON for chrome://tracing and Perfetto: a row per device, a bar per kernel."""
        return chrome_trace(self._spans)

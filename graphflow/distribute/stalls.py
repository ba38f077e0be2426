"""Reports of stalls: for which workers a run waits, and what these are doing."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import Any

from graphflow.execute.whereabouts import Whereabouts

_log = logging.getLogger("graphflow")
_MOST = 8  # steps of a report


class Stalls:
    """Logs a warning for each run that waits for long, again and again while it does.

    A worker that owes an answer is asked what it does together with each sign of life.

    Attributes:
      patience: seconds between the reports on a run.
    """

    def __init__(self, patience: float):
        self.patience = patience
        self._doing: dict[str, Whereabouts] = {}
        self._since: dict[int, float] = {}
        self._reported: dict[int, float] = {}
        self._last: dict[int, str] = {}

    def told(self, worker: str, answer: Any) -> None:
        """A worker has told what it does, or cannot."""
        if isinstance(answer, Whereabouts):
            self._doing[worker] = answer

    def look(self, run: int, awaited: Iterable[str], why: str, now: float) -> str | None:
        """Report a run where it is time to; the report, too.

        Args:
          run: its number.
          awaited: the workers whose answers are missing.
          why: what it waits for where none is.
          now: seconds by a clock that never goes back.
        """
        since = self._since.setdefault(run, now)
        if now - self._reported.get(run, since) < self.patience:
            return None
        self._reported[run] = now
        doing = {worker: self._doing.get(worker) for worker in sorted(awaited)}
        report = self._last[run] = report_of(run, now - since, doing, why)
        _log.warning("%s", report)
        return report

    def ended(self, run: int) -> str | None:
        """A run has ended; the last report on it."""
        if self._since.pop(run, None) is None:
            return None
        self._reported.pop(run, None)
        return self._last.pop(run, None)


def report_of(
    run: int, seconds: float, doing: Mapping[str, Whereabouts | None], why: str = ""
) -> str:
    """What is known of a run that waits.

    Args:
      run: its number.
      seconds: how long it has waited.
      doing: worker whose answer is missing -> what it does; None: it has not told.
      why: what it waits for where no answer is missing.
    """
    lines = [f"run {run} has waited for {seconds:.0f} s:"]
    for worker, where in doing.items():
        if where is None:
            lines.append(f"  {worker} has not told what it does")
        elif not where.steps:
            lines.append(f"  {worker} executes no step")
        lines += [f"  {step}" for step in (where.steps if where else ())[:_MOST]]
    return "\n".join(lines) if doing else f"{lines[0]} {why}"

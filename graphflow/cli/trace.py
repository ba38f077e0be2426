"""`graphflow trace`: run a program, and show when each device computed, handed over and waited.

The program runs as with `graphflow run`; its sessions are asked to trace their runs.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console
from rich.table import Table

from graphflow.cli import run
from graphflow.execute.trace import Span, chrome_trace, shares
from graphflow.place.units import seconds
from graphflow.session.options import RunMetadata, RunOptions
from graphflow.session.watching import Call, watched_by

WARM = 3  # runs of the same fetches before one is traced: the first ones pay for what starts


class Traced(NamedTuple):
    """A run that was traced.

    Attributes:
      spans: of its kernels.
      times: how often its fetches were run.
    """

    spans: list[Span]
    times: int


@contextmanager
def traces(warm: int = WARM) -> Iterator[dict[Any, Traced]]:
    """Fetches that the sessions inside run -> their run after `warm` others, or their last one."""
    found: dict[Any, Traced] = {}

    @contextmanager
    def listening(call: Call) -> Iterator[Call]:
        key = repr(call.fetches)
        before = found.get(key)
        count = before.times + 1 if before else 1
        if count > warm + 1 or call.run_metadata is not None:
            found[key] = Traced(before.spans if before else [], count)
            yield call
            return
        told = RunMetadata()
        timeout = getattr(call.options, "timeout_in_ms", 0)
        traced = RunOptions(trace_level=RunOptions.FULL_TRACE, timeout_in_ms=timeout)
        yield call._replace(options=traced, run_metadata=told)
        found[key] = Traced(list(told.step_stats), count)

    with watched_by(listening):
        yield found


def in_task(script: str, arguments: Sequence[str]) -> tuple[int, list[Traced]]:
    """Run the program in a task's process; its exit status, and the runs that were traced."""
    with traces() as found:
        status = run.in_task(script, arguments)
    return status, list(found.values())


def main(
    script: str, arguments: Sequence[str], save: Sequence[str], layout: run.Layout | None = None
) -> int:
    """Run the script, and tell how the devices spent the step on which most time went.

    Args:
      script: path of the program.
      arguments: its command line.
      save: files for the Chrome trace.
      layout: where it runs; of a program of several tasks each is told of, and the trace is that
        of the one on whose step most time went.
    """
    told: dict[str, list[Traced]] = {}

    def ended(task: str, given: tuple[int, list[Traced]]) -> int:
        status, told[task] = given
        return status

    with traces() as found:
        try:
            status = run.main(script, arguments, layout, run.InTasks(in_task, ended))
        except SystemExit as left:  # programs end with sys.exit(main())
            status = 0 if left.code in (None, 0) else 1
    if status:
        return status
    told[""] = list(found.values())
    longest = {
        task: max(runs, key=_time)
        for task, each in sorted(told.items())
        if (runs := [traced for traced in each if traced.spans])
    }
    if not longest:
        print("the program ran no session: there is nothing to trace", file=sys.stderr)
        return 2
    wide = None if sys.stdout.isatty() else 140  # in a file nothing is cut
    for task, traced in longest.items():
        Console(width=wide).print(table(traced, task))
    for path in save:
        Path(path).write_text(chrome_trace(max(longest.values(), key=_time).spans))
    return 0


def table(traced: Traced, task: str = "") -> Table:
    """How each device spent a run, of the session of a task."""
    made = Table(
        title=f"{task and task + ': '}a step of {seconds(_length(traced.spans))}, "
        f"run {traced.times} times",
        title_justify="left",
    )
    made.add_column("device", no_wrap=True)
    for name in ("compute", "transfer", "wait", "idle"):
        made.add_column(name, justify="right")
    for device, share in shares(traced.spans).items():
        made.add_row(device, *[seconds(each) for each in share])
    return made


def _time(traced: Traced) -> float:
    return _length(traced.spans) * traced.times


def _length(spans: Sequence[Span]) -> float:
    return max(s.start + s.seconds for s in spans) - min(s.start for s in spans)

"""`tf.train.ProfilerHook`: a trace of a step every so often."""

from __future__ import annotations

import logging
from pathlib import Path

from graphflow.execute.trace import chrome_trace
from graphflow.session import RunOptions
from graphflow.train.hooks import (
    OfGlobalStep,
    SecondOrStepTimer,
    SessionRunArgs,
    SessionRunContext,
    SessionRunValues,
)

_log = logging.getLogger("graphflow")


class ProfilerHook(OfGlobalStep):
    """Writes "timeline-STEP.json", for chrome://tracing and Perfetto, every so often."""

    def __init__(
        self,
        save_steps: int | None = None,
        save_secs: float | None = None,
        output_dir: str = "",
        show_dataflow: bool = True,
        show_memory: bool = False,
    ):
        """Args:
        save_steps, save_secs: how often; exactly one.
        output_dir: the folder, which is made where there is none.
        show_dataflow, show_memory: accepted: arrows are there, and memory is not traced.

        Raises:
          ValueError: not exactly one of the two is given.
        """
        self._timer = SecondOrStepTimer(save_secs, save_steps)
        self._folder = Path(output_dir)
        self._traced = False
        self._next: int | None = None  # step

    def before_run(self, run_context: SessionRunContext) -> SessionRunArgs:
        self._traced = self._next is not None and self._timer.should_trigger_for_step(self._next)
        options = RunOptions(trace_level=RunOptions.FULL_TRACE) if self._traced else None
        return SessionRunArgs(self._global_step, options=options)

    def after_run(self, run_context: SessionRunContext, run_values: SessionRunValues) -> None:
        before = int(run_values.results)
        if self._next is None:  # the first one is compiled, and not worth a look
            self._timer.update_last_triggered_step(before)
        step = before + 1
        if self._traced:
            step = int(run_context.session.run(self._global_step))
            self._timer.update_last_triggered_step(step)
            self._folder.mkdir(parents=True, exist_ok=True)
            path = self._folder / f"timeline-{step}.json"
            path.write_text(chrome_trace(run_values.run_metadata.step_stats))
            _log.info("wrote a trace of step %d to %s", step, path)
        self._next = step + 1

"""Hooks of monitored sessions: what happens around each run."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from graphflow.base.errors import GraphError
from graphflow.train.global_step import get_global_step

_log = logging.getLogger("graphflow")
_LOOK = 0.1  # seconds between looks at how far others are


class SessionRunArgs(NamedTuple):
    """What a hook adds to a run.

    Attributes:
      fetches: what to fetch besides, in any nesting; None: nothing.
      feed_dict: what to feed besides.
      options: a `RunOptions`.
    """

    fetches: Any = None
    feed_dict: Any = None
    options: Any = None


class SessionRunValues(NamedTuple):
    """What a hook gets after a run: the values of its fetches, options and metadata."""

    results: Any
    options: Any
    run_metadata: Any


class SessionRunContext:
    """A run, as hooks see it; `request_stop` makes it the last one.

    Attributes:
      original_args: what the program asked for.
      session: the session that runs it.
    """

    def __init__(self, original_args: SessionRunArgs, session: Any):
        self.original_args = original_args
        self.session = session
        self.stop_requested = False

    def request_stop(self) -> None:
        self.stop_requested = True


class SessionRunHook:
    """Base of hooks."""

    def begin(self) -> None:
        """Called once, before the session is made: the graph may still be added to."""

    def after_create_session(self, session: Any, coord: Any) -> None:
        """Called when a session was made, and again when it was made anew after a failure."""

    def before_run(self, run_context: SessionRunContext) -> SessionRunArgs | None:
        """Called before each run; what to add to it."""

    def after_run(self, run_context: SessionRunContext, run_values: SessionRunValues) -> None:
        """Called after each run that succeeded."""

    def end(self, session: Any) -> None:
        """Called once, when the last run has succeeded."""


class SecondOrStepTimer:
    """Is it time again?  After so many steps or seconds."""

    def __init__(self, every_secs: float | None = None, every_steps: int | None = None):
        """Raises:
        ValueError: not exactly one of the two is given.
        """
        if (every_secs is None) == (every_steps is None):
            raise GraphError("give either every_secs or every_steps")
        self._secs = every_secs
        self._steps = every_steps
        self.reset()

    def reset(self) -> None:
        self._step: int | None = None
        self._time = 0.0

    def should_trigger_for_step(self, step: int) -> bool:
        if self._step is None:
            return True
        if step == self._step:
            return False
        if self._secs is not None:
            return time.time() >= self._time + self._secs
        assert self._steps is not None
        return step >= self._step + self._steps

    def update_last_triggered_step(self, step: int) -> tuple[float | None, int | None]:
        """Note that it was done; seconds and steps since the time before."""
        now = time.time()
        since = (None, None) if self._step is None else (now - self._time, step - self._step)
        self._time, self._step = now, step
        return since

    def last_triggered_step(self) -> int | None:
        return self._step


class OfGlobalStep(SessionRunHook):
    """A hook that fetches the global step."""

    def begin(self) -> None:
        self._global_step = get_global_step()
        if self._global_step is None:
            raise RuntimeError(
                f"{type(self).__name__} needs a global step: use tf.train.get_or_create_global_step"
            )

    def before_run(self, run_context: SessionRunContext) -> SessionRunArgs | None:
        return SessionRunArgs(self._global_step)


class StopAtStepHook(OfGlobalStep):
    """Stop after so many steps, or at a given one."""

    def __init__(self, num_steps: int | None = None, last_step: int | None = None):
        """Raises:
        ValueError: not exactly one of the two is given.
        """
        if (num_steps is None) == (last_step is None):
            raise GraphError("give either num_steps or last_step")
        self._count = num_steps
        self._last = last_step

    def after_create_session(self, session: Any, coord: Any) -> None:
        step = int(session.run(self._global_step))
        if self._last is None:
            assert self._count is not None
            self._last = step + self._count
        elif step >= self._last:  # of a worker that was started again: nobody would go on with it
            coord.request_stop()

    def after_run(self, run_context: SessionRunContext, run_values: SessionRunValues) -> None:
        assert self._last is not None
        if int(run_values.results) + 1 < self._last:  # from before the run, which adds one or none
            return
        if int(run_context.session.run(self._global_step)) >= self._last:
            run_context.request_stop()


class GlobalStepWaiterHook(OfGlobalStep):
    """Do not begin before others have reached a step."""

    def __init__(self, wait_until_step: int):
        self._until = wait_until_step

    def after_create_session(self, session: Any, coord: Any) -> None:
        self._coordinator = coord

    def before_run(self, run_context: SessionRunContext) -> SessionRunArgs | None:
        if self._until <= 0:
            return None
        _log.info("waiting for step %d", self._until)
        while int(run_context.session.run(self._global_step)) < self._until:
            if self._coordinator.wait_for_stop(_LOOK):
                break
        self._until = 0
        return None


class NanLossDuringTrainingError(RuntimeError):
    """The loss is not a number."""

    def __str__(self) -> str:
        return "NaN loss during training."


class NanTensorHook(SessionRunHook):
    """Stop, or fail, when a loss is NaN."""

    def __init__(self, loss_tensor: Any, fail_on_nan_loss: bool = True):
        self._loss = loss_tensor
        self._fail = fail_on_nan_loss

    def before_run(self, run_context: SessionRunContext) -> SessionRunArgs | None:
        return SessionRunArgs(self._loss)

    def after_run(self, run_context: SessionRunContext, run_values: SessionRunValues) -> None:
        if np.isnan(run_values.results).any():
            if self._fail:
                raise NanLossDuringTrainingError
            _log.warning("the loss is NaN: stopping")
            run_context.request_stop()


class LoggingTensorHook(SessionRunHook):
    """Log values of tensors every so often."""

    def __init__(
        self,
        tensors: Any,
        every_n_iter: int | None = None,
        every_n_secs: float | None = None,
        at_end: bool = False,
        formatter: Callable[[Mapping[str, Any]], str] | None = None,
    ):
        """Args:
        tensors: a mapping from tags to tensors or names, or a list of them.
        every_n_iter, every_n_secs: how often; exactly one, unless `at_end` alone.
        at_end: log at the end.
        formatter: from a mapping of values to the text to log.

        Raises:
          ValueError: not exactly one of the two is given, or `every_n_iter` is not positive.
        """
        if every_n_iter is not None and every_n_iter <= 0:
            raise GraphError(f"every_n_iter is {every_n_iter}: give 1 to log each run")
        if every_n_iter is None and every_n_secs is None and at_end:
            self._timer = None
        else:
            self._timer = SecondOrStepTimer(every_n_secs, every_n_iter)
        if isinstance(tensors, Mapping):
            self._tensors = {tag: tensors[tag] for tag in sorted(tensors)}
        else:
            self._tensors = {getattr(t, "name", str(t)): t for t in tensors}
        self._at_end = at_end
        self._format = formatter
        self._iteration = 0

    def begin(self) -> None:
        self._iteration = 0
        if self._timer is not None:
            self._timer.reset()

    def before_run(self, run_context: SessionRunContext) -> SessionRunArgs | None:
        self._now = self._timer is not None and self._timer.should_trigger_for_step(self._iteration)
        return SessionRunArgs(self._tensors) if self._now else None

    def after_run(self, run_context: SessionRunContext, run_values: SessionRunValues) -> None:
        if self._now:
            self._write(run_values.results)
        self._iteration += 1

    def end(self, session: Any) -> None:
        if self._at_end:
            self._write(session.run(self._tensors))

    def _write(self, values: Mapping[str, Any]) -> None:
        seconds = None
        if self._timer is not None:
            seconds, _ = self._timer.update_last_triggered_step(self._iteration)
        if self._format is not None:
            _log.info(self._format(values))
            return
        text = ", ".join(f"{tag} = {value}" for tag, value in values.items())
        _log.info(text if seconds is None else f"{text} ({seconds:.3f} sec)")


class StepCounterHook(OfGlobalStep):
    """Log steps per second.

    Attributes:
      steps_per_second: the last measurement, or None.
    """

    def __init__(
        self,
        every_n_steps: int | None = 100,
        every_n_secs: float | None = None,
        output_dir: str | None = None,
        summary_writer: Any = None,
    ):
        """Args:
        every_n_steps, every_n_secs: how often; exactly one, so None for steps where it is seconds.
        output_dir, summary_writer: accepted: the number is logged, and written nowhere.

        Raises:
          ValueError: not exactly one of the two is given.
        """
        self._timer = SecondOrStepTimer(every_n_secs, every_n_steps)
        self.steps_per_second: float | None = None

    def after_run(self, run_context: SessionRunContext, run_values: SessionRunValues) -> None:
        step = int(run_values.results)
        if self._timer.should_trigger_for_step(step):
            seconds, steps = self._timer.update_last_triggered_step(step)
            if seconds and steps:
                self.steps_per_second = steps / seconds
                _log.info("global_step/sec: %g", self.steps_per_second)


class FeedFnHook(SessionRunHook):
    """Feed what a function returns."""

    def __init__(self, feed_fn: Callable[[], Mapping[Any, Any]]):
        self._function = feed_fn

    def before_run(self, run_context: SessionRunContext) -> SessionRunArgs | None:
        return SessionRunArgs(None, self._function())


class FinalOpsHook(SessionRunHook):
    """Run operations at the end, where there are any.

    Attributes:
      final_ops_values: their values.
    """

    def __init__(self, final_ops: Any, final_ops_feed_dict: Any = None):
        self._ops = final_ops
        self._feeds = final_ops_feed_dict
        self.final_ops_values: Any = None

    def end(self, session: Any) -> None:
        if self._ops is not None:
            self.final_ops_values = session.run(self._ops, self._feeds)

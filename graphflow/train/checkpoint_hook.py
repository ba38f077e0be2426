"""`tf.train.CheckpointSaverHook`: a checkpoint every so often."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from typing import Any

from graphflow.base.errors import GraphError
from graphflow.build.keys import GraphKeys
from graphflow.train.hooks import (
    OfGlobalStep,
    SecondOrStepTimer,
    SessionRunContext,
    SessionRunValues,
)
from graphflow.train.saver import Saver

_log = logging.getLogger("graphflow")


class CheckpointSaverListener:
    """Base of what is told when a checkpoint is saved."""

    def begin(self) -> None:
        """Called when the hook begins."""

    def before_save(self, session: Any, global_step_value: int) -> None:
        """Called before each save."""

    def after_save(self, session: Any, global_step_value: int) -> bool | None:
        """Called after each save; True asks to stop."""

    def end(self, session: Any, global_step_value: int) -> None:
        """Called after the last save."""


class CheckpointSaverHook(OfGlobalStep):
    """Save a checkpoint at the beginning, every so often, and at the end."""

    def __init__(
        self,
        checkpoint_dir: str,
        save_secs: float | None = None,
        save_steps: int | None = None,
        saver: Saver | None = None,
        checkpoint_basename: str = "model.ckpt",
        scaffold: Any = None,
        listeners: Sequence[CheckpointSaverListener] | None = None,
    ):
        """Args:
        checkpoint_dir, checkpoint_basename: where.
        save_secs, save_steps: how often; exactly one.
        saver: saves; that of the scaffold, or else the one of the collection SAVERS, where None.
        scaffold: has a saver once the session is made.
        listeners: are told of each checkpoint.

        Raises:
          ValueError: not exactly one of `save_secs` and `save_steps` is given, or both a saver and
            a scaffold.
        """
        if saver is not None and scaffold is not None:
            raise GraphError("give either saver or scaffold")
        self._timer = SecondOrStepTimer(save_secs, save_steps)
        self._path = os.path.join(checkpoint_dir, checkpoint_basename)
        self._saver = saver
        self._scaffold = scaffold
        self._listeners = list(listeners or ())

    def begin(self) -> None:
        super().begin()
        for listener in self._listeners:
            listener.begin()

    def after_create_session(self, session: Any, coord: Any) -> None:
        step = int(session.run(self._global_step))
        self._save(session, step)
        self._timer.update_last_triggered_step(step)

    def after_run(self, run_context: SessionRunContext, run_values: SessionRunValues) -> None:
        if self._timer.should_trigger_for_step(int(run_values.results) + 1):
            step = int(run_context.session.run(self._global_step))
            if self._timer.should_trigger_for_step(step):
                self._timer.update_last_triggered_step(step)
                if self._save(run_context.session, step):
                    run_context.request_stop()

    def end(self, session: Any) -> None:
        step = int(session.run(self._global_step))
        if step != self._timer.last_triggered_step():
            self._save(session, step)
        for listener in self._listeners:
            listener.end(session, step)

    def _save(self, session: Any, step: int) -> bool:
        for listener in self._listeners:
            listener.before_save(session, step)
        self._find_saver(session).save(session, self._path, global_step=step)
        _log.info("saved a checkpoint of step %d to %s", step, self._path)
        return any([listener.after_save(session, step) for listener in self._listeners])

    def _find_saver(self, session: Any) -> Saver:
        if self._scaffold is not None:
            return self._scaffold.saver
        if self._saver is None:
            found = session.graph.get_collection(GraphKeys.SAVERS)
            if len(found) != 1:
                raise RuntimeError(
                    f"there are {len(found)} savers in the collection SAVERS: tell which one is "
                    "meant by tf.train.CheckpointSaverHook(saver=...)"
                )
            self._saver = found[0]
        return self._saver

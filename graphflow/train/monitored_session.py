"""Sessions that initialise or restore by themselves, run hooks, save, and begin again after a
lost worker."""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Sequence
from typing import Any

from graphflow.base.errors import (
    AbortedError,
    GraphError,
    OutOfRangeError,
    UnavailableError,
)
from graphflow.build.defaults import get_default_graph
from graphflow.build.keys import GraphKeys
from graphflow.ops.sources import group
from graphflow.ops.variables import (
    global_variables_initializer,
    local_variables_initializer,
    report_uninitialized_variables,
)
from graphflow.session import Session
from graphflow.train.coordinator import Coordinator, start_queue_runners
from graphflow.train.hooks import (
    CheckpointSaverHook,
    SessionRunArgs,
    SessionRunContext,
    SessionRunHook,
    SessionRunValues,
    StepCounterHook,
)
from graphflow.train.saver import Saver, get_checkpoint_state, latest_checkpoint
from graphflow.train.session_manager import WorkerSessionCreator, ready_before_local

_log = logging.getLogger("graphflow")
_LOST = (AbortedError, UnavailableError)
RETURNING = 120.0  # seconds that lost tasks may take to be there again
_PAUSE = 0.2  # seconds between attempts to make a session


class Scaffold:
    """The parts that make a graph a training program; those not given have defaults.

    Attributes:
      init_op, init_feed_dict, init_fn: initialise a new session.
      local_init_op: run in each session.
      ready_op: gives the names of variables without a value.
      saver: saves and restores.
    """

    def __init__(
        self,
        init_op: Any = None,
        init_feed_dict: Any = None,
        init_fn: Any = None,
        ready_op: Any = None,
        ready_for_local_init_op: Any = None,
        local_init_op: Any = None,
        summary_op: Any = None,
        saver: Saver | None = None,
        copy_from_scaffold: Scaffold | None = None,
    ):
        self.init_op = init_op
        self.init_feed_dict = init_feed_dict
        self.init_fn = init_fn
        self.ready_op = ready_op
        self.ready_for_local_init_op = ready_for_local_init_op
        self.local_init_op = local_init_op
        self.summary_op = summary_op
        self.saver = saver
        if copy_from_scaffold is not None:
            for name, value in vars(copy_from_scaffold).items():
                if getattr(self, name) is None:
                    setattr(self, name, value)

    def finalize(self) -> Scaffold:
        """Fill in the defaults, and let nobody add to the graph any more."""
        graph = get_default_graph()
        if self.init_op is None:
            self.init_op = global_variables_initializer()
        if self.local_init_op is None:
            tables = graph.get_collection(GraphKeys.TABLE_INITIALIZERS)
            self.local_init_op = group(local_variables_initializer(), *tables)
        if self.ready_for_local_init_op is None:
            self.ready_for_local_init_op = ready_before_local()
        if self.ready_op is None:
            self.ready_op = report_uninitialized_variables()
        if self.saver is None:
            savers = graph.get_collection(GraphKeys.SAVERS)
            self.saver = savers[0] if savers else Saver(allow_empty=True)
        graph.finalize()
        return self


class ChiefSessionCreator:
    """Makes sessions: restored from the last checkpoint of a folder, else initialised."""

    def __init__(
        self,
        scaffold: Scaffold | None = None,
        master: str = "",
        config: Any = None,
        checkpoint_dir: str | None = None,
        checkpoint_filename_with_path: str | None = None,
        cluster: Any = None,
    ):
        """Args:
        scaffold: the parts of the program.
        master, config, cluster: as of `Session`.
        checkpoint_dir: the folder whose last checkpoint is restored.
        checkpoint_filename_with_path: the checkpoint to restore.
        """
        self.scaffold = scaffold or Scaffold()
        self._options = {"target": master, "config": config, "cluster": cluster}
        self._folder = checkpoint_dir
        self._path = checkpoint_filename_with_path

    def create_session(self) -> Session:
        """A session that is ready.

        Raises:
          RuntimeError: a variable has no value in the end.
        """
        scaffold = self.scaffold
        session = Session(**self._options)
        try:
            path = self._path or (self._folder and latest_checkpoint(self._folder))
            if path:
                _log.info("restoring %s", path)
                assert scaffold.saver is not None
                scaffold.saver.restore(session, path)
                self._recover(path)
            else:
                session.run(scaffold.init_op, scaffold.init_feed_dict)
                if scaffold.init_fn is not None:
                    scaffold.init_fn(scaffold, session)
            session.run(scaffold.local_init_op)
            missing = session.run(scaffold.ready_op)
            if missing is not None and len(missing):
                names = ", ".join(name.decode() for name in missing)
                raise RuntimeError(f"the session is not ready: no value for {names}")
        except BaseException:
            session.close()
            raise
        return session

    def _recover(self, path: str) -> None:
        state = get_checkpoint_state(os.path.dirname(path))
        if state is not None and self.scaffold.saver is not None:
            self.scaffold.saver.recover_last_checkpoints(state.all_model_checkpoint_paths)


class MonitoredSession:
    """A session whose hooks run around each run, and which begins anew after a lost worker.

    Training goes on from the last checkpoint then: runs since it are run again by the program.
    """

    _recovers = True

    def __init__(
        self,
        session_creator: Any = None,
        hooks: Sequence[SessionRunHook] | None = None,
        stop_grace_period_secs: float = 120,
    ):
        self._creator = session_creator or ChiefSessionCreator()
        self._hooks = list(hooks or ())
        self._grace = stop_grace_period_secs
        self._graph = get_default_graph()
        for hook in self._hooks:
            hook.begin()
        self._creator.scaffold.finalize()
        self._session: Session | None = None
        self._stopped = False
        self._create()

    def _create(self) -> None:
        """A session: as soon as there can be one, where tasks are about to be started again."""
        ends = time.monotonic() + RETURNING
        while True:
            try:
                self._create_once()
                return
            except _LOST as error:
                if not self._recovers or time.monotonic() > ends:
                    raise
                _log.warning("no session yet (%s): trying again", error)
                time.sleep(_PAUSE)

    def _create_once(self) -> None:
        self._coordinator = Coordinator()
        self._session = self._creator.create_session()
        try:
            start_queue_runners(self._session, self._coordinator)
            for hook in self._hooks:
                hook.after_create_session(self._session, self._coordinator)
        except BaseException:
            with contextlib.suppress(*_LOST):  # threads have met the same loss
                self._discard()
            raise

    @property
    def graph(self) -> Any:
        return self._graph

    @property
    def raw_session(self) -> Session:
        """The session inside, without hooks."""
        if self._session is None:
            raise RuntimeError("Attempted to use a closed Session.")
        return self._session

    def should_stop(self) -> bool:
        """Is it time to leave the training loop?"""
        if self._stopped or self._session is None:
            return True
        try:
            self._coordinator.raise_requested_exception()
        except _LOST:
            return not self._recovers  # the next run meets the loss, too, and begins anew
        except Exception:  # closing raises it
            return True
        return self._coordinator.should_stop()

    def run(
        self, fetches: Any, feed_dict: Any = None, options: Any = None, run_metadata: Any = None
    ) -> Any:
        """As `Session.run`, with the hooks.

        Raises:
          RuntimeError: the session is closed.
        """
        while True:
            try:
                return self._run(fetches, feed_dict, options, run_metadata)
            except _LOST as error:
                if not self._recovers:
                    raise
                _log.warning("a worker is lost (%s): beginning again from what was saved", error)
                with contextlib.suppress(*_LOST):  # threads have met the same loss
                    self._discard()
                self._create()

    def _run(self, fetches: Any, feeds: Any, options: Any, metadata: Any) -> Any:
        session = self.raw_session
        context = SessionRunContext(SessionRunArgs(fetches, feeds, options), session)
        wanted: dict[Any, Any] = {"caller": fetches}
        fed = dict(feeds or {})
        for i, hook in enumerate(self._hooks):
            added = hook.before_run(context)
            if added is None:
                continue
            if added.fetches is not None:
                wanted[i] = added.fetches
            for key, value in (added.feed_dict or {}).items():
                if key in fed:
                    raise GraphError(f"a hook feeds {key!r}, which is fed already")
                fed[key] = value
            options = added.options or options
        results = session.run(wanted, fed, options, metadata)
        for i, hook in enumerate(self._hooks):
            hook.after_run(context, SessionRunValues(results.get(i), options, metadata))
        self._stopped = self._stopped or context.stop_requested
        return results["caller"]

    def run_step_fn(self, step_fn: Any) -> Any:
        """Call a function with a context whose `session` runs without hooks."""
        return step_fn(_StepContext(self))

    def close(self) -> None:
        """End the hooks, the threads and the session."""
        self._close(None)

    def _close(self, failure: BaseException | None) -> None:
        if self._session is None:
            return
        try:
            if failure is None:
                for hook in self._hooks:
                    hook.end(self._session)
        finally:
            self._discard()

    def _discard(self) -> None:
        session, self._session = self._session, None
        self._coordinator.request_stop()
        if session is not None:
            session.close()
        self._coordinator.join(stop_grace_period_secs=self._grace, ignore_live_threads=True)

    def __enter__(self) -> MonitoredSession:
        self._entered = self._graph.as_default()
        self._entered.__enter__()
        return self

    def __exit__(self, kind: Any, error: BaseException | None, traceback: Any) -> bool:
        ended = isinstance(error, (OutOfRangeError, StopIteration))
        try:
            self._close(None if ended else error)
        finally:
            self._entered.__exit__(None, None, None)
        return ended


class SingularMonitoredSession(MonitoredSession):
    """A monitored session that does not begin anew: errors of lost workers are raised."""

    _recovers = False

    def __init__(
        self,
        hooks: Sequence[SessionRunHook] | None = None,
        scaffold: Scaffold | None = None,
        master: str = "",
        config: Any = None,
        checkpoint_dir: str | None = None,
        stop_grace_period_secs: float = 120,
        checkpoint_filename_with_path: str | None = None,
    ):
        creator = ChiefSessionCreator(
            scaffold, master, config, checkpoint_dir, checkpoint_filename_with_path
        )
        super().__init__(creator, hooks, stop_grace_period_secs)


class _StepContext:
    """What `run_step_fn` hands to the function."""

    def __init__(self, monitored: MonitoredSession):
        self._monitored = monitored
        self.session = monitored.raw_session

    def run_with_hooks(self, *arguments: Any, **options: Any) -> Any:
        return self._monitored.run(*arguments, **options)

    def request_stop(self) -> None:
        self._monitored._stopped = True


def MonitoredTrainingSession(
    master: str = "",
    is_chief: bool = True,
    checkpoint_dir: str | None = None,
    scaffold: Scaffold | None = None,
    hooks: Sequence[SessionRunHook] | None = None,
    chief_only_hooks: Sequence[SessionRunHook] | None = None,
    save_checkpoint_secs: float | None = None,
    save_summaries_steps: int | None = None,
    save_summaries_secs: float | None = None,
    config: Any = None,
    stop_grace_period_secs: float = 120,
    log_step_count_steps: int | None = 100,
    max_wait_secs: float = 7200,
    save_checkpoint_steps: int | None = None,
    summary_dir: str | None = None,
    cluster: Any = None,
) -> MonitoredSession:
    """A monitored session that saves to a folder and begins from what is there.

    Args:
      master: the target of a `tf.train.Server`; "" for this process.
      is_chief: initialise or restore, and save; other workers wait until the chief has.
      checkpoint_dir: where to save and what to restore; None: neither.
      save_checkpoint_secs, save_checkpoint_steps: how often; every 600 seconds by default.
      hooks, chief_only_hooks: further hooks.
      log_step_count_steps: how often steps per second are logged; None: never.
      max_wait_secs: how long other workers wait.
      cluster: a `graphflow.Cluster` to run on.
      others: as in TensorFlow.
    """
    scaffold = scaffold or Scaffold()
    every = list(hooks or ())
    if is_chief:
        every += chief_only_hooks or ()
        if checkpoint_dir is not None:
            if log_step_count_steps:
                every.append(StepCounterHook(log_step_count_steps))
            if save_checkpoint_secs is None and save_checkpoint_steps is None:
                save_checkpoint_secs = 600
            if save_checkpoint_secs or save_checkpoint_steps:
                every.append(
                    CheckpointSaverHook(
                        checkpoint_dir,
                        save_secs=save_checkpoint_secs or None,
                        save_steps=save_checkpoint_steps or None,
                        scaffold=scaffold,
                    )
                )
    creator: Any = ChiefSessionCreator(scaffold, master, config, checkpoint_dir, cluster=cluster)
    if not is_chief:
        creator = WorkerSessionCreator(scaffold, master, config, max_wait_secs)
    return MonitoredSession(creator, every, stop_grace_period_secs)

"""Sessions that initialise or restore by themselves, run hooks, save, and begin again after a
lost worker."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Sequence
from typing import Any

from graphflow.base.errors import (
    AbortedError,
    GraphError,
    OutOfRangeError,
    UnavailableError,
)
from graphflow.build.defaults import get_default_graph
from graphflow.session import RunMetadata, Session
from graphflow.train.checkpoint_hook import CheckpointSaverHook
from graphflow.train.coordinator import Coordinator, start_queue_runners
from graphflow.train.hooks import (
    SessionRunArgs,
    SessionRunContext,
    SessionRunHook,
    SessionRunValues,
    StepCounterHook,
)
from graphflow.train.session_creators import ChiefSessionCreator, Scaffold, WorkerSessionCreator

_log = logging.getLogger("graphflow")
_LOST = (AbortedError, UnavailableError)
RETURNING = 120.0  # seconds that lost tasks may take to be there again
_PAUSE = 0.2  # seconds between attempts to make a session
USE_DEFAULT: Any = object()  # None says that something is not wanted


class StepContext:
    """What `run_step_fn` hands to the function.

    Attributes:
      session: runs without hooks.
    """

    def __init__(self, monitored: MonitoredSession):
        self._monitored = monitored
        self.session = monitored.raw_session

    def run_with_hooks(self, *arguments: Any, **options: Any) -> Any:
        """As `MonitoredSession.run`."""
        return self._monitored.run(*arguments, **options)

    def request_stop(self) -> None:
        """Have `should_stop` say so."""
        self._monitored._stopped = True


class MonitoredSession:
    """A session whose hooks run around each run, and which begins anew after a lost worker.

    Training goes on from the last checkpoint then: runs since it are run again by the program.
    """

    StepContext = StepContext
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
            if added.options is not None:
                options = added.options if options is None else options.merged(added.options)
        metadata = RunMetadata() if metadata is None else metadata
        results = session.run(wanted, fed, options, metadata)
        for i, hook in enumerate(self._hooks):
            hook.after_run(context, SessionRunValues(results.get(i), options, metadata))
        self._stopped = self._stopped or context.stop_requested
        return results["caller"]

    def run_step_fn(self, step_fn: Callable[[Any], Any]) -> Any:
        """Call a function with a `StepContext`, whose `session` runs without hooks."""
        return step_fn(StepContext(self))

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


def MonitoredTrainingSession(
    master: str = "",
    is_chief: bool = True,
    checkpoint_dir: str | None = None,
    scaffold: Scaffold | None = None,
    hooks: Sequence[SessionRunHook] | None = None,
    chief_only_hooks: Sequence[SessionRunHook] | None = None,
    save_checkpoint_secs: float | None = USE_DEFAULT,
    save_summaries_steps: int | None = USE_DEFAULT,
    save_summaries_secs: float | None = USE_DEFAULT,
    config: Any = None,
    stop_grace_period_secs: float = 120,
    log_step_count_steps: int | None = 100,
    max_wait_secs: float = 7200,
    save_checkpoint_steps: int | None = USE_DEFAULT,
    summary_dir: str | None = None,
    save_graph_def: bool = True,
    *,
    cluster: Any = None,
) -> MonitoredSession:
    """A monitored session that saves to a folder and begins from what is there.

    Args:
      master: the target of a `tf.train.Server`; "" for this process.
      is_chief: initialise or restore, and save; other workers wait until the chief has.
      checkpoint_dir: where to save and what to restore; None: neither.
      scaffold: the parts of the program.
      hooks, chief_only_hooks: further hooks; the chief's come first, then what saves, then these.
      save_checkpoint_secs, save_checkpoint_steps: how often; every 600 seconds where neither is
        given, and never where the one that is given is None.
      save_summaries_steps, save_summaries_secs, save_graph_def: accepted; a program writes its
        summaries and graph itself.
      config: of the session.
      stop_grace_period_secs: how long its threads may take to end.
      log_step_count_steps: how often steps per second are logged, where there is a folder; None:
        never.
      max_wait_secs: how long other workers wait.
      summary_dir: a folder in place of `checkpoint_dir`, as far as that is about logging.
      cluster: a `graphflow.Cluster` to run on.

    Raises:
      ValueError: checkpoints are to be saved by steps and by seconds.
    """
    scaffold = scaffold or Scaffold()
    if not is_chief:
        worker = WorkerSessionCreator(scaffold, master, config, max_wait_secs)
        return MonitoredSession(worker, hooks, stop_grace_period_secs)
    every = list(chief_only_hooks or ())
    if log_step_count_steps and (summary_dir or checkpoint_dir):
        every.append(StepCounterHook(log_step_count_steps))
    if save_checkpoint_secs is save_checkpoint_steps is USE_DEFAULT:
        save_checkpoint_secs = 600
    secs, steps = _wanted(save_checkpoint_secs), _wanted(save_checkpoint_steps)
    if checkpoint_dir is not None and (secs or steps):
        every.append(
            CheckpointSaverHook(checkpoint_dir, save_secs=secs, save_steps=steps, scaffold=scaffold)
        )
    chief = ChiefSessionCreator(scaffold, master, config, checkpoint_dir, cluster=cluster)
    return MonitoredSession(chief, [*every, *(hooks or ())], stop_grace_period_secs)


def _wanted(often: Any) -> Any:
    return None if often is USE_DEFAULT or not often else often

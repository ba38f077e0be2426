"""`tf.train.Supervisor`: what programs used before `MonitoredTrainingSession`."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from graphflow.build.defaults import get_default_graph
from graphflow.build.keys import GraphKeys
from graphflow.ops.variables import global_variables_initializer, report_uninitialized_variables
from graphflow.session import Session
from graphflow.train.coordinator import Coordinator, start_queue_runners
from graphflow.train.global_step import get_global_step
from graphflow.train.saver import Saver
from graphflow.train.session_creators import Scaffold
from graphflow.train.session_manager import SessionManager, ready_before_local


class Supervisor:
    """Makes a program's session, starts its threads, and saves now and then.

    Attributes:
      coord: the coordinator of its threads.
      saver: saves and restores; None: nothing is saved.
      session_manager: makes the session.
      is_chief: does it initialise and save?
      init_op, init_feed_dict, init_fn, local_init_op, ready_op, ready_for_local_init_op: see
        `Scaffold`.
      global_step: counts the steps; None: there is none.
      save_path: how checkpoints are called; None: there is no folder.
      save_model_secs: seconds from one to the next.
      summary_op, summary_writer, save_summaries_secs: what was given.
    """

    USE_DEFAULT = 0

    def __init__(
        self,
        graph: Any = None,
        ready_op: Any = USE_DEFAULT,
        ready_for_local_init_op: Any = USE_DEFAULT,
        is_chief: bool = True,
        init_op: Any = USE_DEFAULT,
        init_feed_dict: Any = None,
        local_init_op: Any = USE_DEFAULT,
        logdir: str | None = None,
        summary_op: Any = USE_DEFAULT,
        saver: Any = USE_DEFAULT,
        global_step: Any = USE_DEFAULT,
        save_summaries_secs: float = 120,
        save_model_secs: float = 600,
        recovery_wait_secs: float = 30,
        stop_grace_secs: float = 120,
        checkpoint_basename: str = "model.ckpt",
        session_manager: SessionManager | None = None,
        summary_writer: Any = USE_DEFAULT,
        init_fn: Any = None,
        local_init_run_options: Any = None,
    ):
        """Args: as TensorFlow's.  `summary_op`, `summary_writer` and `save_summaries_secs` are
        accepted; summaries are written by the program."""
        self.graph = graph or get_default_graph()
        self.is_chief = is_chief
        self.coord = Coordinator()
        self._grace = stop_grace_secs
        self._folder = logdir if is_chief else None
        self._threads: list[threading.Thread] = []
        with self.graph.as_default():
            self.init_op = self._or(init_op, GraphKeys.INIT_OP, global_variables_initializer)
            self.local_init_op = self._or(
                local_init_op, GraphKeys.LOCAL_INIT_OP, Scaffold.default_local_init_op
            )
            self.ready_op = self._or(ready_op, GraphKeys.READY_OP, report_uninitialized_variables)
            self.ready_for_local_init_op = self._or(
                ready_for_local_init_op, GraphKeys.READY_FOR_LOCAL_INIT_OP, ready_before_local
            )
            self.saver = self._or(saver, GraphKeys.SAVERS, self._usual_saver)
            self.global_step = self._or(global_step, GraphKeys.GLOBAL_STEP, get_global_step)
            self.summary_op = self._or(summary_op, GraphKeys.SUMMARY_OP, lambda: None)
        self.summary_writer = None if _is_default(summary_writer) else summary_writer
        self.save_summaries_secs = save_summaries_secs
        self.save_model_secs = save_model_secs
        self.init_feed_dict = init_feed_dict
        self.init_fn = init_fn
        self.save_path = os.path.join(logdir, checkpoint_basename) if logdir else None
        self.session_manager = session_manager or SessionManager(
            self.local_init_op, self.ready_op, self.ready_for_local_init_op, self.graph,
            recovery_wait_secs, local_init_run_options,
        )  # fmt: skip
        self.graph.finalize()

    def _or(self, given: Any, key: str, make: Callable[[], Any]) -> Any:
        """What was given, else the first of a collection, else what is made then."""
        if not _is_default(given):
            return given
        found = self.graph.get_collection(key)
        if found:
            return found[0]
        made = make()
        if made is not None:
            self.graph.add_to_collection(key, made)
        return made

    def _usual_saver(self) -> Saver | None:
        return Saver() if self.graph.get_collection(GraphKeys.GLOBAL_VARIABLES) else None

    def prepare_or_wait_for_session(
        self,
        master: str = "",
        config: Any = None,
        wait_for_checkpoint: bool = False,
        max_wait_secs: float = 7200,
        start_standard_services: bool = True,
    ) -> Session:
        """A session that is ready; its threads run."""
        self.coord.clear_stop()
        if self.is_chief:
            session = self.session_manager.prepare_session(
                master, self.init_op, self.saver, self._folder, None, wait_for_checkpoint,
                max_wait_secs, config, self.init_feed_dict, self.init_fn,
            )  # fmt: skip
            if start_standard_services:
                self.start_standard_services(session)
        else:
            session = self.session_manager.wait_for_session(master, config, max_wait_secs)
        if start_standard_services:
            self.start_queue_runners(session)
        return session

    def start_standard_services(self, sess: Session) -> list[threading.Thread]:
        """Begin to save now and then, where there is a folder."""
        saves = self.is_chief and self.save_path is not None and self.saver is not None
        if not (saves and self.save_model_secs):
            return []
        thread = self.loop(self.save_model_secs, self._save, (sess,))
        return [thread]

    def _save(self, session: Session) -> None:
        assert self.saver is not None
        assert self.save_path is not None
        self.saver.save(session, self.save_path, global_step=self.global_step)

    def start_queue_runners(
        self, sess: Session, queue_runners: Sequence[Any] | None = None
    ) -> list[threading.Thread]:
        """Start queue runners: the given ones, or those of the graph."""
        if queue_runners is None:
            threads = start_queue_runners(sess, self.coord)
        else:
            threads = [
                t for q in queue_runners for t in q.create_threads(sess, self.coord, True, True)
            ]
        self._threads += threads
        return threads

    def loop(
        self, timer_interval_secs: float | None, target: Any, args: Any = None, kwargs: Any = None
    ) -> threading.Thread:
        """Call a function again and again in a thread; after each interval where one is given."""

        def run() -> None:
            pause = timer_interval_secs or 0.0
            with self.coord.stop_on_exception():
                while not self.coord.wait_for_stop(pause):
                    target(*(args or ()), **(kwargs or {}))

        thread = threading.Thread(target=run, name="supervisor", daemon=True)
        self.coord.register_thread(thread)
        self._threads.append(thread)
        thread.start()
        return thread

    def summary_computed(self, sess: Session, summary: Any, global_step: Any = None) -> None:
        """Give a summary to the writer that the program has made.

        Raises:
          RuntimeError: it has given none: pass `summary_writer` to the supervisor.
        """
        if self.summary_writer is None:
            raise RuntimeError(
                "there is no summary writer: give tf.train.Supervisor(summary_writer=...) one"
            )
        if global_step is None and self.global_step is not None:
            global_step = int(sess.run(self.global_step))
        self.summary_writer.add_summary(summary, global_step)

    def should_stop(self) -> bool:
        """Is it time to leave the training loop?"""
        return self.coord.should_stop()

    def request_stop(self, ex: Any = None) -> None:
        """Ask all threads to stop."""
        self.coord.request_stop(ex)

    def wait_for_stop(self) -> None:
        """Wait until somebody asks to stop."""
        self.coord.wait_for_stop()

    def stop(
        self,
        threads: Sequence[threading.Thread] | None = None,
        close_summary_writer: bool = True,
        ignore_live_threads: bool = False,
    ) -> None:
        """Ask all threads to stop, and wait for them.

        Raises:
          Exception: what one of them raised.
        """
        self.coord.request_stop()
        self.coord.join(
            threads, stop_grace_period_secs=self._grace, ignore_live_threads=ignore_live_threads
        )

    @contextmanager
    def managed_session(
        self,
        master: str = "",
        config: Any = None,
        start_standard_services: bool = True,
        close_summary_writer: bool = True,
    ) -> Iterator[Session]:
        """A session that is ready, for the block; at its end threads are stopped, the chief
        saves, and the session is closed."""
        session = self.prepare_or_wait_for_session(
            master, config, start_standard_services=start_standard_services
        )
        try:
            with session.as_default():
                yield session
            if self.save_path and self.saver is not None and self.is_chief:
                self._save(session)
        except Exception as error:
            self.request_stop(error)
        finally:
            self.coord.request_stop()
            session.close()  # wakes threads that wait in a run
            self.stop(ignore_live_threads=True)

    def stop_on_exception(self) -> AbstractContextManager[None]:
        """Inside, an exception asks all threads to stop, and is raised by `stop`."""
        return self.coord.stop_on_exception()

    # What programs called them before TensorFlow 0.8.
    Loop = loop
    PrepareSession = prepare_or_wait_for_session
    RequestStop = request_stop
    ShouldStop = should_stop
    StartQueueRunners = start_queue_runners
    StartStandardServices = start_standard_services
    Stop = stop
    StopOnException = stop_on_exception
    SummaryComputed = summary_computed
    WaitForStop = wait_for_stop


def _is_default(value: Any) -> bool:
    return isinstance(value, int) and value == Supervisor.USE_DEFAULT

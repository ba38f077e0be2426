"""Threads that feed a session: the coordinator that stops them, and runners of queues."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from graphflow.base.errors import CancelledError, GraphError, OpError, OutOfRangeError
from graphflow.build.defaults import get_default_graph, get_default_session
from graphflow.build.keys import GraphKeys


class Coordinator:
    """Lets threads stop together: when one asks for it, or fails."""

    def __init__(self, clean_stop_exception_types: Sequence[type[BaseException]] | None = None):
        """Args:
        clean_stop_exception_types: errors that end a thread without being failures; by default
          `OutOfRangeError`, the end of the input.
        """
        self._clean = tuple(clean_stop_exception_types or (OutOfRangeError,))
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._failure: BaseException | None = None
        self._registered: set[threading.Thread] = set()

    def should_stop(self) -> bool:
        """Has anyone asked to stop?"""
        return self._stop.is_set()

    def request_stop(self, ex: Any = None) -> None:
        """Ask all threads to stop; an error given here is raised by `join`."""
        with self._lock:
            failure = ex[1] if isinstance(ex, tuple) else ex
            stopping = self._stop.is_set()
            harmless = (*self._clean, CancelledError) if stopping else self._clean
            if self._failure is None and not isinstance(failure, harmless):
                self._failure = failure
            self._stop.set()

    def clear_stop(self) -> None:
        """Be as new."""
        with self._lock:
            self._stop.clear()
            self._failure = None

    def wait_for_stop(self, timeout: float | None = None) -> bool:
        """Wait until somebody asks to stop; False where the time is up first."""
        return self._stop.wait(timeout)

    def register_thread(self, thread: threading.Thread) -> None:
        """Let `join` wait for a thread, too."""
        with self._lock:
            self._registered.add(thread)

    @contextlib.contextmanager
    def stop_on_exception(self) -> Iterator[None]:
        """An error inside asks all threads to stop, and is raised by `join`."""
        try:
            yield
        except Exception as error:
            self.request_stop(error)

    def raise_requested_exception(self) -> None:
        """Raise what was given to `request_stop`, if anything."""
        with self._lock:
            if self._failure is not None:
                raise self._failure

    def join(
        self,
        threads: Sequence[threading.Thread] | None = None,
        stop_grace_period_secs: float = 120,
        ignore_live_threads: bool = False,
    ) -> None:
        """Wait for the threads to end.

        Raises:
          RuntimeError: some have not ended so long after the request.
          Exception: what was given to `request_stop`.
        """
        with self._lock:
            waiting = self._registered | set(threads or ())
        while any(t.is_alive() for t in waiting) and not self.wait_for_stop(1.0):
            pass
        self._stop.set()
        deadline = time.monotonic() + stop_grace_period_secs
        for thread in waiting:
            thread.join(max(0.0, deadline - time.monotonic()))
        alive = [t.name for t in waiting if t.is_alive()]
        with self._lock:
            self._registered.clear()
        self.raise_requested_exception()
        if alive and not ignore_live_threads:
            raise RuntimeError(
                f"threads have not stopped within {stop_grace_period_secs} s: {', '.join(alive)}"
            )

    @property
    def joined(self) -> bool:
        return self._stop.is_set() and not self._registered


class LooperThread(threading.Thread):
    """Calls a function again and again until its coordinator stops."""

    def __init__(
        self,
        coord: Coordinator,
        timer_interval_secs: float | None,
        target: Callable[..., Any] | None = None,
        args: Sequence[Any] = (),
        kwargs: dict[str, Any] | None = None,
    ):
        """Args:
        coord: whom to obey.
        timer_interval_secs: seconds between the beginnings of calls; None: none.
        target: the function; `run_loop` where it is None.
        """
        super().__init__(daemon=True)
        self._coord = coord
        self._interval = timer_interval_secs
        self._call = target
        self._arguments = tuple(args)
        self._options = kwargs or {}
        coord.register_thread(self)

    @staticmethod
    def loop(coord: Coordinator, timer_interval_secs: float | None, target: Any, args: Any = (),
             kwargs: Any = None) -> LooperThread:  # fmt: skip
        """A thread that has been started."""
        thread = LooperThread(coord, timer_interval_secs, target, args, kwargs)
        thread.start()
        return thread

    def run(self) -> None:
        with self._coord.stop_on_exception():
            self.start_loop()
            due = time.monotonic()
            while not self._coord.should_stop():
                self.run_loop()
                if self._interval is not None:
                    due += self._interval
                    self._coord.wait_for_stop(max(0.0, due - time.monotonic()))
            self.stop_loop()

    def start_loop(self) -> None:
        """Called before the first call."""

    def stop_loop(self) -> None:
        """Called after the last call."""

    def run_loop(self) -> None:
        """One call."""
        if self._call is not None:
            self._call(*self._arguments, **self._options)


class QueueRunner:
    """Fills a queue from threads, one for each enqueue operation, until its input ends."""

    def __init__(
        self,
        queue: Any = None,
        enqueue_ops: Sequence[Any] | None = None,
        close_op: Any = None,
        cancel_op: Any = None,
        queue_closed_exception_types: Sequence[type[BaseException]] | None = None,
        queue_runner_def: Any = None,
        import_scope: str | None = None,
    ):
        """Args:
        queue: what to fill.
        enqueue_ops: operations to run again and again, each in its own thread.
        close_op: closes the queue when all threads have ended.
        cancel_op: closes the queue at once, and cancels waiting enqueues.

        Raises:
          ValueError: there is nothing to run.
        """
        if queue_runner_def is not None:
            raise GraphError("a queue runner cannot be made from a QueueRunnerDef")
        if queue is None or not enqueue_ops:
            raise GraphError("a queue runner needs a queue and at least one enqueue operation")
        self.queue = queue
        self.enqueue_ops = list(enqueue_ops)
        self.close_op = close_op if close_op is not None else queue.close()
        self.cancel_op = (
            cancel_op if cancel_op is not None else queue.close(cancel_pending_enqueues=True)
        )
        self._ends = tuple(queue_closed_exception_types or (OutOfRangeError, CancelledError))
        self._lock = threading.Lock()
        self._running: dict[int, int] = {}  # per session, how many threads
        self.exceptions_raised: list[BaseException] = []

    @property
    def name(self) -> str:
        return str(self.queue.name)

    def create_threads(
        self, sess: Any, coord: Coordinator | None = None, daemon: bool = False, start: bool = False
    ) -> list[threading.Thread]:
        """Threads that fill the queue in a session; with a coordinator, one that cancels too."""
        with self._lock:
            if self._running.get(id(sess)):
                return []
            self._running[id(sess)] = len(self.enqueue_ops)
        threads = [
            threading.Thread(target=self._run, args=(sess, op, coord), daemon=daemon,
                             name=f"QueueRunner-{self.name}")
            for op in self.enqueue_ops
        ]  # fmt: skip
        if coord is not None:
            threads.append(
                threading.Thread(target=self._close_on_stop, args=(sess, coord), daemon=daemon)
            )
            for thread in threads:
                coord.register_thread(thread)
        if start:
            for thread in threads:
                thread.start()
        return threads

    def _run(self, sess: Any, enqueue_op: Any, coord: Coordinator | None) -> None:
        ended = False
        try:
            while coord is None or not coord.should_stop():
                try:
                    sess.run(enqueue_op)
                except self._ends:
                    ended = True
                    return
        except Exception as error:
            if coord is not None:
                coord.request_stop(error)
            else:
                with self._lock:
                    self.exceptions_raised.append(error)
                raise
        finally:
            with self._lock:
                self._running[id(sess)] -= 1
                last = self._running[id(sess)] == 0
            if last and ended:
                with contextlib.suppress(OpError, RuntimeError):  # the session may be closed
                    sess.run(self.close_op)

    def _close_on_stop(self, sess: Any, coord: Coordinator) -> None:
        coord.wait_for_stop()
        with contextlib.suppress(OpError, RuntimeError):
            sess.run(self.cancel_op)


def add_queue_runner(qr: QueueRunner, collection: str = GraphKeys.QUEUE_RUNNERS) -> None:
    """Let `start_queue_runners` start it."""
    get_default_graph().add_to_collection(collection, qr)


def start_queue_runners(
    sess: Any = None,
    coord: Coordinator | None = None,
    daemon: bool = True,
    start: bool = True,
    collection: str = GraphKeys.QUEUE_RUNNERS,
) -> list[threading.Thread]:
    """Start all queue runners of the graph; their threads.

    Raises:
      ValueError: there is no session.
    """
    session = sess if sess is not None else get_default_session()
    if session is None:
        raise GraphError("no session: give one, or use `with tf.Session():`")
    runners = session.graph.get_collection(collection)
    return [t for qr in runners for t in qr.create_threads(session, coord, daemon, start)]

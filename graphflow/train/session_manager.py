"""Sessions of the workers of a cluster: the chief initialises or restores, the others wait."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from graphflow.base.errors import DeadlineExceededError
from graphflow.ops.variables import global_variables, report_uninitialized_variables
from graphflow.session import Session
from graphflow.train.saver import Saver, latest_checkpoint

_log = logging.getLogger("graphflow")
_LOOK = 0.1  # seconds between looks at whether the chief has initialised the variables


class SessionManager:
    """Makes sessions that are ready to train.

    Attributes:
      graph: what they run.
    """

    def __init__(
        self,
        local_init_op: Any = None,
        ready_op: Any = None,
        ready_for_local_init_op: Any = None,
        graph: Any = None,
        recovery_wait_secs: float = 30,
        local_init_run_options: Any = None,
        local_init_feed_dict: Any = None,
    ):
        """Args:
        local_init_op: run in each session.
        ready_op: gives the names of variables without a value.
        ready_for_local_init_op: the same, before `local_init_op`.
        graph: by default that in force when a session is made.
        recovery_wait_secs: accepted: whether the chief is done is looked at more often.
        """
        self.graph = graph
        self._local_init = local_init_op
        self._ready = ready_op
        self._ready_for_local = ready_for_local_init_op
        self._options = local_init_run_options
        self._feeds = local_init_feed_dict

    def prepare_session(
        self,
        master: str,
        init_op: Any = None,
        saver: Saver | None = None,
        checkpoint_dir: str | None = None,
        checkpoint_filename_with_path: str | None = None,
        wait_for_checkpoint: bool = False,
        max_wait_secs: float = 7200,
        config: Any = None,
        init_feed_dict: Any = None,
        init_fn: Callable[[Any], Any] | None = None,
    ) -> Session:
        """The chief's session: restored where there is a checkpoint, else initialised.

        Raises:
          RuntimeError: a variable has no value in the end, or there is no way to give it one.
        """
        session, restored = self.recover_session(
            master, saver, checkpoint_dir, checkpoint_filename_with_path, wait_for_checkpoint,
            max_wait_secs, config,
        )  # fmt: skip
        with _closed_on_failure(session):
            if not restored:
                if init_op is None and init_fn is None and self._local_init is None:
                    raise RuntimeError(
                        "there is nothing to restore, and no init_op, init_fn or local_init_op"
                    )
                if init_op is not None:
                    session.run(init_op, init_feed_dict)
                if init_fn is not None:
                    init_fn(session)
            self._finish(session)
        return session

    def recover_session(
        self,
        master: str,
        saver: Saver | None = None,
        checkpoint_dir: str | None = None,
        checkpoint_filename_with_path: str | None = None,
        wait_for_checkpoint: bool = False,
        max_wait_secs: float = 7200,
        config: Any = None,
    ) -> tuple[Session, bool]:
        """A session, and whether it was restored and is ready.

        Raises:
          DeadlineExceededError: no checkpoint came in time.
        """
        session = Session(master, graph=self.graph, config=config)
        if saver is None or not (checkpoint_dir or checkpoint_filename_with_path):
            return session, False
        ends = time.monotonic() + max_wait_secs
        path = checkpoint_filename_with_path
        with _closed_on_failure(session):
            while not path:
                assert checkpoint_dir is not None
                path = latest_checkpoint(checkpoint_dir)
                if path or not wait_for_checkpoint:
                    break
                _wait(ends, f"no checkpoint came into {checkpoint_dir} within {max_wait_secs:g} s")
            if not path:
                return session, False
            saver.restore(session, path)
            return session, True

    def wait_for_session(
        self, master: str, config: Any = None, max_wait_secs: float = float("inf")
    ) -> Session:
        """A worker's session, as soon as the chief has initialised the variables.

        Raises:
          DeadlineExceededError: it has not in time.
        """
        ends = time.monotonic() + max_wait_secs
        session = Session(master, graph=self.graph, config=config)
        ready = self._ready if self._ready_for_local is None else self._ready_for_local
        with _closed_on_failure(session):
            while ready is not None and len(session.run(ready)):
                _wait(ends, f"the chief initialised nothing within {max_wait_secs:g} s")
            self._finish(session)
        return session

    def _finish(self, session: Session) -> None:
        if self._local_init is not None:
            session.run(self._local_init, self._feeds, options=self._options)
        check_ready(session, self._ready)


def check_ready(session: Session, ready_op: Any) -> None:
    """Raises:
    RuntimeError: variables have no value; it names them, with the lines that made them.
    """
    missing = session.run(ready_op) if ready_op is not None else ()
    if missing is None or not len(missing):
        return
    names = [name.decode() for name in missing]
    known = session.graph.by_name
    built = [f"{n} (built at {known[n].site})" if n in known else n for n in names]
    raise RuntimeError(
        f"the session is not ready: no value for {', '.join(built)}.  What initialises it, "
        "init_op or local_init_op or a checkpoint, must give them one"
    )


@contextmanager
def _closed_on_failure(session: Session) -> Iterator[None]:
    try:
        yield
    except BaseException:
        session.close()
        raise


def _wait(ends: float, late: str) -> None:
    if time.monotonic() > ends:
        raise DeadlineExceededError(None, None, late)
    time.sleep(_LOOK)


def ready_before_local() -> Any:
    """Names of global variables without a value."""
    return report_uninitialized_variables(global_variables())

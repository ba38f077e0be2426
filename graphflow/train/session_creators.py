"""What makes the sessions of a training program: the parts of its graph, and who uses them."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from functools import partial
from typing import Any

from graphflow.build.defaults import get_default_graph
from graphflow.build.keys import GraphKeys
from graphflow.ops.sources import group
from graphflow.ops.variables import (
    global_variables_initializer,
    local_variables_initializer,
    report_uninitialized_variables,
    tables_initializer,
)
from graphflow.session import Session
from graphflow.train.saver import Saver, get_checkpoint_state, latest_checkpoint
from graphflow.train.session_manager import SessionManager, check_ready, ready_before_local

_log = logging.getLogger("graphflow")


class Scaffold:
    """The parts that make a graph a training program.

    Those not given are taken from the graph's collections (`GraphKeys.INIT_OP` and the like), and
    made where these are empty.

    Attributes:
      init_op, init_feed_dict: initialise a new session; so does `init_fn(session)`.
      ready_for_local_init_op, ready_op: give the names of variables without a value, before and
        after the local ones are initialised.
      local_init_op, local_init_feed_dict: run in each session.
      summary_op: what was given.
      saver: saves and restores.
    """

    def __init__(
        self,
        init_op: Any = None,
        init_feed_dict: Any = None,
        init_fn: Callable[[Scaffold, Session], Any] | None = None,
        ready_op: Any = None,
        ready_for_local_init_op: Any = None,
        local_init_op: Any = None,
        summary_op: Any = None,
        saver: Saver | None = None,
        copy_from_scaffold: Scaffold | None = None,
        local_init_feed_dict: Any = None,
    ):
        """Args:
        init_fn: called with the scaffold and the session, after `init_op`.
        copy_from_scaffold: has what is not given here.
        others: see the attributes.

        Raises:
          TypeError: it is no scaffold.
        """
        self._init_fn = init_fn
        self.init_op = init_op
        self.init_feed_dict = init_feed_dict
        self.ready_op = ready_op
        self.ready_for_local_init_op = ready_for_local_init_op
        self.local_init_op = local_init_op
        self.local_init_feed_dict = local_init_feed_dict
        self.summary_op = summary_op
        self.saver = saver
        if copy_from_scaffold is not None:
            if not isinstance(copy_from_scaffold, Scaffold):
                raise TypeError(f"copy_from_scaffold is no Scaffold, but {copy_from_scaffold!r}")
            for name, value in vars(copy_from_scaffold).items():
                if getattr(self, name) is None:
                    setattr(self, name, value)

    @property
    def init_fn(self) -> Callable[[Session], Any] | None:
        return None if self._init_fn is None else partial(self._init_fn, self)

    def finalize(self) -> Scaffold:
        """Fill in the defaults, and let nobody add to the graph any more.

        Raises:
          RuntimeError: a collection has several where one is needed.
        """
        defaults: dict[str, Callable[[], Any]] = {
            "init_op": global_variables_initializer,
            "local_init_op": self.default_local_init_op,
            "ready_for_local_init_op": ready_before_local,
            "ready_op": report_uninitialized_variables,
            "saver": partial(Saver, allow_empty=True),
        }
        for name, make in defaults.items():
            if getattr(self, name) is None:
                key = GraphKeys.SAVERS if name == "saver" else getattr(GraphKeys, name.upper())
                setattr(self, name, self.get_or_default(name, key, make))
        get_default_graph().finalize()
        return self

    @staticmethod
    def get_or_default(
        arg_name: str, collection_key: str, default_constructor: Callable[[], Any]
    ) -> Any:
        """The one element of a collection; made, and put there, where there is none.

        Args:
          arg_name: the argument of `Scaffold` that would tell which, for the message.
          collection_key: the collection.
          default_constructor: makes the element, or None.

        Raises:
          RuntimeError: there are several.
        """
        graph = get_default_graph()
        found = graph.get_collection(collection_key)
        if len(found) > 1:
            raise RuntimeError(
                f"the collection {collection_key!r} has {len(found)} elements: tell which one is "
                f"meant by tf.train.Scaffold({arg_name}=...)"
            )
        if found:
            return found[0]
        made = default_constructor()
        if made is not None:
            graph.add_to_collection(collection_key, made)
        return made

    @staticmethod
    def default_local_init_op() -> Any:
        """The operation that initialises local variables and tables."""
        return group(local_variables_initializer(), tables_initializer())


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
                    scaffold.init_fn(session)
            session.run(scaffold.local_init_op, scaffold.local_init_feed_dict)
            check_ready(session, scaffold.ready_op)
        except BaseException:
            session.close()
            raise
        return session

    def _recover(self, path: str) -> None:
        state = get_checkpoint_state(os.path.dirname(path))
        if state is not None and self.scaffold.saver is not None:
            self.scaffold.saver.recover_last_checkpoints(state.all_model_checkpoint_paths)


class WorkerSessionCreator:
    """Makes sessions of workers that are not the chief; see `ChiefSessionCreator`."""

    def __init__(
        self,
        scaffold: Scaffold | None = None,
        master: str = "",
        config: Any = None,
        max_wait_secs: float = 30 * 60,
    ):
        self.scaffold = scaffold or Scaffold()
        self._master = master
        self._config = config
        self._patience = max_wait_secs

    def create_session(self) -> Session:
        """A session, as soon as the chief has initialised the variables."""
        scaffold = self.scaffold
        manager = SessionManager(
            scaffold.local_init_op, scaffold.ready_op, scaffold.ready_for_local_init_op,
            local_init_feed_dict=scaffold.local_init_feed_dict,
        )  # fmt: skip
        return manager.wait_for_session(self._master, self._config, self._patience)

"""Sessions: how they are opened, become the default one, and end; see `running` for the rest."""

from __future__ import annotations

import os
import random
import threading
import weakref
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from numbers import Real
from typing import Any

from graphflow.base.config import Settings
from graphflow.build import Graph
from graphflow.build.defaults import default_session, get_default_graph
from graphflow.execute.devices import available_gpus
from graphflow.execute.local import LocalTarget
from graphflow.session.options import ConfigProto
from graphflow.session.planner import Planner
from graphflow.session.prepared import Prepared, Target
from graphflow.session.resume import Resumption
from graphflow.session.running import Running

default_cluster: Any = None  # where sessions run that name no target; set by `graphflow run`


class BaseSession(Running):
    """What `Session` and `InteractiveSession` share.

    Attributes:
      graph: the graph that it runs.
      seed: the seed of random ops that have none; drawn for each session.
    """

    def __init__(
        self,
        target: str | bytes = "",
        graph: Graph | None = None,
        config: ConfigProto | None = None,
        cluster: Any = None,
        seed: int | None = None,
        resume: Any = None,
        resume_every: int = 100,
    ):
        """Open a session.

        Args:
          target: "" for this process, or the `target` of a `tf.train.Server` of this process.
          graph: the graph to run; the default graph if None.
          config: options.
          cluster: a `graphflow.Cluster` to run on; None: this process, without Ray.
          seed: seed of random ops that have none; None: drawn at random, unless the session is
            to be deterministic.
          resume: a folder from which the session goes on if its process has ended, once the
            script is started again from the top: runs that were done are answered from there, and
            checked against what was asked then.  Such a session runs one step at a time, and what
            runs it, native code or the reference tier, is fixed before the first one.
          resume_every: runs from one copy of its state in that folder to the next.

        Raises:
          ValueError: the target is not known, a limit is negative, or the folder is of another
            session.
          FailedPreconditionError: the folder's session computed with other libraries.
          TypeError: an argument is of the wrong type.
        """
        name = target.decode() if isinstance(target, bytes) else target
        if not (name in ("", "local") or name.startswith("grpc://")):
            raise ValueError(
                f"unknown target {target!r}: use '' for this process, the target of a "
                "tf.train.Server, or Session(cluster=graphflow.Cluster(...)) for a Ray cluster"
            )
        if graph is not None and not isinstance(graph, Graph):
            raise TypeError(f"graph must be a tf.Graph, not {graph!r}")
        if config is not None and not isinstance(config, ConfigProto):
            raise TypeError(f"config must be a tf.ConfigProto, not {config!r}")
        limit: Any = 0 if config is None else config.memory_limit
        if not (isinstance(limit, Real) and float(limit) >= 0):
            raise ValueError(f"memory_limit is a number of bytes, not {limit!r}")
        self.graph = (graph or get_default_graph()).root
        self._config = config or ConfigProto()
        drawn = 0 if self._config.deterministic else random.SystemRandom().getrandbits(62)
        self.seed = drawn if seed is None else seed
        self._resumption: Resumption | None = None
        if resume is not None:
            folder = os.fspath(resume)
            self._resumption = Resumption(folder, self.seed, seed is not None, resume_every)
            self.seed = self._resumption.seed
        self._settings = Settings.from_environment()
        self._cache: dict[Any, Prepared] = {}
        self._version = 0  # of the workers
        self._held: dict[str, str] = {}  # where variables live: handle's name -> device
        self._lock = threading.Lock()
        # Kept, as a cluster ends with its last user.
        self._cluster = cluster = cluster or (None if name else default_cluster)
        self._target: Target = self._open(name, cluster)
        self._planner = Planner(
            self._target.topology,
            open_session=_siblings(self._config, cluster),
            # What is measured differs from process to process; and others compute on servers, too.
            learns=self._settings.learn and not name and not self._fixed,
            traces=self._tier == "reference" or (self._tier == "auto" and cluster is None),
            default=getattr(self._target, "default", None),
        )
        self._name = name
        self._closed = False
        self._finalizer = weakref.finalize(self, self._target.close)
        if self._resumption is not None:
            try:
                self._resumption.agree(self._target.numerics)
            except BaseException:  # nobody else can close it
                self._finalizer()
                self._resumption.close()
                raise

    def _open(self, name: str, cluster: Any) -> Target:
        if cluster is not None:
            target: Target = cluster.open(self._config, self.seed, self._tier)
            return target
        if name.startswith("grpc://"):
            from graphflow.distribute.servers import serving

            return serving(name).open(self._config, self.seed)
        return LocalTarget(
            self.seed,
            cpus=self._config.device_count.get("CPU", 1),
            gpus=available_gpus(
                self._config.device_count.get("GPU"), self._config.allow_soft_placement
            ),
            threads=self._config.intra_op_parallelism_threads,
            tier=self._tier,
            fixed=self._fixed,
        )

    @property
    def _fixed(self) -> bool:
        """Do the same bits have to come again in another process?"""
        return self._resumption is not None or self._config.deterministic

    @property
    def _tier(self) -> str:
        """That of the session's first process, where there was one; "auto": it may be chosen.

        A session that goes on from some run does not know which shapes came before: it compiles
        for all.
        """
        if self._resumption is None or self._settings.tier != "auto":
            return self._settings.tier
        return self._resumption.tier or "native"

    # ---- lifetime

    def as_default(self) -> AbstractContextManager[Any]:
        """Make it the session of `eval` and `run` of tensors and operations."""
        return default_session(self)

    @staticmethod
    def reset(target: str | bytes, containers: Any = None, config: Any = None) -> None:
        """Forget what variables, queues and accumulators on the servers of a cluster hold.

        Args:
          target: of a `tf.train.Server` of this process.
          containers: names of the containers to clear, see `tf.container`; "localhost": what is in
            none; None: all.
          config: accepted for TensorFlow's sake.

        Raises:
          NotFoundError: no server of this process has that target.
          UnavailableError: a task of the cluster does not answer.
        """
        from graphflow.distribute.servers import serving

        name = target.decode() if isinstance(target, bytes) else target
        serving(name).reset(tuple(containers or ()))

    def close(self) -> None:
        """Give back the session's devices, threads and state; wakes runs that wait."""
        self._closed = True
        self._cache.clear()
        self._finalizer()
        if self._resumption is not None:
            self._resumption.close()


class Session(BaseSession):
    """Runs a graph.  As a context manager it is the default session, and is closed at the end."""

    def __enter__(self) -> Session:
        self._entered = ExitStack()
        self._entered.enter_context(self.graph.as_default())
        self._entered.enter_context(self.as_default())
        return self

    def __exit__(self, *_: object) -> None:
        self._entered.close()
        self.close()


class InteractiveSession(BaseSession):
    """A session that is the default one from its creation until it is closed."""

    def __init__(self, *args: Any, **options: Any):
        super().__init__(*args, **options)
        self._entered = ExitStack()
        if self.graph is not get_default_graph():
            self._entered.enter_context(self.graph.as_default())
        self._entered.enter_context(self.as_default())

    def __enter__(self) -> InteractiveSession:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._entered.close()
        super().close()


def _siblings(config: ConfigProto, cluster: Any) -> Callable[[Graph], Session]:
    """Opens further sessions of that kind, in which each operation runs by itself; keeps none
    alive."""
    return lambda graph: _Probed(graph=graph, config=config, cluster=cluster)


class _Probed(Session):
    _tier = "reference"

"""Session: where graphs are run.

`Session.run` is the whole line of stages; what it makes of a set of fetches is kept, so that a
repeated run only converts feeds, executes and packs the values.
"""

from __future__ import annotations

import os
import random
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from functools import partial
from numbers import Real
from typing import Any

from graphflow.base.config import Settings
from graphflow.base.errors import CancelledError, OpError
from graphflow.build import Graph
from graphflow.build.defaults import default_session, get_default_graph
from graphflow.execute.devices import available_gpus
from graphflow.execute.local import LocalTarget
from graphflow.session import watching
from graphflow.session.begun import BegunRun
from graphflow.session.feeds import converter, expand, fed_tensor
from graphflow.session.fetches import Fetches, key_of
from graphflow.session.options import ConfigProto, RunMetadata
from graphflow.session.planner import Planner
from graphflow.session.plans import Plans
from graphflow.session.prepared import Prepared, Target
from graphflow.session.resume import PASSING, Resumption, hash_of, names_of
from graphflow.session.steps import may_begin_ahead, may_overlap, run_steps

default_cluster: Any = None  # where sessions run that name no target; set by `graphflow run`


class BaseSession(Plans):
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

    # ---- running

    def run(
        self, fetches: Any, feed_dict: Any = None, options: Any = None, run_metadata: Any = None
    ) -> Any:
        """Compute values of tensors and run operations.

        Args:
          fetches: a tensor, variable, operation or name, or any nesting of lists, tuples and
            dicts of them.
          feed_dict: tensor, variable or name -> the value it takes in this run.
          options: a `RunOptions`.
          run_metadata: a `RunMetadata` that gets the trace, where the options ask for one.

        Returns:
          The structure of `fetches`: NumPy arrays and scalars for tensors, None for operations.

        Raises:
          RuntimeError: the session is closed.
          TypeError, ValueError: a fetch or feed is not in the graph, or a value does not fit.
          OpError: an operation failed; nothing was changed.
        """
        if watching.watchers:
            call = watching.Call(fetches, options, run_metadata)
            with watching.watched(call) as call:
                return self._run(fetches, feed_dict, call.options, call.run_metadata)
        return self._run(fetches, feed_dict, options, run_metadata)

    def _run(self, fetches: Any, feed_dict: Any, options: Any, run_metadata: Any) -> Any:
        if self._closed:
            raise RuntimeError("Attempted to use a closed Session.")
        try:
            feeds = feed_dict or {}
            if not isinstance(feeds, Mapping):
                raise TypeError(f"feed_dict must be a mapping, not a {type(feeds).__name__}")
            if self._resumption is not None:
                with self._resumption:
                    return self._resumed(self._resumption, fetches, feeds, options, run_metadata)
            prepared, results = self._execute(fetches, feeds, options, run_metadata)
            return prepared.pack(results)
        except Exception as error:
            self._explain(error)
            raise

    def _execute(
        self, fetches: Any, feeds: Mapping[Any, Any], options: Any, run_metadata: Any
    ) -> tuple[Prepared, list[Any]]:
        """Values of the fetched tensors."""
        version = getattr(self._target, "version", 0)
        if version != self._version:
            self._follow()
        key = (key_of(fetches), tuple(feeds), self.graph.epoch)
        trace = _trace(options, run_metadata)
        try:
            prepared = self._cache.get(key)
            if prepared is None:
                feeds, prepared = self._prepare(key, fetches, feeds)
            values = [
                convert(feeds[k])
                for k, convert in zip(prepared.keys, prepared.converters, strict=True)
            ]
            if trace is None and self._planner.curious(prepared.placement):
                trace = RunMetadata()
            results = prepared.executable.run(values, self._timeout(options), trace)
        except CancelledError:
            if getattr(self._target, "version", 0) == version:
                raise
            # The workers have changed before it began.
            return self._execute(fetches, feeds, options, run_metadata)
        if trace is not None and self._planner.observe(prepared.placement, trace.step_stats):
            self._cache.pop(key, None)  # the next run plans by what was measured
        return prepared, results

    def _follow(self) -> None:
        """The cluster's workers have changed, and state is elsewhere: plan anew."""
        target: Any = self._target
        with self._lock:
            self._version = target.version
            self._cache = {}
            self._planner.topology = target.topology
            self._held = {name: target.now(device) for name, device in self._held.items()}

    def _resumed(
        self, resumption: Resumption, fetches: Any, feeds: Any, options: Any, run_metadata: Any
    ) -> Any:
        """A run of a session that can be resumed."""
        feeds = expand(feeds)
        wanted = Fetches(self.graph, fetches)
        fed = {key: fed_tensor(self.graph, key) for key in feeds}
        names = names_of(wanted.tensors, wanted.operations, fed.values())
        hashed = hash_of([converter(t, False)(feeds[key]) for key, t in fed.items()])
        if resumption.answers:
            return wanted.pack(resumption.answer(names, hashed))
        state = resumption.take_state()
        if state is not None:
            self._held |= state["held"]
            self._target.restore(state["target"])

        def save() -> Any:
            return {"held": self._held, "target": self._target.capture()}

        try:
            prepared, results = self._execute(fetches, feeds, options, run_metadata)
        except OpError as error:
            if not isinstance(error, PASSING):
                resumption.finish(names, hashed, None, error, save)
            raise
        resumption.finish(names, hashed, results, None, save)
        return prepared.pack(results)

    def _timeout(self, options: Any) -> float | None:
        ms = getattr(options, "timeout_in_ms", 0) or self._config.operation_timeout_in_ms
        return ms / 1000 if ms else None

    def make_callable(
        self, fetches: Any, feed_list: Sequence[Any] | None = None, accept_options: bool = False
    ) -> Callable[..., Any]:
        """A function of the values of `feed_list` that runs `fetches`."""
        keys = tuple(feed_list or ())

        def call(*values: Any, options: Any = None, run_metadata: Any = None) -> Any:
            if len(values) != len(keys):
                raise ValueError(f"{len(keys)} values are needed, not {len(values)}")
            return self.run(fetches, dict(zip(keys, values, strict=True)), options, run_metadata)

        return call

    def run_steps(
        self,
        fetches: Any,
        feeds: int | Iterable[Mapping[Any, Any]],
        options: Any = None,
        in_flight: int = 4,
    ) -> Iterator[Any]:
        """Run the same fetches many times.

        Runs that only read variables overlap: while one is on its second device, the next one is
        on the first.  Where runs write or draw random numbers, a worker of a cluster begins with
        the next one when it is through with one itself, and does not wait until all are; the next
        one is undone where that one fails, and committed when its result is asked for.  Where they
        take input, each begins when the one before is through.  The results, and the effects, are
        those of as many calls of `run`.

            for loss in session.run_steps(loss, batches): ...

        Args:
          fetches: as for `run`.
          feeds: a feed_dict per run, all of the same tensors; they are taken as they are needed.
            Or how many runs without feeds.
          options: a `RunOptions` for each.
          in_flight: how many runs may be under way at once.

        Yields:
          The results, in the order of the feeds.

        Raises:
          ValueError: `in_flight` is not positive.
          OpError: as `run` does; runs that had begun by then are through.
        """
        if in_flight < 1:
            raise ValueError(f"in_flight={in_flight}: at least one run must be under way")

        def known() -> list[Prepared]:
            return [p for k, p in self._cache.items() if k[0] == key_of(fetches)]

        def overlap() -> bool:
            return all(may_overlap(p.placement.subgraph) for p in known())

        def begin() -> Any:
            ahead = self._resumption is None and getattr(self._target, "begins_ahead", False)
            if not (ahead and all(may_begin_ahead(p.placement.subgraph) for p in known())):
                return None
            return lambda fed, after: self._begin(fetches, fed, options, after)

        return run_steps(
            lambda fed: self.run(fetches, fed, options), feeds, in_flight, overlap, begin
        )

    def _begin(
        self, fetches: Any, feeds: Mapping[Any, Any], options: Any, after: BegunRun | None
    ) -> BegunRun | None:
        """Begin a run before its turn; None: it cannot, or fails, and will when it is its turn."""
        prepared = self._cache.get((key_of(fetches), tuple(feeds), self.graph.epoch))
        if self._closed or prepared is None or getattr(self._target, "version", 0) != self._version:
            return None
        if self._planner.curious(prepared.placement):
            return None
        executable: Any = prepared.executable
        try:
            pairs = zip(prepared.keys, prepared.converters, strict=True)
            values = [convert(feeds[key]) for key, convert in pairs]
            begun = executable.begin(values, after and after.begun)
        except Exception:
            return None
        again = partial(self.run, fetches, feeds, options)
        return BegunRun(begun, prepared.pack, again, self._timeout(options), self._explain)

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


def _trace(options: Any, metadata: Any) -> Any:
    if metadata is None or not getattr(options, "trace_level", 0):
        return None
    return metadata

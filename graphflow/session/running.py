"""How a session runs fetches: one set of them once, or many times.

`Session.run` is the whole line of stages; what it makes of a set of fetches is kept, so that a
repeated run only converts feeds, executes and packs the values.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from graphflow.base.errors import CancelledError, OpError, UnimplementedError
from graphflow.session import watching
from graphflow.session.begun import BegunRun
from graphflow.session.feeds import converter, expand, fed_tensor
from graphflow.session.fetches import Fetches, key_of
from graphflow.session.identity import hash_of, identity
from graphflow.session.options import RunMetadata
from graphflow.session.plans import Plans
from graphflow.session.prepared import Prepared
from graphflow.session.resume import PASSING, Resumption, names_of
from graphflow.session.steps import may_begin_ahead, may_overlap, run_steps


class Running(Plans):
    """A session, once it is open."""

    _closed: bool
    _resumption: Resumption | None
    _version: int  # of the workers

    def run(
        self, fetches: Any, feed_dict: Any = None, options: Any = None, run_metadata: Any = None
    ) -> Any:
        """Compute values of tensors and run operations.

        Args:
          fetches: a tensor, variable, operation or name, or any nesting of lists, tuples and
            dicts of them.
          feed_dict: tensor, variable or name -> the value it takes in this run.
          options: a `RunOptions`.
          run_metadata: a `RunMetadata` that gets the trace, and the plans, where the options ask
            for them.

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
        if run_metadata is not None and _asks_for_plans(options):
            plans = prepared.executable.plans.values()
            run_metadata.partition_graphs = [str(plan) for plan in plans]
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
        key = (key_of(fetches), tuple(feeds), self.graph.epoch)
        computes = resumption.identities.get(key)
        if computes is None:
            computes = identity(self.graph, wanted.tensors, wanted.operations, fed.values())
            resumption.identities[key] = computes
        told = names, computes, hash_of([converter(t, False)(feeds[k]) for k, t in fed.items()])
        if resumption.answers:
            return wanted.pack(resumption.answer(*told))
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
                resumption.finish(*told, None, error, save)
            raise
        resumption.finish(*told, results, None, save)
        return prepared.pack(results)

    def _timeout(self, options: Any) -> float | None:
        ms = getattr(options, "timeout_in_ms", 0) or self._config.operation_timeout_in_ms
        return ms / 1000 if ms else None

    def partial_run_setup(self, fetches: Any, feeds: Any = None) -> Any:
        """Not there.

        Raises:
          UnimplementedError: always.
        """
        raise UnimplementedError(
            None,
            None,
            "a run is a transaction, so there are no partial ones: fetch what comes first by a run "
            "of its own, and feed its values, to the tensors that they are of, in the next",
        )

    def partial_run(self, handle: Any, fetches: Any, feed_dict: Any = None) -> Any:
        """Not there, see `partial_run_setup`."""
        self.partial_run_setup(fetches)

    def make_callable(
        self, fetches: Any, feed_list: Sequence[Any] | None = None, accept_options: bool = False
    ) -> Callable[..., Any]:
        """A function of the values of `feed_list` that runs `fetches`.

        Args:
          fetches: as for `run`.
          feed_list: tensors, variables or names.
          accept_options: needless: the function takes `options` and `run_metadata` anyway.
        """
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


def _asks_for_plans(options: Any) -> bool:
    return bool(
        getattr(options, "output_partition_graphs", False) or getattr(options, "trace_level", 0)
    )


def _trace(options: Any, metadata: Any) -> Any:
    if metadata is None or not getattr(options, "trace_level", 0):
        return None
    return metadata

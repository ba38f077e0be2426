"""What a session makes of fetches, once, and what it tells of that."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from graphflow.base.collector import paused_collection
from graphflow.base.config import Settings
from graphflow.base.errors import OpError, UnimplementedError
from graphflow.build import Graph
from graphflow.build.sites import user_site
from graphflow.execute.numerics import Numerics
from graphflow.partition import partition
from graphflow.place import Explanation, Placement, Topology
from graphflow.rewrite import prune, rewrite
from graphflow.session.feeds import converter, expand, fed_tensor, is_plain
from graphflow.session.fetches import Fetches, check_fetchable, key_of
from graphflow.session.memory import within_memory
from graphflow.session.options import ConfigProto
from graphflow.session.planner import Planner
from graphflow.session.prepared import Prepared, Target

_warn = logging.getLogger("graphflow")


class Plans:
    """The stages of `Session.run` up to the execution, and what they have made so far."""

    graph: Graph
    _cache: dict[Any, Prepared]  # by (fetches, fed tensors, epoch of the graph)
    _config: ConfigProto
    _held: dict[str, str]  # where variables live: handle's name -> device
    _lock: threading.Lock
    _name: str
    _planner: Planner
    _settings: Settings
    _target: Target

    def _prepare(
        self, key: Any, fetches: Any, feeds: Mapping[Any, Any]
    ) -> tuple[Mapping[Any, Any], Prepared]:
        """All the stages, for fetches that were not asked for before."""
        if not is_plain(feeds):  # the parts of such feeds differ from run to run
            feeds = expand(feeds)
            key = (key[0], tuple(feeds), key[2])
        with self._lock, paused_collection():
            if next(iter(self._cache), key)[2] != key[2]:  # of an older epoch, as all others are
                self._cache = {}
            prepared = self._cache.get(key)
            if prepared is None:
                prepared = self._cache[key] = self._build(fetches, feeds)
        return feeds, prepared

    def _build(self, fetches: Any, feeds: Mapping[Any, Any]) -> Prepared:
        keys = tuple(feeds)
        wanted = Fetches(self.graph, fetches)
        for tensor in wanted.tensors:
            check_fetchable(tensor)
        fed = [fed_tensor(self.graph, key) for key in keys]
        if len(set(fed)) != len(fed):
            twice = next(tensor for tensor in fed if fed.count(tensor) > 1)
            under = " and ".join(repr(k) for k, t in zip(keys, fed, strict=True) if t is twice)
            raise ValueError(f"feed_dict feeds {twice.name!r} twice, as {under}")
        view = prune(self.graph, wanted.tensors, wanted.operations, fed)
        view = rewrite(view, validate=self._settings.validate)
        if self._config.memory_limit:
            view = within_memory(view, self._config.memory_limit, list(feeds.values()))
        soft = self._config.allow_soft_placement
        placement = self._planner.place(view, soft=soft, held=self._held)
        self._held |= placement.state
        if placement.lacks:
            _warn.warning("%s; `explain_placement` tells more", placement.lacks)
        if self._config.log_device_placement:
            _log(placement)
        executable = self._target.load(partition(view, placement))
        converters = tuple(converter(t, executable.keeps(t)) for t in fed)
        return Prepared(keys, converters, executable, wanted.pack, placement)

    def _explain(self, error: Exception) -> None:
        """Add the line of the `run` call, and the operation where it is known by name."""
        error.add_note(f"run at {user_site()}")
        if isinstance(error, OpError) and error.op is None and error.node_def is not None:
            error.op = self.graph.by_name.get(error.node_def)

    # ---- what it knows

    @property
    def graph_def(self) -> Any:
        return self.graph.as_graph_def()

    @property
    def sess_str(self) -> str:
        return self._name

    @property
    def target(self) -> Target:
        """Where the session executes."""
        return self._target

    def list_devices(self) -> list[str]:
        """Names of the devices that the session may use."""
        return [device.name for device in self._target.topology.devices]

    @property
    def plan(self) -> Placement | None:
        """The plan of the largest step so far, by its operations; None: nothing has run.

        Checkpoints hold its digest: what was trained by the same plan has the same one.
        """
        with self._lock:
            plans = [prepared.placement for prepared in self._cache.values()]
        return max(reversed(plans), key=lambda plan: len(plan.devices), default=None)

    @property
    def numerics(self) -> Numerics | None:
        """What the last bits of results depend on, beside the plan; None: on servers, whose
        sessions do not fix it."""
        try:
            return self._target.numerics
        except UnimplementedError:
            return None

    def placement(self, fetches: Any, feed_dict: Any = None) -> Placement:
        """Which device runs what, for these fetches and feeds."""
        feeds = expand(feed_dict or {})
        key = (key_of(fetches), tuple(feeds), self.graph.epoch)
        return self._prepare(key, fetches, feeds)[1].placement

    def explain_placement(self, fetches: Any, feed_dict: Any = None) -> Explanation:
        """Why each operation runs where it does, for these fetches and feeds.

        Returns:
          What prints as text: predicted step time, lower bound, gap, load, idle time and peak
          memory per device, and the reason per group; with the methods `svg`, `png` and
          `chrome_trace`.
        """
        return Explanation(self.placement(fetches, feed_dict))

    def explain(self, fetches: Any, feed_dict: Any = None) -> Any:
        """What became of the computation of these fetches: loops, kernels, memory, code.

        Where it was not compiled yet for such feeds, it is: the step is run once, and undone.  A
        step that takes input (a dequeue, a Python function), or runs on a cluster, is reported as
        it is so far.

        Returns:
          What prints as text: what was fused, with the user's lines; what calls reference kernels,
          and why; the memory plan; what workers send each other.  It holds one report per device
          and combination of shapes, each with the attributes `ir`, `llvm`, `assembly` and `cuda`.

        Raises:
          As `run`.
        """
        from graphflow.compile.native.report import Reports

        try:
            feeds = expand(feed_dict or {})
            key = key_of(fetches), tuple(feeds), self.graph.epoch
            prepared: Any = self._prepare(key, fetches, feeds)[1]
            pairs = zip(prepared.keys, prepared.converters, strict=True)
            reports = prepared.executable.explain([convert(feeds[k]) for k, convert in pairs])
            return Reports(tuple(reports), tuple(prepared.executable.sent))
        except Exception as error:
            self._explain(error)
            raise

    def calibrate(self, path: Any = None) -> Topology:
        """Measure devices and links, which takes a few seconds, and place by that from now on.

        What is measured is stored, and read when this is called again on the same machine.
        Fetches that ran before keep their plans.  A session does it by itself before its first
        step of ten milliseconds or more that may go to several devices, and traces the first
        steps of such plans, unless GRAPHFLOW_LEARN=0.

        Args:
          path: the file; None: one in $GRAPHFLOW_CACHE, else in the user's cache.
        """
        self._planner.calibrate(None if path is None else Path(path))
        return self._planner.topology


def _log(placement: Placement) -> None:
    import sys

    for operation, device in placement.devices.items():
        print(f"{operation.name}: ({operation.type}): {device}", file=sys.stderr)

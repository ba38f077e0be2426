"""Devices for between-graph replication: variables on parameter servers, the rest on the worker."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from typing import Any

from graphflow.base.devices import parse
from graphflow.base.errors import GraphError
from graphflow.build import Operation
from graphflow.train.server import ClusterSpec

# TensorFlow's names of what lives on parameter servers, and ours.
_VARIABLES = frozenset(("Variable", "VariableV2", "VarHandleOp", "VarHandle", "AutoReloadVariable"))
PS_OPS = (
    *sorted(_VARIABLES),
    *("MutableHashTable", "MutableHashTableV2", "MutableHashTableOfTensors"),
    *("MutableHashTableOfTensorsV2", "MutableDenseHashTable", "MutableDenseHashTableV2"),
    *("BoostedTreesEnsembleResourceHandleOp", "BoostedTreesQuantileStreamResourceHandleOp"),
)


class _RoundRobin:
    """The tasks in turn."""

    def __init__(self, num_tasks: int):
        self._count = num_tasks
        self._next = 0

    def __call__(self, operation: Any) -> int:
        task, self._next = self._next, (self._next + 1) % self._count
        return task


class RandomStrategy:
    """A task at random; the same ones in each process, as the seed is fixed."""

    def __init__(self, num_tasks: int, seed: int = 0):
        self._count = num_tasks
        self._random = random.Random(seed)

    def __call__(self, operation: Any) -> int:
        return self._random.randrange(self._count)


class GreedyLoadBalancingStrategy:
    """The task that has least so far; the first one where several have."""

    def __init__(self, num_tasks: int, load_fn: Callable[[Operation], float]):
        """Args:
        num_tasks: how many parameter servers there are.
        load_fn: what an operation adds to the load, such as `byte_size_load_fn`.
        """
        self._load = [0.0] * num_tasks
        self._cost = load_fn

    def __call__(self, operation: Operation) -> int:
        task = self._load.index(min(self._load))
        self._load[task] += self._cost(operation)
        return task


def byte_size_load_fn(operation: Operation) -> float:
    """Bytes of the value that an operation makes, or of the variable that it names.

    Raises:
      ValueError: the shape is not known.
    """
    attrs = operation.attrs
    dims, dtype = (attrs["dims"], attrs["dtype"]) if "dims" in attrs else operation.specs[0]
    if dims is None or None in dims:
        raise GraphError(f"the size of {operation.name!r} is not known, so it has no load")
    return float(math.prod(dims) * dtype.size)


def replica_device_setter(
    ps_tasks: int = 0,
    ps_device: str = "/job:ps",
    worker_device: str = "/job:worker",
    merge_devices: bool = True,
    cluster: Any = None,
    ps_ops: Sequence[str] | None = None,
    ps_strategy: Callable[[Any], int] | None = None,
) -> Callable[[Operation], str] | None:
    """A function for `tf.device`: variables go to parameter servers, all else to the worker.

    Args:
      ps_tasks: number of parameter servers; the cluster tells it where one is given.
      ps_device: the device of the parameter servers.
      worker_device: the device of everything else.
      merge_devices: complete devices that were asked for inside; otherwise those stay as they
        are.
      cluster: a `ClusterSpec`, `ClusterDef` or mapping.
      ps_ops: types of the operations that go to parameter servers; by default variables and
        mutable tables, under TensorFlow's names or ours.
      ps_strategy: from an operation to the number of its task; by default in turn.

    Returns:
      The function; None where there are no parameter servers.

    Raises:
      TypeError: the strategy cannot be called.
    """
    if cluster is not None:
        tasks = ClusterSpec(cluster).as_dict().get(parse(ps_device).job or "", [])
        ps_tasks = len(tasks)
    if ps_tasks == 0:
        return None
    if ps_strategy is not None and not callable(ps_strategy):
        raise TypeError(f"ps_strategy must be callable, not {ps_strategy!r}")
    served = frozenset(PS_OPS if ps_ops is None else ps_ops)
    if served & _VARIABLES:
        served |= _VARIABLES
    choose = ps_strategy or _RoundRobin(ps_tasks)

    def device(operation: Operation) -> str:
        asked = parse(operation.device)
        if not merge_devices and operation.device:
            return operation.device
        if ps_device and operation.type in served:
            server = parse(ps_device)
            if server.job and asked.job in (None, server.job):
                server = server._replace(task=choose(operation))
            return str(server.merged(asked))
        return str(parse(worker_device or "").merged(asked))

    return device

"""Which operations go together, and where each group may go.

A group shares one device: what colocation asks for, all that holds one handle (a variable, its
reads and writes, loops that use it), and what passes Python values (variants) on.  A group may
go where each request in it allows and each op has a kernel.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

from graphflow.base import dtypes
from graphflow.base.devices import DeviceSpec, parse
from graphflow.base.errors import InvalidArgumentError
from graphflow.build.tensor import Operation
from graphflow.place.devices import Topology
from graphflow.place.hoist import makers
from graphflow.rewrite.effects import bodies
from graphflow.rewrite.subgraph import Subgraph

STAYS = (dtypes.resource, dtypes.variant)  # values of these dtypes never travel
HANDLES = ("VarHandle", "Argument", "Identity")  # give handles of variables, which any device has


@dataclass(frozen=True)
class Group:
    """Operations that share a device.

    Attributes:
      members: in the order of the subgraph.
      allowed: names of the devices it may go to, in the order of the topology.
      reasons: why it may not go everywhere, for the explanation.
    """

    members: tuple[Operation, ...]
    allowed: tuple[str, ...]
    reasons: tuple[str, ...] = ()


class Edge(NamedTuple):
    """Why two operations share a device."""

    left: Operation
    right: Operation
    why: str


class Limit(NamedTuple):
    """Where one operation may go, and why; fixed: it holds in soft placement, too."""

    operation: Operation
    allowed: frozenset[str]
    why: str
    fixed: bool = False


def host_only(operation: Operation) -> bool:
    """Has the op kernels for CPUs alone?  Strings, queues, files, Python functions, printing."""
    if operation.opdef.effect in ("input", "output"):
        return True
    for tensor in (*operation.inputs, *operation.outputs):
        if tensor.dtype is dtypes.string:
            return True
    if operation.attrs.get("dtype") is dtypes.string:
        return True
    if operation.type not in HANDLES and any(t.dtype is dtypes.resource for t in operation.outputs):
        return True  # a queue, a table, an iterator
    return any(host_only(inner) for body in bodies(operation) for inner in body.operations)


def owns_state(operation: Operation) -> bool:
    """Does it make a variable or queue, or move a random counter, that later runs must find?"""
    if operation.opdef.random or operation.type == "VarHandle":
        return True
    if operation.type not in HANDLES and any(t.dtype is dtypes.resource for t in operation.outputs):
        return True
    return any(owns_state(inner) for body in bodies(operation) for inner in body.operations)


class Requests:
    """Resolves device requests against a topology, each distinct one once.

    With `soft`, a request for a device of a kind or index that is not there means any device of
    the same job and task, and ops without a kernel on the kind asked for go to a CPU, as with
    TensorFlow 1's `allow_soft_placement`; a job or task that is not there means any other.  So do
    requests for several devices of a task, by what must share one (`loosened`).
    """

    def __init__(self, topology: Topology, soft: bool = True, default: str | None = None):
        self.topology = topology
        self.soft = soft
        self.everywhere = frozenset(topology.by_name)
        self.cpus = frozenset(d.name for d in topology.devices if d.kind == "CPU")
        self.default = parse(default) if default else None
        self._known: dict[tuple[str, bool], Limit | None] = {}

    def limit(self, operation: Operation) -> Limit | None:
        """Where the operation may go; None: anywhere.

        Raises:
          InvalidArgumentError: it asks for a device that does not exist.
        """
        key = operation.device, host_only(operation)
        if key not in self._known:
            self._known[key] = self._resolve(operation, *key)
        found = self._known[key]
        return None if found is None else found._replace(operation=operation)

    def asked(self, operation: Operation) -> Limit | None:
        """As `limit`, without the default device."""
        if operation.device:
            return self.limit(operation)
        if not host_only(operation) or self.cpus == self.everywhere:
            return None
        return Limit(operation, self.cpus, "it has a kernel on CPUs alone")

    def loosened(self, limit: Limit) -> Limit:
        """Any device of the jobs and tasks that a request allows, and that has the kernel."""
        if limit.fixed:
            return limit
        tasks = {parse(n)._replace(device_type=None, device_index=None) for n in limit.allowed}
        allowed = frozenset().union(*[self._names(task) for task in tasks])
        if host_only(limit.operation):
            allowed &= self.cpus
        if allowed == limit.allowed:
            return limit
        return limit._replace(allowed=allowed, why=limit.why + ", or else for its task")

    def _resolve(self, operation: Operation, device: str, host: bool) -> Limit | None:
        request = parse(device)
        asked = bool(device)
        if self.default is not None:
            request = self.default.merged(request)
        if not asked and self.default is None:
            if not host or self.cpus == self.everywhere:
                return None
            return Limit(operation, self.cpus, "it has a kernel on CPUs alone")
        allowed = self._devices(operation, request)
        why = f"it asks for {device}" if asked else f"{request} is the default device"
        if not host:
            return Limit(operation, allowed, why)
        if allowed & self.cpus:
            return Limit(operation, allowed & self.cpus, why + ", on a CPU, where its kernel is")
        if asked and not self.soft:
            raise InvalidArgumentError(
                operation.name,
                operation,
                f"{operation.type} {operation.name!r} has no kernel on {device}, only on CPUs: "
                f"ask for one, or allow soft placement; built at {operation.site}",
            )
        beside = self._names(request._replace(device_type="CPU", device_index=None)) or self.cpus
        return Limit(operation, beside, why + ", but has a kernel on CPUs alone")

    def _devices(self, operation: Operation, request: DeviceSpec) -> frozenset[str]:
        found = self._names(request)
        if found:
            return found
        if self.soft:
            # Asked for a GPU, none there: a CPU of that task.  No such task, since the program
            # runs on fewer machines than it was written for: a device of that kind, or any.
            kind = DeviceSpec(device_type=request.device_type)
            for looser in (request._replace(device_type=None, device_index=None), kind):
                if found := self._names(looser):
                    return (found & self.cpus) or found
            return self.cpus or self.everywhere
        raise InvalidArgumentError(
            operation.name,
            operation,
            f"{operation.type} {operation.name!r} asks for device {request}, which does not "
            f"exist; available: {', '.join(self.topology.by_name)}. Ask for one of these, "
            f"or allow soft placement; "
            f"built at {operation.site}",
        )

    def _names(self, request: DeviceSpec) -> frozenset[str]:
        return frozenset(d.name for d in self.topology.matching(request))


def together(subgraph: Subgraph) -> list[Edge]:
    """The pairs of operations that must share a device.

    Operations that colocation names but pruning removed appear, too: their requests hold.
    """
    edges: list[Edge] = []
    by_name: dict[str, Operation] | None = None
    owners: dict[tuple[str, str], Operation] = {}
    maker = makers(subgraph)
    for operation in subgraph.order:
        for other in operation.colocation:
            if by_name is None:
                by_name = {o.name: o for o in subgraph.order}  # rewriting keeps names
            edges.append(Edge(operation, by_name.get(other.name, other), "is colocated with"))
        for tensor in operation.inputs:
            if tensor.dtype in STAYS:
                what = "uses the handle of" if tensor.dtype is dtypes.resource else "takes from"
                edges.append(Edge(operation, maker.get(tensor, tensor.op), what))
        if operation.type == "VarHandle":
            key = str(operation.attrs["container"]), str(operation.attrs["shared_name"])
            first = owners.setdefault(key, operation)
            if first is not operation:
                edges.append(Edge(operation, first, "is the same variable as"))
    return edges


def groups_of(
    subgraph: Subgraph,
    requests: Requests,
    held: Mapping[str, str] | None = None,
    loosen: bool = False,
) -> list[Group]:
    """Partition the subgraph into groups, in the order of their first members.

    Args:
      held: where variables live already: name of the handle's operation -> device.
      loosen: requests of one group for several devices of a task are for any device of it.

    Raises:
      InvalidArgumentError: a request names no device, or requests contradict each other; the
        message gives a minimal set of them.
    """
    edges = together(subgraph)
    find = _Union()
    for edge in edges:
        find.join(edge.left, edge.right)
    sets: dict[Operation, list[Operation]] = {}
    for operation in dict.fromkeys((*subgraph.order, *[e.right for e in edges])):
        sets.setdefault(find(operation), []).append(operation)
    inside = set(subgraph.order)
    result = []
    for members in sets.values():
        for limits in _ever_looser(members, requests, held or {}, loosen):
            if allowed := _common(limits, requests):
                break
        else:
            raise conflict(limits, edges, requests)
        names = [n for n in requests.topology.by_name if n in allowed]
        reasons = dict.fromkeys(f"{limit.operation.name}: {limit.why}" for limit in limits)
        kept = tuple([m for m in members if m in inside])
        if kept:
            result.append(Group(kept, tuple(names), tuple(reasons)))
    return result


def _common(limits: Iterable[Limit], requests: Requests) -> frozenset[str]:
    return requests.everywhere.intersection(*[limit.allowed for limit in limits])


def _ever_looser(
    members: list[Operation], requests: Requests, held: Mapping[str, str], loosen: bool
) -> Iterator[list[Limit]]:
    """What limits a group, and what still does where that leaves it no device."""
    homes = _held(members, held, requests)
    limits = [limit for m in members if (limit := requests.limit(m)) is not None] + homes
    yield limits
    if requests.default is not None:  # it is for those that ask for nothing
        limits = [limit for m in members if (limit := requests.asked(m)) is not None] + homes
        yield limits
    limits = [limit for limit in limits if not _yields(limit.operation)]
    yield limits
    if loosen:
        yield [requests.loosened(limit) for limit in limits]
    if requests.soft and homes:  # state stays where it is
        yield homes


def _yields(operation: Operation) -> bool:
    """Does its request give way to the home of the variable or queue that it uses?"""
    return operation.opdef.effect != "none" and any(
        t.dtype is dtypes.resource for t in operation.inputs
    )


def _held(members: list[Operation], held: Mapping[str, str], requests: Requests) -> list[Limit]:
    found = [(m, held[m.name]) for m in members if m.name in held] if held else []
    return [
        Limit(m, frozenset([device]), f"its variable lives on {device}", fixed=True)
        for m, device in found
        if device in requests.everywhere
    ]


class _Union:
    """Union-find; the root of a set is the member seen first."""

    def __init__(self) -> None:
        self._parent: dict[Operation, Operation] = {}

    def __call__(self, x: Operation) -> Operation:
        parent = self._parent
        root = x
        while (above := parent.get(root, root)) is not root:
            root = above
        while x is not root:
            parent[x], x = root, parent.get(x, x)
        return root

    def join(self, a: Operation, b: Operation) -> None:
        a, b = self(a), self(b)
        if a is not b:
            self._parent[b] = a


def conflict(limits: list[Limit], edges: list[Edge], requests: Requests) -> InvalidArgumentError:
    """The error for a group that may go nowhere, with a minimal set of what contradicts."""
    core = minimal(limits)
    lines = [_line(limit) for limit in core]
    for a, b in pairwise(core):
        lines += [
            f"  {e.left.name!r} {e.why} {e.right.name!r} (built at {e.left.site})"
            for e in _path(a.operation, b.operation, edges)
        ]
    first = core[0].operation
    helps = not requests.soft and _common([requests.loosened(x) for x in limits], requests)
    return InvalidArgumentError(
        first.name,
        first,
        "these must share a device, but no device satisfies all of them:\n"
        + "\n".join(dict.fromkeys(lines))
        + f"\nDrop one of these requests{', or allow soft placement' if helps else ''}.",
    )


def _line(limit: Limit) -> str:
    operation = limit.operation
    return f"  {operation.type} {operation.name!r}: {limit.why}; built at {operation.site}"


def minimal(limits: list[Limit]) -> list[Limit]:
    """Limits that no device satisfies together, while any proper subset leaves one."""
    core = list({limit.allowed: limit for limit in reversed(limits)}.values())[::-1]
    for limit in list(core):
        rest = [other for other in core if other is not limit]
        if rest and not frozenset.intersection(*[other.allowed for other in rest]):
            core = rest
    return core


def _path(start: Operation, end: Operation, edges: Iterable[Edge]) -> list[Edge]:
    """A shortest chain of edges between two operations of a group."""
    beside: dict[Operation, list[tuple[Edge, Operation]]] = {}
    for edge in edges:
        beside.setdefault(edge.left, []).append((edge, edge.right))
        beside.setdefault(edge.right, []).append((edge, edge.left))
    came: dict[Operation, tuple[Edge, Operation] | None] = {start: None}
    queue = deque([start])
    while queue:
        operation = queue.popleft()
        if operation is end:
            break
        for edge, other in beside.get(operation, ()):
            if other not in came:
                came[other] = (edge, operation)
                queue.append(other)
    path: list[Edge] = []
    step = came.get(end)
    while step is not None:
        path.append(step[0])
        step = came[step[1]]
    return path[::-1]

"""Cut a placed subgraph at device borders.

A tensor travels once to each device that needs it: sent as soon as it is there, received just
before its first use.  Small tensors that go to the same process at about the same time share a
message.  Constants do not travel: each device has a copy.  A control edge between
devices rides on a tensor that goes the same way anyhow, else on a boolean of its own.  Each part
keeps one global topological order, which is why no device can wait for another in a circle
(`verify` checks it nevertheless).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from types import MappingProxyType

import numpy as np

from graphflow.base.devices import short
from graphflow.build.opdef import OPS
from graphflow.build.tensor import Operation, Tensor
from graphflow.partition.merge import merge_small
from graphflow.partition.partitions import Partitions, Transfer
from graphflow.partition.spread import spread
from graphflow.partition.transfer import pair
from graphflow.partition.verify import verify
from graphflow.place.hoist import makers
from graphflow.place.placement import Placement
from graphflow.place.problem import is_everywhere
from graphflow.rewrite.subgraph import Subgraph


def partition(subgraph: Subgraph, placement: Placement) -> Partitions:
    """What each device runs, with `Send` and `Recv` operations at the borders.

    Args:
      subgraph: what was placed.
      placement: where to; its own subgraph is the one that is cut, since placing may have moved
        reads of variables out of loops.

    Raises:
      InternalError: the result does not verify: please report it.
    """
    whole = placement.whole
    devices = whole.used or (placement.topology.devices[0].name,)
    if len(devices) == 1:
        return _whole(placement.subgraph, placement, devices[0])
    result = _Cut(whole).partitions()
    verify(result)
    return result


def _whole(subgraph: Subgraph, placement: Placement, device: str) -> Partitions:
    """One device: nothing to cut, and the subgraph's order is the order."""
    fetches = tuple(dict.fromkeys(subgraph.fetches))
    part = replace(subgraph, fetches=fetches)
    fetched = dict.fromkeys(fetches, device)
    return Partitions(subgraph, placement, MappingProxyType({device: part}), (), fetched)


class _Part:
    """A part while it grows."""

    def __init__(self) -> None:
        self.order: list[Operation] = []
        self.feeds: dict[Tensor, None] = {}
        self.fetches: dict[Tensor, None] = {}
        self.after: dict[Operation, tuple[Operation, ...]] = {}


class _Cut:
    def __init__(self, whole: Placement):
        subgraph, placement = spread(whole.subgraph, whole)
        self.subgraph = subgraph
        self.placement = placement
        self.there = whole.clones
        self.order: Sequence[Operation] = placement.order or subgraph.order
        self.inside = set(self.order)
        self.fed = set(subgraph.feeds)
        self.maker = makers(subgraph)
        self.parts = {device: _Part() for device in placement.used}
        self.transfers: list[Transfer] = []
        self.by_route: dict[tuple[Tensor, str], Transfer] = {}
        self.signals: dict[tuple[Operation, str], Transfer] = {}
        self.sends: dict[Operation, list[Transfer]] = {}
        self.first: dict[Operation, list[Operation]] = {}  # what comes just before a first use
        self.copies: set[tuple[Tensor, str]] = set()

    def partitions(self) -> Partitions:
        for operation in self.order:  # consumers in order: the first one has the Recv
            for tensor in operation.inputs:
                self._data_edge(tensor, operation)
        for operation in self.order:  # data first, so that control edges can ride on it
            befores = [b for b in self.subgraph.after.get(operation, ()) if b in self.inside]
            waits = [self._control_edge(b, operation) for b in befores if not self._free(b)]
            if waits:
                part = self.parts[self.placement[operation]]
                part.after[operation] = tuple(dict.fromkeys(waits))
        self._lay_out()
        order = [transfer for o in self.order for transfer in self.sends.get(o, ())]
        order = merge_small(
            order,
            {d: p.order for d, p in self.parts.items()},
            self.placement,
            makers(self.placement.subgraph),
        )
        self._replace_receives(order)
        fetched = {t: self._fetch(t) for t in dict.fromkeys(self.subgraph.fetches)}
        targets = set(self.subgraph.targets)
        parts = {
            device: Subgraph(
                tuple(part.order),
                tuple(part.feeds),
                tuple(part.fetches),
                tuple([o for o in part.order if o in targets]),
                MappingProxyType(part.after),
                self.subgraph.origins,
            )
            for device, part in self.parts.items()
            if part.order or part.feeds  # a sum that was cut leaves nothing where it was placed
        }
        return Partitions(
            self.subgraph, self.placement, MappingProxyType(parts), tuple(order), fetched
        )

    def _replace_receives(self, transfers: Sequence[Transfer]) -> None:
        """Control edges wait for the messages that carry what they waited for."""
        now = {(t.tensor, t.destination): t.recv for t in transfers}
        for device, part in self.parts.items():
            for operation, befores in part.after.items():
                again = [now[b.outputs[0], device] if b.type == "Recv" else b for b in befores]
                part.after[operation] = tuple(dict.fromkeys(again))

    def _data_edge(self, tensor: Tensor, consumer: Operation) -> None:
        device = self.placement[consumer]
        if tensor in self.fed:
            self.parts[device].feeds[tensor] = None
            return
        producer = self.maker[tensor]
        source = self.placement[producer]
        route = tensor, device
        if source == device or route in self.by_route or route in self.copies:
            return
        if route in self.there:
            return
        if self._free(producer):
            self.copies.add(route)
            self.first.setdefault(consumer, []).append(_copy(tensor, device))
        else:
            self.by_route[route] = self._transfer(tensor, producer, consumer, False)

    def _free(self, operation: Operation) -> bool:
        return is_everywhere(operation, self.subgraph)

    def _transfer(
        self, tensor: Tensor, producer: Operation, consumer: Operation, control: bool
    ) -> Transfer:
        source, device = self.placement[producer], self.placement[consumer]
        transfer = Transfer(tensor, source, device, *pair(source, device, tensor), control)
        self.sends.setdefault(producer, []).append(transfer)
        self.first.setdefault(consumer, []).append(transfer.recv)
        return transfer

    def _control_edge(self, before: Operation, operation: Operation) -> Operation:
        """What `operation` waits for in its own part."""
        device = self.placement[operation]
        if self.placement[before] == device:
            return before
        for tensor in operation.inputs:  # it waits for a value of `before` already
            if self.maker.get(tensor) is before and (tensor, device) in self.by_route:
                return self.by_route[tensor, device].recv
        key = before, device
        if key not in self.signals:
            self.signals[key] = self._transfer(_signal(before), before, operation, True)
        return self.signals[key].recv

    def _lay_out(self) -> None:
        here = self._used_at_home()
        for operation in self.order:
            if operation not in here and self._free(operation):
                continue  # its copies are elsewhere: a part of it alone would take a message
            part = self.parts[self.placement[operation]]
            part.order += self.first.get(operation, ())
            part.order.append(operation)
            for transfer in self.sends.get(operation, ()):
                if transfer.control:
                    signal = transfer.tensor.op
                    part.order.append(signal)
                    part.after[signal] = (operation,)
                part.order.append(transfer.send)

    def _used_at_home(self) -> set[Operation]:
        """Operations that something on their own device needs, and what was asked for."""
        home = self.placement
        found = set(self.subgraph.targets)
        found |= {self.maker[t] for t in self.subgraph.fetches if t not in self.fed}
        for operation in self.order:
            for tensor in operation.inputs:
                maker = self.maker.get(tensor)
                if maker in self.inside and home[maker] == home[operation]:
                    found.add(maker)
        return found

    def _fetch(self, tensor: Tensor) -> str:
        if tensor in self.fed:
            having = [d for d, part in self.parts.items() if tensor in part.feeds]
            device = having[0] if having else next(iter(self.parts))
            self.parts[device].feeds[tensor] = None
        else:
            device = self.placement[self.maker[tensor]]
        self.parts[device].fetches[tensor] = None
        return device


def _copy(tensor: Tensor, device: str) -> Operation:
    """A constant once more, on another device; it gives the very same tensor."""
    constant = tensor.op
    copy = Operation(
        constant.graph,
        constant.id,
        f"{constant.name}/_copy_{short(device)}",
        constant.opdef,
        (),
        constant.attrs,
        constant.specs,
        constant.site,
        device=device,
    )
    copy.outputs = (tensor,)
    return copy


def _signal(before: Operation) -> Tensor:
    """A boolean that says that `before` is done."""
    name = f"{before.name}/_done"
    entry = OPS["Const"]
    attrs = {"value": np.asarray(True)}
    specs = entry.infer(**attrs)
    operation = Operation(before.graph, before.id, name, entry, (), attrs, specs, before.site)
    return operation.outputs[0]

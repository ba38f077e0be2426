"""The result of partitioning: what each device runs, and what travels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from graphflow.build.tensor import Operation, Tensor
from graphflow.place.placement import Placement
from graphflow.rewrite.subgraph import Subgraph


class Transfer(NamedTuple):
    """One tensor's way from one device to another.

    Attributes:
      tensor: what travels.
      source, destination: names of the devices.
      send, recv: the operations at the two ends; they share the attribute `key`.
      control: nobody reads the value: it stands for control edges.
    """

    tensor: Tensor
    source: str
    destination: str
    send: Operation
    recv: Operation
    control: bool

    @property
    def key(self) -> str:
        return str(self.send.attrs["key"])


@dataclass(frozen=True, eq=False)
class Partitions:
    """A placed subgraph, cut at device borders.

    Attributes:
      subgraph: the whole.
      placement: which device has what.
      parts: device -> its subgraph, whose order is the one to run in; a `Recv` in it gives the
        tensor that was sent, a `Send` takes it.  Its feeds are those it needs; its fetches,
        without repetition, those it has to give.
      transfers: in the order of their sends.
      fetched: fetched tensor -> the device that gives its value.
    """

    subgraph: Subgraph
    placement: Placement
    parts: Mapping[str, Subgraph]
    transfers: tuple[Transfer, ...]
    fetched: Mapping[Tensor, str]

    @property
    def devices(self) -> tuple[str, ...]:
        return tuple(self.parts)

    def fed(self, tensor: Tensor) -> tuple[str, ...]:
        """The devices that a fed value goes to."""
        return tuple([d for d, part in self.parts.items() if tensor in part.feeds])

"""What one `run` needs of a graph: the result noun of pruning and of rewriting."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from graphflow.build.tensor import Operation, Tensor

Operations = tuple[Operation, ...]
NONE: Mapping[Operation, Operations] = MappingProxyType({})


@dataclass(frozen=True, slots=True, eq=False)
class Subgraph:
    """Operations in an order in which they may run.  Frozen; stages make new ones.

    Rewriting makes operations that are in no user's graph: those of one subgraph may belong to
    different `Graph` objects.  Names and sites survive, so that errors name the user's lines.

    Attributes:
      order: the operations, inputs first; ties in the order of creation.
      feeds: the tensors whose values are handed in.  Their operations need not be in `order`,
        and where they are (for other outputs), the fed values stand.
      fetches: the tensors whose values are wanted, by position; repeated where asked twice.
      targets: the operations that are to run for their effects alone.
      after: operation -> the operations it waits for besides its inputs: control
        dependencies, and the serial order of reads and writes of one variable.
      origins: operation that rewriting made, or that does the work of several -> the user's
        operations that it stands for.  What is not in it stands for itself.
    """

    order: Operations
    feeds: tuple[Tensor, ...] = ()
    fetches: tuple[Tensor, ...] = ()
    targets: Operations = ()
    after: Mapping[Operation, Operations] = field(default_factory=lambda: NONE)
    origins: Mapping[Operation, Operations] = field(default_factory=lambda: NONE)

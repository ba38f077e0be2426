"""Partitioning: a placed subgraph is cut at device borders.

`partition(subgraph, placement)` gives `Partitions`: a subgraph per device, with `Send` and
`Recv` operations where tensors travel.
"""

from graphflow.partition.partition import partition
from graphflow.partition.partitions import Partitions, Transfer
from graphflow.partition.verify import verify

__all__ = ["Partitions", "Transfer", "partition", "verify"]

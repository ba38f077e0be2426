"""Placing: which device runs which operation, and why.

`place(subgraph, topology)` gives a `Placement`.
"""

from graphflow.place.cost import CostModel
from graphflow.place.devices import (
    Device,
    Link,
    Topology,
    assumed_device,
    local_topology,
    topology_of,
)
from graphflow.place.explain import Explanation
from graphflow.place.place import place
from graphflow.place.placement import Placement

__all__ = [
    "CostModel",
    "Device",
    "Explanation",
    "Link",
    "Placement",
    "Topology",
    "assumed_device",
    "local_topology",
    "place",
    "topology_of",
]

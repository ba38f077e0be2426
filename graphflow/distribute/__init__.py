"""Distribute: sessions on the workers of a Ray cluster.

`Session(cluster=Cluster(workers=2))` runs on it.  What decides is in two pure state machines,
`coordinator` and `worker`; `conductor` and `host` drive them; `ray_transport`, the only importer
of Ray, carries what they say.
"""

from graphflow.distribute.cluster import Cluster

__all__ = ["Cluster"]

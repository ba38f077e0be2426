"""Distribute: sessions on the workers of a Ray cluster.

`Session(cluster=Cluster(workers=2))` runs on it.  What decides is in two pure state machines,
`coordinator` and `worker`; `conductor` and `host` drive them; `ray_transport` and
`ray_worker` carry what they say, or `fast` does past Ray.
"""

from importlib import import_module
from typing import Any

from graphflow.distribute.cluster import Cluster

__all__ = ["Cluster"]

# Ways to train on several devices.  They are optimizers, and so of a higher layer.
_TRAINING = {"DataParallel": "data_parallel", "Pipeline": "pipeline"}


def __getattr__(name: str) -> Any:
    if name in _TRAINING:
        return getattr(import_module(f"graphflow.train.{_TRAINING[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

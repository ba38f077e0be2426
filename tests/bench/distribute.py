"""The distributed runtime in numbers.  Each part is a module of its own:

    distribute_transport     messages and values: steps, boundaries, sums over replicas
    distribute_parallel      ways to train: replicas, parameter servers, pipelines
    distribute_servers       a worker and a parameter server, beside TensorFlow's
    distribute_recovery      lost workers: how long training stands still, and a soak

A part gives `numbers()`, `BOUNDS` and `MEANING`, as every benchmark does.  GRAPHFLOW_PARTS chooses
some of them; GRAPHFLOW_PEERS is the Python of an environment with TensorFlow and PyTorch.
"""

from __future__ import annotations

import importlib
import os
from typing import Any

PARTS = (
    "distribute_transport", "distribute_parallel", "distribute_servers", "distribute_recovery",
)  # fmt: skip


def _parts() -> list[Any]:
    wanted = os.environ.get("GRAPHFLOW_PARTS", ",".join(PARTS)).split(",")
    return [importlib.import_module(name) for name in wanted]


def numbers() -> dict[str, Any]:
    """All numbers of all parts."""
    found: dict[str, Any] = {}
    for part in _parts():
        found |= part.numbers()
    return found


BOUNDS = {key: bound for part in _parts() for key, bound in part.BOUNDS.items()}
MEANING = {key: text for part in _parts() for key, text in part.MEANING.items()}

"""Steps of the native tier against TensorFlow 1, PyTorch, JAX and hand-written C.

GRAPHFLOW_PEERS is the Python of an environment with peers/requirements-peers.txt; without it the
hand-written reference alone is compared (it needs gcc).  GRAPHFLOW_ROUNDS, GRAPHFLOW_TURN and
GRAPHFLOW_WORKLOADS change the number of rounds, the seconds of a turn, and what is run; "costs"
among the workloads are the numbers of `native_costs`.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
from pathlib import Path
from typing import Any

import native_costs

FOLDER = Path(__file__).parent / "peers"
PEERS = ("tf1", "torch", "torch-compile", "jax")
# graphflow / best peer, graphflow / native reference: one of the two is the aim
AIMS = {
    "W1": (0.9, 3.0), "W2": (0.8, 1.15), "W2s": (0.5, 1.5), "W3": (0.95, 1.15),
    "W4": (0.85, 1.15), "W5": (0.25, 1.5), "W6": (0.7, 1.15),
}  # fmt: skip
MORE = ("W7", "W8")  # no hand-written C; the aim is to beat the peers
WHAT = {
    "W1": "chain of 50 operations on 8 floats",
    "W2": "MLP 784-512-512-10, batch 128, Adam",
    "W2s": "MLP 784-64-10, batch 32, Adam",
    "W3": "CNN on MNIST images, batch 64, Adam",
    "W4": "LSTM, 28 steps, 128 units, batch 128, Adam",
    "W5": "elementwise chain and gradient, 4 Mi floats",
    "W6": "transformer block, SGD",
    "W7": "CNN with batch normalisation, batch 64, Adam",
    "W8": "GRU, 28 steps, 128 units, batch 128, Adam",
}
OTHER_SIZES = {
    "W2-1": "W2's MLP, batch 1",
    "W2-1024": "W2's MLP, batch 1024",
    "MLP-small": "MLP 16-32-32-4, batch 16, Adam",
    "W3-256": "W3's CNN, batch 256",
    "CNN-3x3": "3x3 convolutions, 64-128-256 channels, batch 16, Adam",
    "W6-32": "W6's block, batch 32",
}  # told for what they are: no aims, no reference
BOUNDS = {
    **native_costs.BOUNDS,
    **{f"{w}_to_peer": peer for w, (peer, _) in AIMS.items()},
    **{f"{w}_to_reference": reference for w, (_, reference) in AIMS.items()},
    **{f"{w}_to_peer": 1.0 for w in MORE},
}
MEANING = {
    **native_costs.MEANING,
    **{
        f"{w}_to_peer": f"{what}: graphflow / best peer"
        for w, what in {**WHAT, **OTHER_SIZES}.items()
    },
    **{f"{w}_to_reference": f"{what}: graphflow / hand-written C" for w, what in WHAT.items()},
    **{f"{w}_ms": f"{what}: graphflow, ms" for w, what in {**WHAT, **OTHER_SIZES}.items()},
}


def numbers() -> dict[str, Any]:
    """Medians over interleaved rounds; a ratio compares turns of one round only."""
    wanted = os.environ.get("GRAPHFLOW_WORKLOADS", ",".join([*AIMS, *MORE, "costs", *OTHER_SIZES]))
    found: dict[str, Any] = {}
    for workload in wanted.split(","):
        found |= native_costs.numbers() if workload == "costs" else _measured(workload)
    return found


def _measured(workload: str) -> dict[str, Any]:
    sys.path.insert(0, str(FOLDER))
    import interleave

    peer_python = os.environ.get("GRAPHFLOW_PEERS", "")
    arguments = argparse.Namespace(
        workload=workload, dropout=0.5, python=sys.executable, peer_python=peer_python
    )
    os.environ["GRAPHFLOW_TIER"] = "native"
    mine = f"graphflow={sys.executable} {FOLDER / 'bench_graphflow.py'}"
    reference = ["native"] if workload in AIMS else []
    peers = PEERS if peer_python else ()
    running = interleave.start([mine, *reference, *peers], arguments)
    try:
        for _ in range(int(os.environ.get("GRAPHFLOW_ROUNDS", "8"))):
            for each in running:
                each.turn(float(os.environ.get("GRAPHFLOW_TURN", "0.4")))
    finally:
        for each in running:
            each.close()
    by_name = {each.name: each for each in running}
    graphflow = by_name.pop("graphflow")
    ratios = {
        name: statistics.median(interleave.ratios(graphflow, other))
        for name, other in by_name.items()
    }
    result = {f"{workload}_ms": statistics.median(graphflow.turns) * 1e3}
    if "native" in ratios:
        result[f"{workload}_to_reference"] = ratios.pop("native")
    result |= {f"{workload}_to_{name}": ratio for name, ratio in ratios.items()}
    if ratios:  # the best peer is the one that graphflow's ratio to is largest
        result[f"{workload}_to_peer"] = max(ratios.values())
    return result

# ruff: noqa
"""Compare implementations fairly: each gets short turns, round robin, in one run.

    python interleave.py --workload W2 native tf1 torch-compile jax \
        --peer-python PATH "graphflow=python bench_graphflow.py"

An implementation is a built-in name or NAME=COMMAND; the command must follow the
--serve protocol (see README.md). A host's speed drifts by tens of per cent, so
only turns of the same round are compared: the table gives the median over rounds
of (median step of this implementation / median step of the reference), with p10
and p90 of these ratios.
"""

import argparse
import json
import shlex
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

FOLDER = Path(__file__).resolve().parent

# name: (script, mode, whether it needs the peers' environment)
BUILT_IN = {
    "native": ("native_reference/bench_native.py", "workers", False),
    "numpy": ("bench_numpy.py", "default", False),
    "tf1": ("bench_tf1.py", "graph", True),
    "tf1-xla": ("bench_tf1.py", "xla", True),
    "torch": ("bench_torch.py", "eager", True),
    "torch-unroll": ("bench_torch.py", "eager-unroll", True),
    "torch-compile": ("bench_torch.py", "compile", True),
    "torch-compile-unroll": ("bench_torch.py", "compile-unroll", True),
    "jax": ("bench_jax.py", "jit", True),
    "jax-scan": ("bench_jax.py", "scan", True),
    "jax-reshape-pool": ("bench_jax.py", "reshape-pool", True),
    "jax-rbg": ("bench_jax.py", "rbg", True),
}


class Peer:
    """One implementation in its own process, serving timed turns."""

    def __init__(self, name, command):
        self.name = name
        self.errors = tempfile.TemporaryFile("w+")  # a pipe would block when full
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            text=True,
            bufsize=1,
        )
        self.ready = self._first_json_line()
        self.turns = []

    def _first_json_line(self):
        for line in self.process.stdout:
            if line.startswith("{"):
                return json.loads(line)
        self.process.wait()
        self.errors.seek(0)
        error = self.errors.read().strip().splitlines()[-1:]
        raise RuntimeError(f"{self.name} did not start: {error}")

    def turn(self, seconds):
        """Median step of one turn; the first step after the switch is cold and dropped."""
        self.process.stdin.write(f"{seconds}\n")
        times = json.loads(self.process.stdout.readline())
        self.turns.append(statistics.median(times[1:] or times))

    def close(self):
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait()
        self.errors.close()


def command_of(spec, arguments):
    """(name, argument list) of a built-in name or NAME=COMMAND."""
    tail = ["--workload", arguments.workload, "--dropout", str(arguments.dropout), "--serve"]
    if "=" in spec:
        name, command = spec.split("=", 1)
        return name, [*shlex.split(command), *tail]
    script, mode, is_peer = BUILT_IN[spec]
    python = arguments.peer_python if is_peer else arguments.python
    return spec, [python, str(FOLDER / script), "--mode", mode, *tail]


def start(specs, arguments):
    """Start the implementations one at a time, so that start-ups do not disturb each other."""
    peers = []
    for spec in specs:
        name, command = command_of(spec, arguments)
        try:
            peers.append(Peer(name, command))
        except RuntimeError as error:
            print(error, file=sys.stderr)
    return peers


def ratios(peer, reference):
    return sorted(mine / theirs for mine, theirs in zip(peer.turns, reference.turns))


def percentile(ordered, fraction):
    return ordered[round(fraction * (len(ordered) - 1))]


def print_table(workload, peers, reference):
    title = f"ratio to {reference.name}"
    print(f"{workload}: {'implementation':22s} {title:>20s}   p10    p90   median ms  first step s")
    for peer in sorted(peers, key=lambda p: statistics.median(ratios(p, reference))):
        values = ratios(peer, reference)
        print(
            f"{workload}: {peer.name:22s} {statistics.median(values):20.2f} "
            f"{percentile(values, 0.1):5.2f}  {percentile(values, 0.9):5.2f} "
            f"{statistics.median(peer.turns) * 1e3:11.4f} {peer.ready['first_s']:13.1f}"
        )


def add_common_arguments(parser):
    parser.add_argument("--workload", required=True)
    parser.add_argument("--dropout", type=float, default=0.5)
    parser.add_argument("--python", default=sys.executable, help="runs numpy and native")
    parser.add_argument("--peer-python", default=sys.executable, help="runs TF, PyTorch and JAX")
    parser.add_argument("implementations", nargs="+", metavar="NAME or NAME=COMMAND")


def main():
    parser = argparse.ArgumentParser()
    add_common_arguments(parser)
    parser.add_argument("--turn", type=float, default=0.4, help="seconds per turn")
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--reference", help="default: the first implementation")
    arguments = parser.parse_args()
    peers = start(arguments.implementations, arguments)
    for _ in range(arguments.rounds):
        for peer in peers:
            peer.turn(arguments.turn)
    for peer in peers:
        peer.close()
    name = arguments.reference or peers[0].name
    print_table(arguments.workload, peers, next(p for p in peers if p.name == name))


if __name__ == "__main__":
    main()

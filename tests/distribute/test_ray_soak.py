"""A long training with many kills: the same bits, and nothing grows."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.ray, pytest.mark.chaos, pytest.mark.slow, pytest.mark.timeout(400)]

BENCH = Path(__file__).parents[1] / "bench"
PROGRAM = """
import json, sys
from distribute_recovery import BOUNDS, soak
found = soak(steps=1500, every=100)
print(json.dumps([found, {k: BOUNDS[k] for k in found if k in BOUNDS}]))
"""


def test_fourteen_kills_change_no_bit_and_leave_nothing_behind():
    """In a process of its own, whose memory is not that of other tests."""
    import json

    path = ":".join([str(BENCH), str(BENCH.parents[1])])
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=380,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": path, "HOME": str(Path.home()),
             "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]
    found, bounds = json.loads(done.stdout.splitlines()[-1])
    assert found["soak_kills"] == 14
    over = {key: value for key, value in found.items() if value > bounds.get(key, float("inf"))}
    assert not over, found

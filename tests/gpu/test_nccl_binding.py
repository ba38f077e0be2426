"""Sums over GPUs through CuPy's own binding of NCCL, without a GPU and without NCCL."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from graphflow.execute.collective import Group
from graphflow.execute.nccl import Nccl
from graphflow.execute.rendezvous import Meeting, Rendezvous

SOURCE = Path(__file__).with_name("fake_nccl.cpp")
DEVICES = ("/gpu:0", "/gpu:1", "/gpu:2")


class Array(np.ndarray):
    """With CuPy's `data.ptr`."""

    @property
    def data(self) -> Any:  # type: ignore[override]
        return SimpleNamespace(ptr=self.__array_interface__["data"][0])


class Event:
    """All is done at once."""

    done = True

    def __init__(self, disable_timing: bool):
        pass

    def record(self, stream: Any) -> None:
        pass


def on_numpy(binding: Any) -> Any:
    """What sums use of CuPy: its binding, and NumPy's arrays."""

    def here(function: Any) -> Any:
        return lambda *given: np.asarray(function(*given)).view(Array)

    stream = SimpleNamespace(ptr=0)
    cuda = SimpleNamespace(
        nccl=binding, Event=Event, get_current_stream=lambda: stream, Device=nullcontext
    )
    made = (np.ascontiguousarray, np.concatenate, np.empty_like)
    return SimpleNamespace(cuda=cuda, **{f.__name__: here(f) for f in made})


def sums(nccls: dict[str, Nccl], dtype: str) -> None:
    """Three devices sum two tensors each."""
    rendezvous = Rendezvous(threading.Event(), deadline=10)
    group = Group("sum", DEVICES, ((2, 3), (5,)))

    def one(rank: int) -> Any:
        device = DEVICES[rank]
        values = [np.full(shape, 10**rank, dtype) for shape in group.shapes]
        meeting = Meeting(rendezvous, device)
        return nccls[device].all_reduce(meeting, group, device, {rank: values}, threading.Event())

    with ThreadPoolExecutor(3) as pool:
        for found in pool.map(one, range(3)):
            for total, shape in zip(found, group.shapes, strict=True):
                np.testing.assert_array_equal(total, np.full(shape, 111, dtype))


def main() -> None:
    from cupy.cuda import nccl

    assert nccl.available
    cupy = on_numpy(nccl)
    nccls = {device: Nccl(cupy, threading.Lock()) for device in DEVICES}
    for dtype in ("float32", "float64", "int32", "float32"):
        sums(nccls, dtype)
    before = [known for each in nccls.values() for known in each._communicators.values()]
    for known in before:
        known.communicator.abort()
        known.communicator.abort()  # a second time it does nothing
    for each in nccls.values():
        each._communicators.clear()
    sums(nccls, "float64")


@pytest.mark.skipif(importlib.util.find_spec("cupy") is None, reason="needs CuPy: extra gpucheck")
@pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++")
def test_cupys_binding_takes_what_sums_give_it(tmp_path: Path) -> None:
    """In a process of its own, which finds a stand-in where NCCL would be."""
    library = tmp_path / "libnccl.so.2"
    built = ["g++", "-shared", "-fPIC", "-std=c++17", "-pthread", str(SOURCE), "-o", str(library)]
    subprocess.run(built, check=True)
    command = [sys.executable, "-W", "ignore", "-m", __spec__.name]
    environment = os.environ | {"LD_LIBRARY_PATH": str(tmp_path)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60)
    assert done.returncode == 0, done.stderr


if __name__ == "__main__":
    main()

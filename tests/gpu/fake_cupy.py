"""A stand-in for CuPy that sessions can run on, where there is no GPU.

Arrays are NumPy's, of a type that refuses to meet host arrays; functions and arguments are
checked against CuPy's (`tests/ops/recorder.py`); copies to and from the host are counted.
"""

from __future__ import annotations

import json
import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import graphflow.execute.devices as devices
from tests.ops.record_cupy import TABLE
from tests.ops.recorder import DeviceArray, Recorder

CUPY = json.loads(TABLE.read_text())


class FakeCupy(Recorder):
    """What `import cupy` gives.

    Attributes:
      puts: sizes of what was copied to the device.
      gets: shapes of what was copied to the host.
      depth: how many `with Device` are open.
    """

    def __init__(self, count: int = 1):
        super().__init__(CUPY)
        self.ndarray = self._kind
        self.puts: list[tuple[int, ...]] = []
        self.gets: list[tuple[int, ...]] = []
        self.depth = 0
        runtime = SimpleNamespace(
            getDeviceCount=lambda: count,
            CUDARuntimeError=type("CUDARuntimeError", (Exception,), {}),
        )
        self.cuda = SimpleNamespace(runtime=runtime, Device=lambda index: _Current(self, index))

    def asnumpy(self, array: Any) -> Any:
        assert isinstance(array, DeviceArray), "not an array of the device"
        self.gets.append(np.ndarray.view(array, np.ndarray).shape)
        return np.ndarray.view(array, np.ndarray).copy()

    def asarray(self, array: Any, dtype: Any = None) -> Any:
        if isinstance(array, np.ndarray) and not isinstance(array, DeviceArray):
            assert array.dtype != object, "CuPy has no arrays of objects"
            self.puts.append(array.shape)
        return self.device(np.array(_bare(array), dtype))

    def forget(self) -> None:
        """Count copies from here."""
        self.puts.clear()
        self.gets.clear()


def _bare(x: Any) -> Any:
    return np.ndarray.view(x, np.ndarray) if isinstance(x, DeviceArray) else x


class _Current:
    """A `cupy.cuda.Device`."""

    def __init__(self, cupy: FakeCupy, index: int):
        self.cupy = cupy
        self.id = index

    def __enter__(self) -> _Current:
        self.cupy.depth += 1
        return self

    def __exit__(self, *_: object) -> None:
        self.cupy.depth -= 1


def install(monkeypatch: pytest.MonkeyPatch, count: int = 1) -> FakeCupy:
    """Let sessions find so many GPUs."""
    cupy = FakeCupy(count)
    monkeypatch.setattr(devices, "_load_cupy", lambda: cupy)
    monkeypatch.setitem(sys.modules, "cupyx.scipy.special", cupy.special())
    return cupy

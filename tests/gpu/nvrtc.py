"""NVRTC through ctypes: CUDA C++ to machine code, without a GPU and without a driver."""

from __future__ import annotations

import ctypes
import functools
import sys
from pathlib import Path
from typing import Any


class CompileError(ValueError):
    """NVRTC refuses the source; the message is its log."""


def compile_source(source: str, architecture: str = "sm_90") -> bytes:
    """Machine code for an architecture such as "sm_90".

    Raises:
      CompileError: the source is wrong.
    """
    program = ctypes.c_void_p()
    _call("nvrtcCreateProgram", ctypes.byref(program), source.encode(), b"k.cu", 0, None, None)
    try:
        flags = [f"--gpu-architecture={architecture}".encode(), b"--std=c++17"]
        encoded = (ctypes.c_char_p * len(flags))(*flags)
        if _found().nvrtcCompileProgram(program, len(flags), encoded):
            raise CompileError(_read(program, "ProgramLog").decode().strip("\0\n"))
        return _read(program, "CUBIN")
    finally:
        _call("nvrtcDestroyProgram", ctypes.byref(program))


@functools.cache
def library() -> Any:
    """The library of the wheel nvidia-cuda-nvrtc-cu12; None where it is not installed."""
    folders = [Path(p) / "nvidia" / "cuda_nvrtc" / "lib" for p in sys.path]
    folder = next((f for f in folders if f.exists()), None)
    if folder is None:
        return None
    for builtins in folder.glob("libnvrtc-builtins.so*"):
        ctypes.CDLL(str(builtins), ctypes.RTLD_GLOBAL)  # NVRTC looks it up by name
    return ctypes.CDLL(str(min(folder.glob("libnvrtc.so*"))))


def _found() -> Any:
    found = library()
    if found is None:
        raise ImportError("no NVRTC: install nvidia-cuda-nvrtc-cu12")
    return found


def _read(program: Any, what: str) -> bytes:
    size = ctypes.c_size_t()
    _call(f"nvrtcGet{what}Size", program, ctypes.byref(size))
    data = ctypes.create_string_buffer(size.value)
    _call(f"nvrtcGet{what}", program, data)
    return data.raw


def _call(name: str, *arguments: Any) -> None:
    status = getattr(_found(), name)(*arguments)
    if status:
        raise RuntimeError(f"{name} failed with status {status}")

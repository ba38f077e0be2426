"""Workers without address space layout randomization, as debuggers start what they look at.

Processors learn branches by their addresses.  Where many workers take turns on few cores and each
has addresses of its own, every one of them meets all code anew.
"""

from __future__ import annotations

import ctypes
import os
import shlex
from collections.abc import Mapping
from typing import Any

FIXED = "GRAPHFLOW_DISABLE_ASLR"  # a worker is to have been started so
_ADDR_NO_RANDOMIZE, _QUERY = 0x0040000, 0xFFFFFFFF  # <sys/personality.h>
# Runs its arguments without randomization, or with it where that is forbidden: `check` tells of it.
_LAUNCHER = f"""
import ctypes, os, sys
personality = getattr(ctypes.CDLL(None), "personality", None)
if personality:
    personality.argtypes = [ctypes.c_ulong]
    personality(personality({_QUERY}) | {_ADDR_NO_RANDOMIZE})
os.execvp(sys.argv[1], sys.argv[1:])
"""
_ENVIRONMENTS = ("pip", "uv", "conda")  # Ray activates these, which puts their Python first


def launched(python: str, environment: Mapping[str, Any]) -> str:
    """Ray's "py_executable" for workers with the same addresses; words for a shell.

    Args:
      python: path of this process's Python; `python3` stands for it on machines that lack it.
      environment: the job's runtime environment, which may choose another one.
    """
    here = f'"$(command -v {shlex.quote(python)} || command -v python3)"'
    own = "python" if any(environment.get(name) for name in _ENVIRONMENTS) else here
    worker = environment.get("py_executable") or own
    return f"{here} -ISc {shlex.quote(_LAUNCHER)} {worker}"


def refusal() -> str | None:
    """Why this process may not start others without randomization; None where it may."""
    try:
        flags = _personality(_QUERY)
        _personality(flags | _ADDR_NO_RANDOMIZE)
        _personality(flags)
    except (AttributeError, OSError) as error:
        return str(error)
    return None


def check() -> None:
    """See that this process was started without randomization.

    Raises:
      RuntimeError: it was not.
    """
    why = refusal()
    if why is None and not _personality(_QUERY) & _ADDR_NO_RANDOMIZE:
        why = "the job's runtime environment has workers started by something that turns it on"
    if why is not None:
        raise RuntimeError(
            f"disable_aslr=True, but this worker's addresses are random: {why}.  Leave that out, "
            "or allow personality(2) in the seccomp profile of the worker's container"
        )


def _personality(flags: int) -> int:
    """Set the execution domain of this thread and of what it starts, unless that is a query.

    Returns:
      What it was.

    Raises:
      AttributeError: the system has none.
      OSError: it forbids these.
    """
    function = ctypes.CDLL(None, use_errno=True).personality
    function.argtypes = [ctypes.c_ulong]
    was = int(function(flags))
    if was == -1:
        raise OSError(ctypes.get_errno(), f"personality: {os.strerror(ctypes.get_errno())}")
    return was

"""Workers without address space layout randomization."""

from __future__ import annotations

import errno
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from graphflow.distribute import addresses
from graphflow.distribute.addresses import check, launched, refusal
from tests.until import PATIENCE

WORKER = """
import sys
print(sys.argv[1:], [line.split()[0] for line in open("/proc/self/maps")][:4])
"""
permitted = pytest.mark.skipif(refusal() is not None, reason=f"{refusal()}")


def told(command: str, *arguments: str, path: str = os.environ["PATH"]) -> str:
    """What a process says that is started as Ray does it."""
    words = " ".join(shlex.quote(argument) for argument in arguments)
    return subprocess.run(
        ["bash", "-c", f"exec {command} {words}"],
        env=os.environ | {"PATH": path},
        stdout=subprocess.PIPE,
        check=True,
        text=True,
        timeout=PATIENCE,
    ).stdout


def refuse(flags: int) -> int:
    """A container's profile: one may ask, and not set."""
    if flags != addresses._QUERY:
        raise PermissionError(errno.EPERM, "not here")
    return 0


@permitted
def test_all_have_the_same_addresses_and_get_their_arguments():
    command = launched(sys.executable, {})
    first, second = [told(command, "-Sc", WORKER, "an argument", "$HOME") for _ in range(2)]
    assert first.startswith("['an argument', '$HOME']")
    assert first == second


@pytest.mark.parametrize("environment", [{"pip": ["x"]}, {"py_executable": "python -X dev"}])
def test_the_python_of_the_jobs_runtime_environment_is_the_workers(environment, tmp_path: Path):
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\necho "$0" "$@"\n')
    python.chmod(0o755)
    options = environment.get("py_executable", "python").split()[1:]
    path = f"{tmp_path}:{os.environ['PATH']}"
    said = told(launched(sys.executable, environment), "worker.py", path=path)
    assert said.split() == [str(python), *options, "worker.py"]


def test_where_this_python_is_missing_that_of_the_path_is_taken(tmp_path: Path):
    (tmp_path / "python3").symlink_to(sys.executable)
    path = f"{tmp_path}:{os.environ['PATH']}"
    assert told(launched("/not there/python", {}), "-c", "print(1)", path=path) == "1\n"


def test_a_worker_that_has_random_addresses_says_why(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(addresses, "_personality", refuse)
    assert refusal() == "[Errno 1] not here"
    with pytest.raises(RuntimeError, match=r"addresses are random: \[Errno 1\] not here\.  Leave"):
        check()
    monkeypatch.setattr(addresses, "_personality", lambda flags: 0x0400000)  # another flag
    assert refusal() is None
    with pytest.raises(RuntimeError, match="the job's runtime environment has workers started by"):
        check()
    monkeypatch.setattr(addresses, "_personality", lambda flags: addresses._ADDR_NO_RANDOMIZE)
    check()


def test_where_the_system_has_no_such_call_a_worker_starts_nevertheless():
    """So that it can say why it is of no use."""
    forbidding = f"import ctypes\nctypes.CDLL = lambda _: None\n{addresses._LAUNCHER}"
    command = [sys.executable, "-ISc", forbidding, "echo", "started"]
    assert subprocess.check_output(command, timeout=PATIENCE) == b"started\n"


@permitted
def test_to_ask_changes_nothing():
    before = addresses._personality(addresses._QUERY)
    addresses._personality(before & ~addresses._ADDR_NO_RANDOMIZE)
    try:
        assert refusal() is None
        assert not addresses._personality(addresses._QUERY) & addresses._ADDR_NO_RANDOMIZE
    finally:
        addresses._personality(before)

"""Ray's client for jobs, which the extra `jobs` brings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

REFUSED = (ConnectionError, RuntimeError)  # nobody there, or the token is wrong


def connect(address: str | None) -> Any:
    """A client of the dashboard at "http://host:8265".

    Raises:
      ImportError: the extra is not installed.
      ConnectionError, RuntimeError: nobody answers, or the token is refused.
    """
    from ray.job_submission import JobSubmissionClient

    return JobSubmissionClient(address)


def environment(folder: Path) -> dict[str, Any]:
    """What a job takes along: the program's folder, and this graphflow where it is a source
    tree."""
    from graphflow.distribute.ray_transport import _source

    found: dict[str, Any] = {"working_dir": str(folder)}
    package = _source()
    if package:
        found["py_modules"] = [str(package)]
    return found

"""Ray's client for jobs, which the extra `jobs` brings."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from ray.exceptions import RayError

STARTING = 30.0  # seconds that the head's agent may take to come up
REFUSED = (ConnectionError, RuntimeError, RayError)  # nobody there, or the token is wrong


def connect(address: str | None) -> Any:
    """A client of the dashboard at "http://host:8265".

    Raises:
      ImportError: the extra is not installed.
      ConnectionError, RuntimeError, RayError: nobody answers, or the token is refused.
    """
    from ray.job_submission import JobSubmissionClient

    return JobSubmissionClient(address)


def submit(client: Any, **job: Any) -> str:
    """Submit a job; its name.  A cluster that has just come up is given time to take one.

    Raises:
      RuntimeError, RayError: it is refused.
    """
    ends = time.monotonic() + STARTING
    while True:
        try:
            name: str = client.submit_job(**job)
            return name
        except RuntimeError as error:
            if "No available agent" not in str(error) or time.monotonic() > ends:
                raise
        time.sleep(0.5)


def environment(folder: Path) -> dict[str, Any]:
    """What a job takes along: the program's folder, and this graphflow where it is a source
    tree."""
    from graphflow.distribute.ray_transport import _source

    found: dict[str, Any] = {"working_dir": str(folder)}
    package = _source()
    if package:
        found["py_modules"] = [str(package)]
    return found

"""`graphflow submit`: hand a program to a Ray cluster as a job, and follow what it prints."""

from __future__ import annotations

import os
import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from graphflow.cli.run import Layout

_LOOK = 1.0  # seconds between looks at a job
_NEEDS = (
    "graphflow submit needs Ray's job client: pip install 'graphflow[jobs]', here and on the "
    "head of the cluster"
)


def main(script: str, arguments: Sequence[str], layout: Layout, wait: bool = True) -> int:
    """Submit a program; the exit status: 0 where it has succeeded, or was only submitted.

    The folder of the script is what the job gets, and graphflow with it where that is not
    installed.  Where the cluster wants a token, RAY_AUTH_MODE=token and RAY_AUTH_TOKEN (or
    RAY_AUTH_TOKEN_PATH) hold it, as for Ray's own client.

    Args:
      script: path of the program.
      arguments: its command line.
      layout: how many tasks; its address is that of Ray's dashboard, "http://head:8265".
      wait: print the job's output until it ends.
    """
    path = Path(script)
    if not path.is_file():
        print(f"graphflow submit: there is no file {script}", file=sys.stderr)
        return 2
    from graphflow.distribute import job_client

    try:
        client = job_client.connect(layout.address)
        name = job_client.submit(
            client,
            entrypoint=entrypoint(path.name, arguments, layout),
            runtime_env=job_client.environment(path.resolve().parent),
        )
    except ImportError:
        print(_NEEDS, file=sys.stderr)
        return 2
    except job_client.REFUSED as error:
        print(f"graphflow submit: {error}".split("\n\n")[0], file=sys.stderr)
        return 1
    print(f"submitted {name}", file=sys.stderr)
    return _follow(client, name) if wait else 0


def entrypoint(script: str, arguments: Sequence[str], layout: Layout) -> str:
    """The command that the job runs on the cluster."""
    options = ["--address", "auto", "--workers", str(layout.workers)]
    if layout.servers is not None:
        options += ["--ps", str(layout.servers)]
    options += ["--cpus-per-worker", f"{layout.cpus:g}", "--gpus-per-worker", str(layout.gpus)]
    wanted = {
        "--restarts": layout.restarts,
        "--heartbeat": layout.heartbeat,
        "--record-decisions": layout.record,
        "--replay-decisions": layout.replay,
    }
    for flag, value in wanted.items():
        if value is not None:
            options += [flag, str(value)]
    if layout.tls:
        options.append("--tls")
    return shlex.join(["python", "-m", "graphflow.cli", "run", *options, script, *arguments])


def _follow(client: Any, name: str) -> int:
    """Print what a job prints, until it ends."""
    printed = 0
    while True:
        status = client.get_job_status(name)
        logs = client.get_job_logs(name)
        sys.stdout.write(logs[printed:])
        sys.stdout.flush()
        printed = len(logs)
        if status.is_terminal():
            break
        time.sleep(_LOOK)
    print(f"{name}: {status.value.lower()}", file=sys.stderr)
    return 0 if status.value == "SUCCEEDED" else 1


def default_address() -> str:
    """Where Ray's dashboard is: RAY_API_SERVER_ADDRESS, RAY_DASHBOARD_ADDRESS, or this machine."""
    environment = os.environ
    return (
        environment.get("RAY_API_SERVER_ADDRESS")
        or environment.get("RAY_DASHBOARD_ADDRESS")
        or "http://127.0.0.1:8265"
    )

"""The file "checkpoint" of a folder, in TensorFlow's text form: which checkpoint is the last."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from graphflow.checkpoint import files
from graphflow.checkpoint.reader import exists

_LINE = re.compile(r'^(\w+):\s*"((?:[^"\\]|\\.)*)"\s*$')


@dataclass(slots=True)
class CheckpointState:
    """What the file says, with absolute paths.

    Attributes:
      model_checkpoint_path: the last checkpoint.
      all_model_checkpoint_paths: those that are kept, oldest first.
    """

    model_checkpoint_path: str = ""
    all_model_checkpoint_paths: list[str] = field(default_factory=list)


def get_state(folder: str, latest_filename: str | None = None) -> CheckpointState | None:
    """What the file of a folder says, or None where there is none."""
    try:
        with open(os.path.join(folder, latest_filename or "checkpoint"), encoding="utf-8") as file:
            lines = file.read().splitlines()
    except (FileNotFoundError, NotADirectoryError):
        return None
    state = CheckpointState()
    for line in lines:
        if (found := _LINE.match(line)) is None:
            continue
        path = os.path.join(folder, re.sub(r"\\(.)", r"\1", found[2]))
        if found[1] == "model_checkpoint_path":
            state.model_checkpoint_path = path
        elif found[1] == "all_model_checkpoint_paths":
            state.all_model_checkpoint_paths.append(path)
    return state if state.model_checkpoint_path else None


def update_state(
    folder: str, last: str, kept: Sequence[str] = (), latest_filename: str | None = None
) -> None:
    """Write the file; paths inside the folder are stored relative to it, so that it can move.

    Raises:
      OpError: the disk fails; the file is as it was.
    """
    every = list(dict.fromkeys([*kept, last]))
    lines = [f'model_checkpoint_path: "{_stored(folder, last)}"']
    lines += [f'all_model_checkpoint_paths: "{_stored(folder, path)}"' for path in every]
    path = os.path.join(folder, latest_filename or "checkpoint")
    files.write_file(path, ["\n".join([*lines, ""]).encode()])


def latest(folder: str, latest_filename: str | None = None) -> str | None:
    """The last checkpoint of a folder that is there, or None."""
    state = get_state(folder, latest_filename)
    if state is None:
        return None
    for path in [state.model_checkpoint_path, *reversed(state.all_model_checkpoint_paths)]:
        if exists(path):
            return path
    return None


def _stored(folder: str, path: str) -> str:
    absolute, base = os.path.abspath(path), os.path.abspath(folder)
    inside = os.path.commonpath([absolute, base]) == base
    chosen = os.path.relpath(absolute, base) if inside else absolute
    return chosen.replace("\\", "\\\\").replace('"', '\\"')

"""The durable format of checkpoints: written whole or not at all, and checked when read."""

from graphflow.checkpoint.reader import Reader, exists, read
from graphflow.checkpoint.state import CheckpointState, get_state, latest, update_state
from graphflow.checkpoint.writer import delete, write

__all__ = [
    "CheckpointState",
    "Reader",
    "delete",
    "exists",
    "get_state",
    "latest",
    "read",
    "update_state",
    "write",
]

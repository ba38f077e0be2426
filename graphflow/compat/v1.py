"""`tensorflow.compat.v1`: everything under its name at the top level."""

from __future__ import annotations

from typing import Any

import graphflow


def __getattr__(name: str) -> Any:
    return getattr(graphflow, name)


def __dir__() -> list[str]:
    return dir(graphflow)

"""What the environment asks for, read once per session into one frozen value."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

TIERS = ("auto", "reference", "native")


@dataclass(frozen=True, slots=True)
class Settings:
    """Settings of a session that no program states.

    Attributes:
      validate: check each rewrite pass numerically (GRAPHFLOW_VALIDATE=1).
      tier: which tier executes (GRAPHFLOW_TIER): "auto", "reference" or "native".
      learn: measure devices and steps where placing gains by it (GRAPHFLOW_LEARN=0: never).
    """

    validate: bool = False
    tier: str = "auto"
    learn: bool = True

    @staticmethod
    def from_environment(environment: Mapping[str, str] = os.environ) -> Settings:
        """Read the variables.

        Raises:
          ValueError: a variable has a value that means nothing.
        """
        tier = environment.get("GRAPHFLOW_TIER", "auto")
        if tier not in TIERS:
            raise ValueError(f"GRAPHFLOW_TIER={tier!r}: it must be one of {', '.join(TIERS)}")
        return Settings(
            _flag(environment, "GRAPHFLOW_VALIDATE", False),
            tier,
            _flag(environment, "GRAPHFLOW_LEARN", True),
        )


def _flag(environment: Mapping[str, str], name: str, default: bool) -> bool:
    given = environment.get(name, "")
    if given not in ("0", "1", ""):
        raise ValueError(f"{name}={given!r}: it must be 0 or 1")
    return given == "1" if given else default

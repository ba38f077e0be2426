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
    """

    validate: bool = False
    tier: str = "auto"

    @staticmethod
    def from_environment(environment: Mapping[str, str] = os.environ) -> Settings:
        """Read the variables.

        Raises:
          ValueError: a variable has a value that means nothing.
        """
        tier = environment.get("GRAPHFLOW_TIER", "auto")
        if tier not in TIERS:
            raise ValueError(f"GRAPHFLOW_TIER={tier!r}: it must be one of {', '.join(TIERS)}")
        flag = environment.get("GRAPHFLOW_VALIDATE", "0")
        if flag not in ("0", "1", ""):
            raise ValueError(f"GRAPHFLOW_VALIDATE={flag!r}: it must be 0 or 1")
        return Settings(validate=flag == "1", tier=tier)

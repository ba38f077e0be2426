"""Seconds and bytes in units that suit them."""

from __future__ import annotations


def seconds(value: float) -> str:
    """A time in a unit that suits it."""
    for unit, scale in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)):
        if value >= scale:
            return f"{value / scale:.3g} {unit}"
    return f"{value / 1e-9:z.0f} ns"  # what is less comes of rounding


def size(value: float) -> str:
    """Bytes in a unit that suits them."""
    if value == float("inf"):
        return "an unknown size"
    for unit, scale in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if value >= scale:
            return f"{value / scale:.3g} {unit}"
    return f"{value:.0f} B"

"""Conversions between text and bytes, as programs for Python 2 and 3 use them."""

from __future__ import annotations

from typing import Any


def as_text(bytes_or_text: Any, encoding: str = "utf-8") -> str:
    """Text.

    Raises:
      TypeError: it is neither text nor bytes.
    """
    if isinstance(bytes_or_text, str):
        return bytes_or_text
    if isinstance(bytes_or_text, bytes):
        return bytes_or_text.decode(encoding)
    raise TypeError(f"expected text or bytes, got {bytes_or_text!r}")


def as_bytes(bytes_or_text: Any, encoding: str = "utf-8") -> bytes:
    """Bytes.

    Raises:
      TypeError: it is neither text nor bytes.
    """
    if isinstance(bytes_or_text, bytes):
        return bytes_or_text
    if isinstance(bytes_or_text, str):
        return bytes_or_text.encode(encoding)
    raise TypeError(f"expected text or bytes, got {bytes_or_text!r}")


as_str = as_text


def as_str_any(value: Any) -> str:
    """Text of anything: bytes are decoded, the rest goes through `str`."""
    return as_text(value) if isinstance(value, bytes) else str(value)

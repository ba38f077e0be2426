"""Messages that are the same for many workers, or of many: encoded once, and decoded once.

A step without feeds is the same for all workers that have had as many messages before it, and so
are their votes where nothing is fetched from them.  With 32 workers it takes 2 us of the 18 that
the driver spends on each in a step of nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from graphflow.distribute.fast import codec
from graphflow.distribute.fast.values import Buffer
from graphflow.distribute.messages import Prepared, Step


class Encoder:
    """Encodes messages; a step that equals the last one, not again."""

    def __init__(self) -> None:
        self._last: tuple[Any, bytes] = (None, b"")

    def __call__(self, message: Any) -> tuple[bytes, list[Buffer]]:
        """See `codec.encode`."""
        if type(message) is not Step or not codec.bare(message):
            return codec.encode(message)
        last, head = self._last
        if message != last:
            head, _ = codec.encode(message)
            self._last = message, head
        return head, []


class Decoder:
    """Decodes messages; a vote that equals the last one, not again."""

    def __init__(self) -> None:
        self._last: tuple[bytes, Any] = (b"", None)

    def __call__(self, head: Buffer, arrays: Sequence[Buffer]) -> Any:
        """See `codec.decode`."""
        last, message = self._last
        if arrays or head != last:
            message = codec.decode(head, arrays)
            if type(message) is Prepared and codec.bare(message):
                self._last = bytes(head), message
        return message

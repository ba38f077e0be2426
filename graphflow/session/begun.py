"""Runs that have begun before their turn."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from graphflow.base.errors import CancelledError
from graphflow.session.fetches import Pack


class BegunRun:
    """A run of a session that has begun; a `steps.Begun`."""

    def __init__(
        self,
        begun: Any,
        pack: Pack,
        run: Callable[[], Any],
        timeout: float | None,
        explain: Callable[[Exception], None],
    ):
        """Args:
        begun: what the target has begun.
        pack: from its values to the user's structure.
        run: runs it from the start, where it has come to nothing.
        timeout: seconds for the result, or None.
        explain: adds the user's line to an error.
        """
        self.begun = begun
        self._pack = pack
        self._run = run
        self._timeout = timeout
        self._explain = explain

    @property
    def void(self) -> bool:
        return bool(self.begun.void)

    def result(self) -> Any:
        try:
            values = self.begun.result(self._timeout)
        except CancelledError as error:
            if self.void:
                return self._run()  # the workers have changed
            self._explain(error)
            raise
        except Exception as error:
            self._explain(error)
            raise
        return self._pack(values)

    def withdraw(self) -> None:
        self.begun.withdraw()

"""What is in force where an operation is built: names, devices, control dependencies."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from graphflow.base.devices import DeviceSpec, parse
from graphflow.base.errors import GraphError

if TYPE_CHECKING:
    from graphflow.build.tensor import Operation

_OP_NAME = re.compile(r"^[A-Za-z0-9.][A-Za-z0-9_.\-/]*$")
_SCOPE_NAME = re.compile(r"^[A-Za-z0-9_.\-/]*$")

DeviceEntry = str | Callable[["Operation"], Any] | None


class Scopes(threading.local):
    """The scopes in force in one graph, for each thread its own."""

    def __init__(self) -> None:
        self.prefix = ""  # "a/b/", or ""
        self.control: tuple[Operation, ...] = ()
        self.colocation: tuple[Operation, ...] = ()
        self.devices: list[DeviceEntry] = []
        self.device: str | None = ""  # None: a function has to be asked for each operation
        self.gradients: dict[str, str] = {}  # op type -> gradient in place of its own
        self.container = ""  # of the state that is built; that of a root counts for its bodies

    @contextmanager
    def put(self, **changes: Any) -> Iterator[None]:
        """Change attributes for the duration of a with statement."""
        before = {name: getattr(self, name) for name in changes}
        self.__dict__.update(changes)
        try:
            yield
        finally:
            self.__dict__.update(before)

    def with_device(self, entry: Any) -> dict[str, Any]:
        """The changes that entering a device scope makes.

        Raises:
          ValueError: a string names no device.
        """
        if entry is None:
            return {"devices": [], "device": ""}
        if callable(entry):
            return {"devices": [*self.devices, entry], "device": None}
        spec = parse(entry)
        devices = [*self.devices, str(spec)]
        known = None if self.device is None else str(parse(self.device).merged(spec))
        return {"devices": devices, "device": known}

    def ask_devices(self, operation: Operation) -> str:
        """The device of an operation where functions decide.

        Of names, the inner one wins, part by part; what a function returns replaces the whole
        of what was asked for inside, which it sees as the operation's device.
        """
        chosen = DeviceSpec()
        for entry in reversed(self.devices):
            if callable(entry):
                operation._device = str(chosen)
                chosen = parse(entry(operation) or "")
            elif entry is not None:
                chosen = parse(entry).merged(chosen)
        return str(chosen)


class Names:
    """The names taken in a graph.  As in TensorFlow, "Add" and "add" count as the same."""

    def __init__(self) -> None:
        self._taken: dict[str, int] = {}

    def unique(self, name: str, mark: bool = True) -> str:
        """`name`, or `name` with the first free suffix _1, _2, ..."""
        key = name.lower()
        taken = self._taken
        count = taken.get(key, 0)
        if not count:
            if mark:
                taken[key] = 1
            return name
        candidate = key
        while candidate in taken:
            candidate = f"{key}_{count}"
            count += 1
        if mark:
            taken[key] = count
            taken[candidate] = 1
        return f"{name}_{count - 1}"


def check_op_name(name: str) -> None:
    """Raises:
    ValueError: TensorFlow would not take it as a name.
    """
    if not _OP_NAME.match(name):
        raise GraphError(
            f"{name!r} is no name of an operation: it must begin with a letter, digit or '.' and "
            "go on with letters, digits, '_', '.', '-' and '/'"
        )


def check_scope_name(name: str, outermost: bool) -> None:
    """Raises:
    ValueError: TensorFlow would not take it as the name of a scope.
    """
    pattern = _OP_NAME if outermost else _SCOPE_NAME
    if not pattern.match(name):
        raise GraphError(f"{name!r} is no name of a scope")

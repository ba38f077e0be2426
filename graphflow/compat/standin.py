"""Stand in for the module `tensorflow`, so that programs run without a changed line."""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import importlib.util
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import Any

import graphflow
from graphflow.compat.legacy import INSTEAD

_ROOT = "tensorflow"
# module of TensorFlow -> attribute of graphflow; "" is graphflow itself
_MODULES = {
    "tensorflow": "",
    "tensorflow.compat": "compat",
    "tensorflow.compat.v1": "",
    "tensorflow.python": "",
    "tensorflow.python.framework": "",
    "tensorflow.python.ops": "",
    "tensorflow.python.platform": "",
    "tensorflow.python.training": "train",
}


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds `tensorflow` and its submodules in graphflow."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        root, *below = fullname.split(".")
        if root != _ROOT:
            return None
        if _find(fullname) is None:
            hint = f"; use {INSTEAD[below[0]]}" if below[0] in INSTEAD else ""
            raise ModuleNotFoundError(
                f"No module named {fullname!r}: graphflow stands for tensorflow here, and has "
                f"nothing of that name{hint}",
                name=fullname,
            )
        return importlib.util.spec_from_loader(fullname, self, is_package=True)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        found = _find(spec.name)
        module = ModuleType(spec.name, getattr(found, "__doc__", None))
        module.__getattr__ = lambda name: getattr(found, name)  # type: ignore[method-assign]
        module.__dir__ = lambda: dir(found)  # type: ignore[method-assign]
        module.__all__ = [n for n in dir(found) if not n.startswith("_")]  # type: ignore[attr-defined]
        return module

    def exec_module(self, module: ModuleType) -> None:
        module.__version__ = "1.15.0"  # type: ignore[attr-defined]


def _find(fullname: str) -> Any:
    """What of graphflow a module of TensorFlow stands for, or None."""
    base = fullname
    rest: list[str] = []
    while base not in _MODULES:
        base, _, last = base.rpartition(".")
        rest.insert(0, last)
    found: Any = graphflow
    for part in [*filter(None, _MODULES[base].split(".")), *rest]:
        found = getattr(found, part, None)
    return found


def install() -> None:
    """Make `import tensorflow` give graphflow in this process.

    Raises:
      ImportError: the real TensorFlow is loaded already.
    """
    if any(isinstance(finder, _Finder) for finder in sys.meta_path):
        return
    if _ROOT in sys.modules:
        raise ImportError("tensorflow is loaded already: install the stand-in before importing it")
    sys.meta_path.insert(0, _Finder())


def uninstall() -> None:
    """Take the stand-in away, and forget what was imported through it."""
    sys.meta_path[:] = [f for f in sys.meta_path if not isinstance(f, _Finder)]
    for name in [n for n in sys.modules if n.split(".")[0] == _ROOT]:
        del sys.modules[name]

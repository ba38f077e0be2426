"""A stand-in for CuPy: NumPy that notes each call and finds what CuPy would refuse."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from graphflow.base.dtypes import bfloat16

_OPERATORS = (
    "add radd iadd sub rsub isub mul rmul imul truediv rtruediv itruediv floordiv "
    "rfloordiv mod rmod pow rpow and rand or ror xor rxor lshift rshift rlshift "
    "rrshift neg pos abs invert lt le eq ne gt ge matmul rmatmul getitem setitem bool "
    "int float index divmod rdivmod ior iand ixor ilshift irshift imatmul "
)


class Finding(AssertionError):
    """Something that would fail, or differ, on a GPU."""


class DeviceArray(np.ndarray[Any, Any]):
    """An array that counts as one in a GPU's memory.

    NumPy's functions must reach it through the recorder only, and no host array may meet it.
    """

    recorder: Recorder

    def __array_ufunc__(self, ufunc: Any, method: str, *args: Any, **kwargs: Any) -> Any:
        self.recorder.enter(f"numpy.{ufunc.__name__}", args)
        bare = [_bare(x) for x in args]
        if "out" in kwargs:
            kwargs["out"] = tuple(_bare(x) for x in kwargs["out"])
        return self.recorder.device(getattr(ufunc, method)(*bare, **kwargs))

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        self.recorder.enter(f"numpy.{function.__name__}", args)
        result = function(*_deep(args), **{k: _deep(v) for k, v in kwargs.items()})
        return self.recorder.device(result)

    def __getattribute__(self, name: str) -> Any:
        value = super().__getattribute__(name)
        if name.startswith("_") or name == "recorder":
            return value
        recorder = super().__getattribute__("recorder")
        if callable(value):
            return recorder.wrap(f"ndarray.{name}", value)
        recorder.check(f"ndarray.{name}", (), None)
        return recorder.device(value)


def _through(name: str) -> Any:
    method = getattr(np.ndarray, f"__{name}__")

    def operator(self: DeviceArray, *args: Any) -> Any:
        with self.recorder.inside():
            self.recorder.meet(args)
            return self.recorder.device(method(_bare(self), *_deep(args)))

    return operator


for _name in _OPERATORS.split():
    if hasattr(np.ndarray, f"__{_name}__"):
        setattr(DeviceArray, f"__{_name}__", _through(_name))


class Recorder:
    """The `xp` that kernels get: a module like NumPy.

    Attributes:
      table: CuPy's names, as `record_cupy` writes them.
      used: the names that were called.
    """

    def __init__(self, table: Any, module: Any = np, prefix: str = "", parent: Any = None):
        self._module = module
        self._prefix = prefix
        self._root: Recorder = parent or self
        if parent is None:
            self.table = table
            self.used: set[str] = set()
            self._depth = 0
            self._kind = type("DeviceArray", (DeviceArray,), {"recorder": self})

    def __getattr__(self, name: str) -> Any:
        if name == "__name__":
            return "cupy"
        if name.startswith("__"):
            raise AttributeError(name)
        value = getattr(self._module, name)
        path = f"{self._prefix}{name}"
        if isinstance(value, type(np)):
            return Recorder(None, value, f"{path}.", self._root)
        root = self._root
        if path not in root.table["names"]:
            raise Finding(f"CuPy has no {path}")
        if isinstance(value, type) or not callable(value):
            return value
        return root.wrap(path, value)

    def special(self) -> Recorder:
        """What stands in for `cupyx.scipy.special`."""
        import scipy.special

        return Recorder(None, scipy.special, "special.", self._root)

    # ---- what calls and arrays go through

    def wrap(self, path: str, function: Callable[..., Any]) -> Any:
        return _Call(self, path, function)

    def inside(self) -> Any:
        return _Inside(self)

    def enter(self, what: str, args: Any) -> None:
        """NumPy was reached with a device array: from here, or behind the recorder's back?"""
        if not self._depth:
            raise Finding(f"{what} is called on a device array: use xp")

    def meet(self, args: Any) -> None:
        """No host array may meet a device array."""
        for x in _flat(args):
            if isinstance(x, np.ndarray) and not isinstance(x, DeviceArray):
                raise Finding(f"a NumPy array {x!r} meets a device array")

    def device(self, value: Any) -> Any:
        """A result: its arrays are device arrays."""
        if isinstance(value, (tuple, list)) and any(isinstance(x, np.ndarray) for x in value):
            parts = [self.device(x) for x in value]
            named = hasattr(value, "_fields")  # what linalg.qr gives
            return type(value)(*parts) if named else type(value)(parts)
        if isinstance(value, np.generic):  # CuPy gives arrays without dimensions
            value = np.asarray(value)
        if isinstance(value, np.ndarray) and not isinstance(value, DeviceArray):
            return value if value.dtype == object else value.view(self._kind)
        return value

    def check(self, path: str, args: tuple[Any, ...], kwargs: dict[str, Any] | None) -> None:
        """Raises:
        Finding: CuPy lacks the name or an argument.
        """
        self.used.add(path)
        kind, _, name = path.partition(".")
        if kind == "ndarray":
            if name not in self.table["ndarray"]:
                raise Finding(f"cupy.ndarray has no {name}")
            known: Any = {"arguments": self.table["ndarray"][name]}
        else:
            known = self.table["names"][path]
        if kwargs is None:
            return
        if "ufunc" in known:
            _check_ufunc(path, known, args, kwargs)
        elif known.get("arguments") is not None:
            _check_arguments(path, known["arguments"], args, kwargs)


class _Call:
    """A function of the recorder; a ufunc's methods are its attributes."""

    def __init__(self, recorder: Recorder, path: str, function: Callable[..., Any]):
        self.recorder = recorder
        self.path = path
        self.function = function

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        recorder = self.recorder
        recorder.check(self.path, args, kwargs)
        converts = self.path in ("asarray", "array", "ascontiguousarray")
        if not converts:
            recorder.meet(args)
        with recorder.inside():
            result = self.function(*_deep(args), **{k: _deep(v) for k, v in kwargs.items()})
        return recorder.device(result)

    def __getattr__(self, name: str) -> Any:
        known = self.recorder.table["names"].get(self.path, {})
        if name in ("at", "reduce", "accumulate", "reduceat"):
            if name not in known.get("methods", ()):
                raise Finding(f"CuPy's {self.path} has no {name}")
            return lambda *args, **kwargs: self._method(name, args, kwargs)
        return getattr(self.function, name)

    def _method(self, name: str, args: Any, kwargs: Any) -> Any:
        self.recorder.used.add(f"{self.path}.{name}")
        self.recorder.meet(args)
        with self.recorder.inside():
            result = getattr(self.function, name)(*_deep(args), **kwargs)
        return self.recorder.device(result)


class _Inside:
    def __init__(self, recorder: Recorder):
        self.recorder = recorder

    def __enter__(self) -> None:
        self.recorder._depth += 1

    def __exit__(self, *_: Any) -> None:
        self.recorder._depth -= 1


def _check_arguments(path: str, names: Any, args: Any, kwargs: Any) -> None:
    if "*" not in names and len(args) > len(names) and not path.startswith("ndarray."):
        raise Finding(f"CuPy's {path} takes {len(names)} positional arguments, not {len(args)}")
    unknown = [] if "**" in names else [k for k in kwargs if k not in names]
    if path == "einsum":
        unknown = [k for k in kwargs if k not in ("dtype", "optimize")]
    if unknown:
        raise Finding(f"CuPy's {path} has no argument {', '.join(unknown)}")


def _check_ufunc(path: str, known: Any, args: Any, kwargs: Any) -> None:
    unknown = [k for k in kwargs if k not in known["ufunc"]]
    if unknown:
        raise Finding(f"CuPy's {path} has no argument {', '.join(unknown)}")
    given = [x.dtype if isinstance(x, np.ndarray) else None for x in args[: known["nin"]]]
    for types in known["types"]:
        pairs = zip(given, types, strict=False)
        if all(d is None or np.can_cast(d, _dtype(t)) for d, t in pairs):
            return
    raise Finding(f"CuPy's {path} does not take dtypes {[str(d) for d in given]}")


def _dtype(character: str) -> Any:
    """NumPy has no character for bfloat16, which is CuPy's E."""
    return bfloat16.np if character == "E" else np.dtype(character)


def _bare(x: Any) -> Any:
    return np.ndarray.view(x, np.ndarray) if isinstance(x, DeviceArray) else x


def _deep(x: Any) -> Any:
    if isinstance(x, (tuple, list)):
        return type(x)(_deep(y) for y in x) if type(x) in (tuple, list) else x
    return _bare(x)


def _flat(x: Any) -> Any:
    if isinstance(x, (tuple, list)):
        for y in x:
            yield from _flat(y)
    else:
        yield x

"""Python's operators on tensors and variables: each is an op of the registry."""

from __future__ import annotations

from typing import Any

from graphflow.build.opdef import OPS


class Operators:
    """Arithmetic, comparison, logic and indexing, for whatever converts to a tensor."""

    __slots__ = ()
    __array_ufunc__ = None  # ndarray + tensor asks Tensor.__radd__
    __array_priority__ = 100

    def __add__(self, other: Any) -> Any:
        return _OPERATORS["add"](self, other)

    def __radd__(self, other: Any) -> Any:
        return _OPERATORS["add"](other, self)

    def __sub__(self, other: Any) -> Any:
        return _binary("Sub", "sub", self, other)

    def __rsub__(self, other: Any) -> Any:
        return _binary("Sub", "sub", other, self)

    def __mul__(self, other: Any) -> Any:
        return _binary("Mul", "mul", self, other)

    def __rmul__(self, other: Any) -> Any:
        return _binary("Mul", "mul", other, self)

    def __truediv__(self, other: Any) -> Any:
        return _OPERATORS["truediv"](self, other)

    def __rtruediv__(self, other: Any) -> Any:
        return _OPERATORS["truediv"](other, self)

    def __floordiv__(self, other: Any) -> Any:
        return _binary("FloorDiv", "floordiv", self, other)

    def __rfloordiv__(self, other: Any) -> Any:
        return _binary("FloorDiv", "floordiv", other, self)

    def __mod__(self, other: Any) -> Any:
        return _binary("FloorMod", "mod", self, other)

    def __rmod__(self, other: Any) -> Any:
        return _binary("FloorMod", "mod", other, self)

    def __pow__(self, other: Any) -> Any:
        return _binary("Pow", "pow", self, other)

    def __rpow__(self, other: Any) -> Any:
        return _binary("Pow", "pow", other, self)

    def __matmul__(self, other: Any) -> Any:
        return _OPERATORS["matmul"](self, other)

    def __rmatmul__(self, other: Any) -> Any:
        return _OPERATORS["matmul"](other, self)

    def __neg__(self) -> Any:
        return OPS["Neg"](self)

    def __abs__(self) -> Any:
        return OPS["Abs"](self)

    def __invert__(self) -> Any:
        return _OPERATORS["invert"](self)

    def __and__(self, other: Any) -> Any:
        return _OPERATORS["and"](self, other)

    def __rand__(self, other: Any) -> Any:
        return _OPERATORS["and"](other, self)

    def __or__(self, other: Any) -> Any:
        return _OPERATORS["or"](self, other)

    def __ror__(self, other: Any) -> Any:
        return _OPERATORS["or"](other, self)

    def __xor__(self, other: Any) -> Any:
        return _OPERATORS["xor"](self, other)

    def __rxor__(self, other: Any) -> Any:
        return _OPERATORS["xor"](other, self)

    def __lt__(self, other: Any) -> Any:
        return _binary("Less", None, self, other)

    def __le__(self, other: Any) -> Any:
        return _binary("LessEqual", None, self, other)

    def __gt__(self, other: Any) -> Any:
        return _binary("Greater", None, self, other)

    def __ge__(self, other: Any) -> Any:
        return _binary("GreaterEqual", None, self, other)

    def __getitem__(self, key: Any) -> Any:
        return _OPERATORS["getitem"](self, key)


# Operators that are more than one op are functions of `ops.operators`, which enters them here.
_OPERATORS: dict[str, Any] = {}


def define_operator(name: str, function: Any) -> None:
    """Enter the function behind an operator of `Tensor`."""
    _OPERATORS[name] = function


def _binary(kind: str, name: str | None, left: Any, right: Any) -> Any:
    return OPS[kind](left, right, name=name)

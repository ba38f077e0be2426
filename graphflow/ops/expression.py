"""The scalar expression of an elementwise op, traced from its kernel.

A kernel declared `elementwise=True` is called with a symbolic `xp` and symbolic scalars instead
of arrays; what it computes is a tree of `Node`s, from which the LLVM and CUDA generators make
loops.  So such a kernel may use only operators, Python numbers, `.astype`, `.dtype` and the
functions below, which bear NumPy's names (scipy.special's where NumPy has none).

- leaves: `arg` (value: its index) and `const` (value: a Python number, to be taken in `dtype`);
- `cast`: its argument in `dtype`;
- `where(condition, a, b)`;
- `UNARY` and `BINARY`: result and arguments share one dtype;
- `PREDICATES` of one argument and `COMPARISONS` of two: bool results; `LOGICAL`: bool throughout;
- `SPECIAL`: functions that NumPy lacks, of one dtype.

A Python number takes the dtype of what stands beside it, as in NumPy 2 (NEP 50).
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

import numpy as np

from graphflow.build.opdef import OpDef

UNARY: Final = frozenset(
    (
        "negative", "abs", "sign", "sqrt", "exp", "expm1", "log", "log1p", "floor", "ceil",
        "trunc", "rint", "invert", "conj", "sin", "cos", "tan", "arcsin", "arccos", "arctan",
        "sinh", "cosh", "tanh", "arcsinh", "arccosh", "arctanh",
    )
)  # fmt: skip
BINARY: Final = frozenset(
    (
        "add", "subtract", "multiply", "divide", "power", "maximum", "minimum", "arctan2",
        "fmod", "remainder", "bitwise_and", "bitwise_or", "bitwise_xor", "left_shift",
        "right_shift",
    )
)  # fmt: skip
PREDICATES: Final = frozenset({"isnan", "isinf", "isfinite"})
COMPARISONS: Final = frozenset(
    ("less", "less_equal", "greater", "greater_equal", "equal", "not_equal")
)
LOGICAL: Final = frozenset({"logical_and", "logical_or", "logical_not"})
SPECIAL: Final[Mapping[str, int]] = MappingProxyType(
    {
        "erf": 1, "erfc": 1, "erfinv": 1, "gammaln": 1, "digamma": 1,
        "gammainc": 2, "gammaincc": 2, "zeta": 2, "betainc": 3,
    }
)  # fmt: skip

_ARITY: Final[Mapping[str, int]] = MappingProxyType(
    {
        **dict.fromkeys(UNARY | PREDICATES | {"logical_not"}, 1),
        **dict.fromkeys(BINARY | COMPARISONS | {"logical_and", "logical_or"}, 2),
        **SPECIAL,
        "where": 3,
    }
)
_INFIX: Final[Mapping[str, str]] = MappingProxyType(
    {
        "add": "+", "subtract": "-", "multiply": "*", "divide": "/", "power": "**",
        "less": "<", "less_equal": "<=", "greater": ">", "greater_equal": ">=",
        "equal": "==", "not_equal": "!=", "bitwise_and": "&", "bitwise_or": "|",
        "bitwise_xor": "^", "left_shift": "<<", "right_shift": ">>",
    }
)  # fmt: skip
_BOOL: Final = np.dtype(bool)


class NotScalar(TypeError):
    """The kernel does more, for these dtypes, than an expression can say."""


@dataclass(frozen=True, slots=True)
class Node:
    """A node of an expression: an operation on scalars.  Nodes may be shared.

    Attributes:
      op: "arg", "const", "cast", or a function of the vocabulary.
      args: what it is applied to.
      dtype: of the result.
      value: the index of an argument, or the number of a constant.
    """

    op: str
    args: tuple[Node, ...]
    dtype: np.dtype[Any]
    value: Any = None

    __array_ufunc__ = None  # NumPy scalars leave operators to the node

    def astype(self, dtype: Any) -> Node:
        dtype = np.dtype(dtype)
        return self if dtype == self.dtype else Node("cast", (self,), dtype)

    def __add__(self, other: Any) -> Node:
        return apply("add", self, other)

    def __radd__(self, other: Any) -> Node:
        return apply("add", other, self)

    def __sub__(self, other: Any) -> Node:
        return apply("subtract", self, other)

    def __rsub__(self, other: Any) -> Node:
        return apply("subtract", other, self)

    def __mul__(self, other: Any) -> Node:
        return apply("multiply", self, other)

    def __rmul__(self, other: Any) -> Node:
        return apply("multiply", other, self)

    def __truediv__(self, other: Any) -> Node:
        return apply("divide", self, other)

    def __rtruediv__(self, other: Any) -> Node:
        return apply("divide", other, self)

    def __pow__(self, other: Any) -> Node:
        return apply("power", self, other)

    def __neg__(self) -> Node:
        return apply("negative", self)

    def __invert__(self) -> Node:
        return apply("invert", self)

    def __and__(self, other: Any) -> Node:
        return apply("bitwise_and", self, other)

    def __or__(self, other: Any) -> Node:
        return apply("bitwise_or", self, other)

    def __xor__(self, other: Any) -> Node:
        return apply("bitwise_xor", self, other)

    def __lshift__(self, other: Any) -> Node:
        return apply("left_shift", self, other)

    def __rshift__(self, other: Any) -> Node:
        return apply("right_shift", self, other)

    def __lt__(self, other: Any) -> Node:
        return apply("less", self, other)

    def __le__(self, other: Any) -> Node:
        return apply("less_equal", self, other)

    def __gt__(self, other: Any) -> Node:
        return apply("greater", self, other)

    def __ge__(self, other: Any) -> Node:
        return apply("greater_equal", self, other)

    def __bool__(self) -> bool:
        raise NotScalar("a kernel that branches on values is no expression: use xp.where")

    def __str__(self) -> str:
        return show(self)


def apply(op: str, *args: Any) -> Node:
    """The node of a function of the vocabulary on nodes and Python numbers.

    Raises:
      NotScalar: the function is not in the vocabulary, or the dtypes of the arguments differ.
    """
    if _ARITY.get(op) != len(args):
        raise NotScalar(f"xp.{op} of {len(args)} arguments is not in the vocabulary")
    if op == "where":
        condition, *branches = args
        if not isinstance(condition, Node) or condition.dtype != _BOOL:
            raise NotScalar("the condition of xp.where must be a bool expression")
        nodes = _promoted(op, branches)
        return Node(op, (condition, *nodes), nodes[0].dtype)
    nodes = _promoted(op, args)
    dtype = nodes[0].dtype
    if op == "divide" and dtype.kind in "iu":
        raise NotScalar("the quotient of integers has another dtype: cast first")
    if op in COMPARISONS or op in PREDICATES or op in LOGICAL:
        dtype = _BOOL
    elif op == "abs" and dtype.kind == "c":
        dtype = np.empty(0, dtype).real.dtype
    return Node(op, nodes, dtype)


def _promoted(op: str, args: Sequence[Any]) -> tuple[Node, ...]:
    found = {a.dtype for a in args if isinstance(a, Node)}
    if len(found) != 1:
        names = ", ".join(sorted(str(t) for t in found)) or "numbers alone"
        raise NotScalar(f"the arguments of {op} must have one dtype, not {names}")
    (dtype,) = found
    return tuple([a if isinstance(a, Node) else _constant(a, dtype) for a in args])


def _constant(value: Any, dtype: np.dtype[Any]) -> Node:
    if not isinstance(value, (bool, int, float, complex)):
        raise NotScalar(f"{value!r} is no Python number")
    if isinstance(value, float) and dtype.kind in "iub":
        raise NotScalar(f"{value!r} beside {dtype} would change the dtype")
    return Node("const", (), dtype, value)


class _Symbolic:
    """The `xp` of a trace; also what `special` gives for it."""

    __name__ = "graphflow.symbolic"

    def __getattr__(self, name: str) -> Any:
        if name not in _ARITY:
            raise NotScalar(f"xp.{name} is not in the vocabulary of elementwise kernels")
        return lambda *args: apply(name, *args)


SYMBOLIC: Final = _Symbolic()
_SPECIAL_MODULES = {"numpy": "scipy.special", "cupy": "cupyx.scipy.special"}


def special(xp: Any) -> Any:
    """The module of special functions that goes with `xp`, imported when it is first needed."""
    if xp is SYMBOLIC:
        return SYMBOLIC
    return importlib.import_module(_SPECIAL_MODULES[xp.__name__])


def scalar_expression(entry: OpDef, dtypes: Sequence[Any], **attrs: Any) -> Node | None:
    """What an elementwise op computes for one element, or None.

    None: the op is not elementwise, or for these dtypes its kernel does more than an expression
    can say (it checks integers for division by zero).

    Args:
      entry: the op.
      dtypes: NumPy dtypes (or `DType`s) of its inputs.
      attrs: its attributes.
    """
    if not entry.elementwise or entry.kernel is None:
        return None
    inputs = [
        Node("arg", (), np.dtype(getattr(dtype, "np", dtype)), i) for i, dtype in enumerate(dtypes)
    ]
    try:
        result = entry.kernel(SYMBOLIC, *inputs, **attrs)
    except NotScalar:
        return None
    return result if isinstance(result, Node) else None


def subexpressions(*roots: Node) -> Iterator[Node]:
    """Each node of expressions once: of nodes that are shared, paths to them may be many."""
    seen: set[int] = set()
    stack = list(roots)
    while stack:
        node = stack.pop()
        if id(node) not in seen:
            seen.add(id(node))
            stack += node.args
            yield node


def compute(node: Node, inputs: Sequence[Any], xp: Any = np) -> Any:
    """The expression applied to arrays, one call per node: what generated code must equal."""
    return _compute(node, inputs, xp, {})


def _compute(node: Node, inputs: Sequence[Any], xp: Any, done: dict[int, Any]) -> Any:
    if id(node) in done:
        return done[id(node)]
    if node.op == "arg":
        value = inputs[node.value]
    elif node.op == "const":
        value = xp.asarray(node.value).astype(node.dtype)
    else:
        args = [_compute(a, inputs, xp, done) for a in node.args]
        if node.op == "cast":
            value = args[0].astype(node.dtype)
        else:
            value = getattr(special(xp) if node.op in SPECIAL else xp, node.op)(*args)
    done[id(node)] = value
    return value


def show(node: Node, names: Sequence[str] = ()) -> str:
    """The expression as text, such as "where(x0 > 0, x0, x0 * 0.2)"."""
    if node.op == "arg":
        return names[node.value] if names else f"x{node.value}"
    if node.op == "const":
        return repr(node.value)
    if node.op == "cast":
        return f"{node.dtype.name}({show(node.args[0], names)})"
    if node.op == "negative":
        return f"-{_operand(node.args[0], names)}"
    if node.op in _INFIX:
        left, right = [_operand(a, names) for a in node.args]
        return f"{left} {_INFIX[node.op]} {right}"
    return f"{node.op}({', '.join(show(a, names) for a in node.args)})"


def _operand(node: Node, names: Sequence[str]) -> str:
    text = show(node, names)
    return f"({text})" if node.op in _INFIX or node.op == "negative" else text

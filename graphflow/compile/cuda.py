"""CUDA C++ of scalar expressions: one kernel per expression, specialised to the shapes.

The source is plain text.  NVRTC compiles it on a machine with a GPU; the tests compile the same
text with g++ and a shim, and compare with NumPy.  Broadcasting is a stride of 0; indices are 32
bits.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from graphflow.ops.expression import Node

TYPES: Final[Mapping[str, str]] = {
    "float32": "float", "float64": "double", "int8": "signed char", "int16": "short",
    "int32": "int", "int64": "long long", "uint8": "unsigned char", "uint16": "unsigned short",
    "uint32": "unsigned int", "uint64": "unsigned long long", "bool": "bool",
}  # fmt: skip
MOST_ELEMENTS: Final = 2**31 - 1
_FUNCTIONS: Final[Mapping[str, str]] = {  # of floats; C appends an f for float
    **{name: name for name in ("sqrt", "exp", "expm1", "log", "log1p", "floor", "ceil", "trunc")},
    **{name: name for name in ("rint", "sin", "cos", "tan", "sinh", "cosh", "tanh", "fmod")},
    **{name: name for name in ("erf", "erfc")},
    "abs": "fabs", "arcsin": "asin", "arccos": "acos", "arctan": "atan", "arcsinh": "asinh",
    "arccosh": "acosh", "arctanh": "atanh", "arctan2": "atan2", "power": "pow",
    "gammaln": "lgamma",
}  # fmt: skip
_INFIX: Final[Mapping[str, str]] = {
    "add": "+", "subtract": "-", "multiply": "*", "less": "<", "less_equal": "<=",
    "greater": ">", "greater_equal": ">=", "equal": "==", "not_equal": "!=", "bitwise_and": "&",
    "bitwise_or": "|", "bitwise_xor": "^", "logical_and": "&&", "logical_or": "||",
}  # fmt: skip


class NoSource(ValueError):
    """CUDA C++ cannot say this expression as NumPy means it: the CuPy kernel runs instead."""


def elementwise(name: str, root: Node, shapes: Sequence[tuple[int, ...]]) -> str:
    """Source of a kernel `name`(inputs..., out): the expression at each element.

    Args:
      name: what to call the kernel.
      root: the expression; its arguments are the inputs by number.
      shapes: of the inputs, which are contiguous and broadcast to the result's.

    Raises:
      NoSource: a dtype or a function has no equal in CUDA C++, or an index needs 64 bits.
    """
    full = np.broadcast_shapes(*shapes)
    if math.prod(full) > MOST_ELEMENTS:
        raise NoSource(f"{math.prod(full)} elements need 64-bit indices")
    emitter = Emitter()
    result = emitter.emit(root)
    dimensions = collapse(full, [_strides(shape, full) for shape in shapes])
    lines, offsets = _indices(dimensions, len(shapes))
    loads = [
        f"const {type_name(dtype)} x{i} = in{i}[{offsets[i]}];"
        for i, dtype in sorted(emitter.arguments.items())
    ]
    parameters = [
        f"const {type_name(emitter.arguments.get(i, np.dtype('u1')))}* __restrict__ in{i}"
        for i in range(len(shapes))
    ]
    parameters.append(f"{type_name(root.dtype)}* __restrict__ out")
    body = "\n".join(f"    {x}" for x in [*lines, *loads, *emitter.lines, f"out[i] = {result};"])
    return f"""extern "C" __global__ void {name}({", ".join(parameters)}) {{
  const unsigned threads = gridDim.x * blockDim.x;
  for (unsigned i = blockIdx.x * blockDim.x + threadIdx.x; i < {math.prod(full)}u; i += threads) {{
{body}
  }}
}}
"""


class Emitter:
    """Collects one line per node; shared nodes are computed once.

    Attributes:
      lines: of C++.
      arguments: the dtypes of the inputs that are read.
    """

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.arguments: dict[int, np.dtype[Any]] = {}
        self._names: dict[int, str] = {}

    def emit(self, node: Node) -> str:
        """What stands for the node's value."""
        if node.op == "arg":
            self.arguments[node.value] = node.dtype
            return f"x{node.value}"
        if node.op == "const":
            return literal(node)
        if id(node) not in self._names:
            formula = self.formula(node)
            name = self._names[id(node)] = f"t{len(self.lines)}"
            self.lines.append(f"const {type_name(node.dtype)} {name} = {formula};")
        return self._names[id(node)]

    def formula(self, node: Node) -> str:
        """The function at the root, on what stands for its arguments."""
        return _formula(node, [self.emit(a) for a in node.args])


def type_name(dtype: np.dtype[Any]) -> str:
    """The type's name.

    Raises:
      NoSource: it has none.
    """
    try:
        return TYPES[dtype.name]
    except KeyError:
        raise NoSource(f"there is no CUDA C++ for {dtype}") from None


def literal(node: Node) -> str:
    """A constant."""
    kind = type_name(node.dtype)
    if node.dtype.kind != "f":
        return f"({kind}){int(node.value)}"
    value = float(node.dtype.type(node.value))
    if math.isfinite(value):
        return f"({kind}){value!r}"
    # NVRTC knows no INFINITY and no NAN without headers.
    return f"({kind})({'0.0' if math.isnan(value) else math.copysign(1.0, value)} / 0.0)"


def _formula(node: Node, args: list[str]) -> str:
    op, kind, of = node.op, type_name(node.dtype), node.args[0].dtype
    a, b = args[0], args[-1]
    if op in _INFIX:
        return f"({kind})({a} {_INFIX[op]} {b})"  # narrow integers wrap as in NumPy
    if op == "cast":
        if of.kind == "f" and node.dtype.kind in "iu":
            raise NoSource("numbers that do not fit into an integer differ")
        return f"{a} != 0" if node.dtype.kind == "b" else f"({kind}){a}"
    if op == "where":
        return f"{args[0]} ? {args[1]} : {args[2]}"
    if op in ("maximum", "minimum"):
        sign = ">" if op == "maximum" else "<"
        return f"{a} {sign} {b} || {a} != {a} ? {a} : {b}"  # NaN where either is
    if op == "negative":
        return f"({kind})(-{a})"
    if op == "remainder" and of.kind == "u" and node.args[1].op == "const":
        return f"{a} % {b}"  # by a positive number, as it is traced
    if op == "right_shift" and of.kind == "u" and node.args[1].op == "const":
        return f"{a} >> {int(node.args[1].value)}"  # by less than the width, as it is traced
    if op in ("logical_not", "invert"):
        return f"!{a}" if of.kind == "b" else f"({kind})(~{a})"
    if op == "sign":
        return f"({kind})({a} > 0 ? 1 : {a} < 0 ? -1 : {a} == 0 ? 0 : {a})"
    if of.kind == "f":
        return _float_formula(op, args, of)
    if op == "abs":
        return a if of.kind == "u" else f"({kind})({a} < 0 ? -{a} : {a})"
    raise NoSource(f"there is no CUDA C++ for {op} of {of}")


def _float_formula(op: str, args: list[str], dtype: np.dtype[Any]) -> str:
    if op == "divide":
        return f"{args[0]} / {args[1]}"
    if op in ("isnan", "isinf", "isfinite"):
        a = args[0]
        difference = f"({a} - {a})"  # 0 where finite, else NaN
        return {
            "isnan": f"{a} != {a}",
            "isinf": f"{a} == {a} && {difference} != 0",
            "isfinite": f"{difference} == 0",
        }[op]
    if op not in _FUNCTIONS:
        raise NoSource(f"there is no CUDA C++ for {op} of {dtype}")
    return f"{_FUNCTIONS[op]}{'f' if dtype == np.float32 else ''}({', '.join(args)})"


# ---- indices


def _strides(shape: Sequence[int], full: Sequence[int]) -> list[int]:
    """Strides in elements of a contiguous array seen as the whole shape."""
    strides, step = [], 1
    for size in reversed(shape):
        strides.append(0 if size == 1 else step)
        step *= size
    return [0] * (len(full) - len(shape)) + strides[::-1]


def collapse(
    shape: Sequence[int], operands: Sequence[Sequence[int]]
) -> list[tuple[int, tuple[int, ...]]]:
    """(size, stride of each operand) per dimension, outermost first, where dimensions that are
    contiguous for every operand are merged and those of size 1 left out."""
    merged: list[tuple[int, tuple[int, ...]]] = []
    for axis, size in enumerate(shape):
        strides = tuple([s[axis] for s in operands])
        if size == 1:
            continue
        pairs = zip(merged[-1][1], strides, strict=True) if merged else ()
        if merged and all(outer == inner * size for outer, inner in pairs):
            merged[-1] = (merged[-1][0] * size, strides)
        else:
            merged.append((size, strides))
    return merged


def _indices(
    dimensions: Sequence[tuple[int, tuple[int, ...]]], count: int
) -> tuple[list[str], list[str]]:
    """Lines that split i into one index per dimension, and the offset in each operand."""
    lines, terms = ["unsigned rest = i;"], [[] for _ in range(count)]  # type: ignore[var-annotated]
    for axis in range(len(dimensions) - 1, -1, -1):
        size, strides = dimensions[axis]
        lines.append(f"const unsigned i{axis} = {f'rest % {size}u' if axis else 'rest'};")
        if axis:
            lines.append(f"rest /= {size}u;")
        for operand, stride in enumerate(strides):
            if stride:
                terms[operand].append(f"i{axis} * {stride}u")
    return lines, [" + ".join(t) or "0" for t in terms]

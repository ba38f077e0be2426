"""LLVM IR of scalar expressions."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from graphflow.compile.native.functions import FUNCTIONS
from graphflow.ops.expression import Node

TYPES: Mapping[str, str] = {
    "float32": "float", "float64": "double", "int8": "i8", "int16": "i16", "int32": "i32",
    "int64": "i64", "uint8": "i8", "uint64": "i64", "bool": "i1",
}  # fmt: skip
_FLOAT_BINARY = {"add": "fadd", "subtract": "fsub", "multiply": "fmul", "divide": "fdiv"}
_INT_BINARY = {"add": "add", "subtract": "sub", "multiply": "mul", "bitwise_and": "and",
               "bitwise_or": "or", "bitwise_xor": "xor"}  # fmt: skip
_COMPARED = {"less": "lt", "less_equal": "le", "greater": "gt", "greater_equal": "ge",
             "equal": "eq", "not_equal": "ne"}  # fmt: skip
_ROUNDING = {"floor": "floor", "ceil": "ceil", "trunc": "trunc", "rint": "roundeven"}
_LEAVES = frozenset({"arg", "const", "row", "pick", "gather"})


class Name(NamedTuple):
    """An SSA value."""

    text: str
    type: str


def storage(dtype: np.dtype[Any]) -> str:
    """The type in memory: bool takes a byte."""
    return "i8" if dtype.name == "bool" else TYPES[dtype.name]


def can_emit(node: Node) -> bool:
    """Is there code for all of the expression?"""
    seen: set[int] = set()
    stack = [node]
    while stack:
        current = stack.pop()
        if id(current) not in seen:
            seen.add(id(current))
            if not _known(current):
                return False
            stack += current.args
    return True


def _known(node: Node) -> bool:
    if node.dtype.name not in TYPES:
        return False
    if node.op in _LEAVES or node.op == "where":
        return True
    kind = node.args[0].dtype.kind
    if node.op == "cast":
        return node.args[0].dtype.name in TYPES and not (kind == "f" and node.dtype.kind in "iu")
    if _is_square(node):
        return True
    if node.op in FUNCTIONS:
        return node.dtype.name == "float32"
    if node.op in _COMPARED:
        return True
    if kind == "f":
        return node.op in _FLOAT_BINARY or node.op in _ROUNDING or node.op in {
            "negative", "abs", "sqrt", "sign", "maximum", "minimum", "isnan", "isinf", "isfinite",
        }  # fmt: skip
    if kind == "b":
        return node.op in {"logical_and", "logical_or", "logical_not", "bitwise_and", "bitwise_or",
                           "bitwise_xor", "invert"}  # fmt: skip
    if node.op == "remainder":  # NumPy's of signed numbers, and by 0, is another one
        return kind == "u" and node.args[1].op == "const" and node.args[1].value > 0
    if node.op == "right_shift":  # by what is known: beyond the width, shifts differ
        count = node.args[1]
        return kind == "u" and count.op == "const" and count.value < 8 * node.dtype.itemsize
    return node.op in _INT_BINARY or node.op in {"negative", "maximum", "minimum", "abs"}


def _is_square(node: Node) -> bool:
    if node.op != "power" or node.dtype.kind != "f":
        return False
    exponent = node.args[1]
    return exponent.op == "const" and exponent.value == 2


def _one_rule_of_zeros(node: Node) -> bool:
    """Does LLVM's extreme, by which 0.0 is larger than -0.0, agree with the second of equal ones?

    It does beside a constant that is not 0, and where a constant is the zero that it prefers and
    comes second, or the other one and comes first.  A loop that clips is up to three times as fast
    with it; of two variables both take as long.
    """
    for place, bound in enumerate(node.args):
        if bound.op == "const":
            preferred = np.signbit(bound.value) == (node.op == "minimum")
            return bool(bound.value != 0 or preferred == (place == 1))
    return False


def literal(value: Any, kind: str) -> str:
    """A constant in IR; floats as the hexadecimal bits of a double."""
    if kind == "i1":
        return "true" if value else "false"
    if kind.startswith("i"):
        return str(int(value))
    if kind == "float":
        value = float(np.float32(value))
    return f"0x{struct.unpack('<Q', struct.pack('<d', value))[0]:016X}"


class Emitter:
    """Appends instructions; each method returns the name of its result.

    Arguments are names or Python numbers.  No flag assumes that there are no NaNs.
    """

    def __init__(self, contracts: bool = True) -> None:
        """Args:
        contracts: a * b + c of float32 may become one instruction, which rounds once.
        """
        self._flags = "contract " if contracts else ""
        self.lines: list[str] = []
        self.declared: set[str] = set()
        self._count = 0

    def fresh(self, prefix: str = "t") -> str:
        self._count += 1
        return f"%{prefix}{self._count}"

    def emit(self, kind: str, text: str) -> Name:
        name = self.fresh()
        self.lines.append(f"  {name} = {text}")
        return Name(name, kind)

    def label(self, name: str) -> None:
        self.lines.append(f"{name}:")

    def line(self, text: str) -> None:
        self.lines.append(f"  {text}")

    def text(self, value: Any, kind: str) -> str:
        return value.text if isinstance(value, Name) else literal(value, kind)

    def call(self, name: str, kind: str, *args: Any, flags: str = "") -> Name:
        suffix = {"float": "f32", "double": "f64"}.get(kind, kind)
        kinds = ", ".join([kind] * len(args))
        self.declared.add(f"declare {kind} @llvm.{name}.{suffix}({kinds})")
        values = ", ".join(f"{kind} {self.text(a, kind)}" for a in args)
        return self.emit(kind, f"call {flags}{kind} @llvm.{name}.{suffix}({values})")

    def binary(self, op: str, a: Any, b: Any, kind: str, flags: str = "") -> Name:
        return self.emit(kind, f"{op} {flags}{kind} {self.text(a, kind)}, {self.text(b, kind)}")

    # ---- float32, for functions

    def add(self, a: Any, b: Any) -> Name:
        return self.binary("fadd", a, b, "float")

    def subtract(self, a: Any, b: Any) -> Name:
        return self.binary("fsub", a, b, "float")

    def multiply(self, a: Any, b: Any) -> Name:
        return self.binary("fmul", a, b, "float")

    def divide(self, a: Any, b: Any) -> Name:
        return self.binary("fdiv", a, b, "float")

    def fma(self, a: Any, b: Any, c: Any) -> Name:
        return self.call("fma", "float", a, b, c)

    def negative(self, a: Any) -> Name:
        return self.emit("float", f"fneg float {self.text(a, 'float')}")

    def absolute(self, a: Any) -> Name:
        return self.call("fabs", "float", a)

    def copysign(self, a: Any, b: Any) -> Name:
        return self.call("copysign", "float", a, b)

    def polynomial(self, x: Any, coefficients: tuple[float, ...]) -> Any:
        """Horner's rule, highest power first."""
        result: Any = coefficients[0]
        for c in coefficients[1:]:
            result = self.fma(result, x, c)
        return result

    def less(self, a: Any, b: Any) -> Name:
        return self.emit("i1", f"fcmp olt float {self.text(a, 'float')}, {self.text(b, 'float')}")

    def equal(self, a: Any, b: Any) -> Name:
        return self.emit("i1", f"fcmp oeq float {self.text(a, 'float')}, {self.text(b, 'float')}")

    def differs(self, a: Any, b: Any) -> Name:
        return self.emit("i1", f"fcmp une float {self.text(a, 'float')}, {self.text(b, 'float')}")

    def both(self, a: Name, b: Name) -> Name:
        return self.binary("and", a, b, "i1")

    def select(self, condition: Name, a: Any, b: Any, kind: str = "float") -> Name:
        return self.emit(
            kind,
            f"select i1 {condition.text}, {kind} {self.text(a, kind)}, {kind} {self.text(b, kind)}",
        )

    def clamped(self, x: Any, low: float, high: float) -> Name:
        """Within low and high; NaN stays."""
        x = self.select(self.less(x, low), low, x)
        return self.select(self.less(high, x), high, x)

    def bits(self, a: Any) -> Name:
        return self.emit("i32", f"bitcast float {self.text(a, 'float')} to i32")

    def float_of(self, a: Name) -> Name:
        return self.emit("float", f"bitcast i32 {a.text} to float")

    def from_integer(self, a: Name) -> Name:
        return self.emit("float", f"sitofp i32 {a.text} to float")

    def integer(self, op: str, a: Any, b: Any) -> Name:
        return self.binary(op, a, b, "i32")

    def is_set(self, a: Name) -> Name:
        return self.emit("i1", f"icmp ne i32 {a.text}, 0")

    def widened(self, a: Any) -> Name:
        return self.emit("double", f"fpext float {self.text(a, 'float')} to double")

    def narrowed(self, a: Name) -> Name:
        return self.emit("float", f"fptrunc double {a.text} to float")

    def wide(self, op: str, a: Any, b: Any) -> Name:
        return self.binary(op, a, b, "double")

    def wide_fma(self, a: Any, b: Any, c: Any) -> Name:
        return self.call("fma", "double", a, b, c)

    def wide_round(self, a: Any) -> Name:
        return self.call("roundeven", "double", a)

    def wide_to_integer(self, a: Name) -> Name:
        """The low 32 bits of an integral double below 2^51, by the bits of its sum with 2^52."""
        shifted = self.wide("fadd", a, 6755399441055744.0)
        wide = self.emit("i64", f"bitcast double {shifted.text} to i64")
        return self.emit("i32", f"trunc i64 {wide.text} to i32")

    # ---- expressions

    def expression(self, node: Node, leaf: Callable[[Node], Name], done: dict[int, Name]) -> Name:
        """Code of an expression.

        Args:
          leaf: the value of a leaf that is no constant.
          done: what is computed already, by identity of the node; it is added to.
        """
        found = done.get(id(node))
        if found is None:
            if node.op == "const":
                kind = TYPES[node.dtype.name]
                found = Name(literal(node.value, kind), kind)
            elif node.op in _LEAVES:
                found = leaf(node)
            else:
                args = [self.expression(a, leaf, done) for a in node.args]
                found = self.apply(node, args)
            done[id(node)] = found
        return found

    def apply(self, node: Node, args: list[Name]) -> Name:
        op = node.op
        dtype = node.args[0].dtype
        kind = TYPES[dtype.name]
        if op == "where":
            return self.select(args[0], args[1], args[2], TYPES[node.dtype.name])
        if op == "cast":
            return self.cast(args[0], dtype, node.dtype)
        if op in _COMPARED:
            return self._compare(op, args, dtype, kind)
        if _is_square(node):
            return self.binary("fmul", args[0], args[0], kind)
        if op in FUNCTIONS:
            result: Name = FUNCTIONS[op](self, *args)
            return result
        if op in ("maximum", "minimum") and dtype.kind == "f":
            return self._extreme(node, args[0], args[1], kind)
        if dtype.kind == "f":
            return self._float(op, args, kind)
        if op in _INT_BINARY:
            return self.binary(_INT_BINARY[op], args[0], args[1], kind)
        if op in ("logical_and", "logical_or"):
            return self.binary(op[8:], args[0], args[1], kind)
        if op in ("logical_not", "invert"):
            return self.binary("xor", args[0], 1, kind)
        if op == "negative":
            return self.binary("sub", 0, args[0], kind)
        if op == "remainder":
            return self.binary("urem", args[0], args[1], kind)
        if op == "right_shift":
            return self.binary("lshr", args[0], args[1], kind)
        if op == "abs":
            zero = self.binary("sub", 0, args[0], kind)
            return self.call("smax", kind, args[0], zero) if dtype.kind == "i" else args[0]
        sign = "s" if dtype.kind == "i" else "u"
        return self.call(sign + op[:3], kind, *args)

    def _float(self, op: str, args: list[Name], kind: str) -> Name:
        if op in _FLOAT_BINARY:
            # float64 keeps the bits of the reference tier: nobody uses it for speed
            flags = self._flags if kind == "float" else ""
            return self.binary(_FLOAT_BINARY[op], args[0], args[1], kind, flags)
        if op == "negative":
            return self.emit(kind, f"fneg {kind} {args[0].text}")
        if op == "sqrt":
            return self.call(op, kind, *args)
        if op == "abs":
            return self.call("fabs", kind, args[0])
        if op in _ROUNDING:
            return self.call(_ROUNDING[op], kind, args[0])
        if op == "sign":
            one = self.call("copysign", kind, 1.0, args[0])
            ordered = self.emit("i1", f"fcmp one {kind} {args[0].text}, {literal(0.0, kind)}")
            size = self.call("fabs", kind, args[0])  # 0.0 of both zeros, and NaN
            return self.select(ordered, one, size, kind)
        if op == "isnan":
            return self.emit("i1", f"fcmp uno {kind} {args[0].text}, {args[0].text}")
        size = self.call("fabs", kind, args[0])
        test = "oeq" if op == "isinf" else "one"
        return self.emit("i1", f"fcmp {test} {kind} {size.text}, {literal(float('inf'), kind)}")

    def _extreme(self, node: Node, a: Name, b: Name, kind: str) -> Name:
        """NaN where either is, and the second of equal ones, as NumPy takes it, and CUDA C++."""
        if _one_rule_of_zeros(node):
            return self.call(node.op, kind, a, b)
        test = "ogt" if node.op == "maximum" else "olt"
        first = self.emit("i1", f"fcmp {test} {kind} {a.text}, {b.text}")
        nan = self.emit("i1", f"fcmp uno {kind} {a.text}, {a.text}")
        return self.select(self.binary("or", first, nan, "i1"), a, b, kind)

    def _compare(self, op: str, args: list[Name], dtype: Any, kind: str) -> Name:
        test = _COMPARED[op]
        if dtype.kind == "f":
            test = ("u" if op == "not_equal" else "o") + test
            return self.emit("i1", f"fcmp {test} {kind} {args[0].text}, {args[1].text}")
        if test not in ("eq", "ne"):
            test = ("s" if dtype.kind == "i" else "u") + test
        return self.emit("i1", f"icmp {test} {kind} {args[0].text}, {args[1].text}")

    def cast(self, value: Name, old: Any, new: Any) -> Name:
        source, target = TYPES[old.name], TYPES[new.name]
        if source == target:
            return value
        if new.kind == "b":
            if old.kind == "f":
                zero = literal(0.0, source)
                return self.emit("i1", f"fcmp une {source} {value.text}, {zero}")
            return self.emit("i1", f"icmp ne {source} {value.text}, 0")
        if old.kind == "f":
            op = "fpext" if target == "double" else "fptrunc"
        elif new.kind == "f":
            op = "sitofp" if old.kind == "i" else "uitofp"
        elif int(target[1:]) < int(source[1:]):
            op = "trunc"
        else:
            op = "sext" if old.kind == "i" else "zext"
        return self.emit(target, f"{op} {source} {value.text} to {target}")

"""What one op is: a single entry with shape rule, gradient, kernel, cost and declarations.

    @op("Tanh", infer=same, grad=lambda g, y, x: g * (1 - y * y), elementwise=True)
    def tanh(xp: Any, x: Float) -> Array:
        \"\"\"Hyperbolic tangent of x, elementwise.\"\"\"
        return xp.tanh(x)

The function below the decorator is the kernel; `xp` is numpy or cupy.  Positional parameters are
arrays, keyword-only ones attributes; `infer`, `grad` and `kernel` share that tail.  A parameter's
annotation names its dtype rule (see `RULES`).  A kernel whose second parameter is `ctx` gets the
run's context: variables, queues, random counters.  Calling the entry adds an operation.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final, Literal, NamedTuple, TypeAlias

from graphflow.base import dtypes
from graphflow.base.dtypes import DType
from graphflow.base.shapes import Dims

Array: TypeAlias = Any
Effect = Literal["none", "state", "input", "output"]
Specs = list[tuple[Dims, DType]]

# Annotations of kernel parameters.  To mypy they are arrays; to the registry they are rules.
T: TypeAlias = Any
Num: TypeAlias = Any
NumOrBool: TypeAlias = Any
Real: TypeAlias = Any
RealOrBool: TypeAlias = Any
Float: TypeAlias = Any
RealFloat: TypeAlias = Any
Integer: TypeAlias = Any
U: TypeAlias = Any
Each: TypeAlias = Any
Index: TypeAlias = Any
Bool: TypeAlias = Any
String: TypeAlias = Any
Handle: TypeAlias = Any


class Rule(NamedTuple):
    """Dtype rule of a parameter: inputs of one group share their dtype."""

    group: str | None
    allows: Callable[[DType], bool]
    wants: str  # for messages
    default: DType | None = None  # of Python values, where the usual one would not do


RULES: Final[Mapping[str, Rule]] = MappingProxyType(
    {
        "T": Rule("T", lambda t: t is not dtypes.resource, "a value's dtype"),
        "Num": Rule("T", lambda t: t.is_numeric, "a numeric dtype"),
        "NumOrBool": Rule("T", lambda t: t.is_numeric or t.is_bool, "a numeric dtype or bool"),
        "RealOrBool": Rule(
            "T", lambda t: t.is_floating or t.is_integer or t.is_bool, "a real dtype or bool"
        ),
        "Real": Rule("T", lambda t: t.is_floating or t.is_integer, "a real dtype"),
        "Float": Rule("T", lambda t: t.is_floating or t.is_complex, "a floating or complex dtype"),
        "RealFloat": Rule("T", lambda t: t.is_floating, "a floating dtype"),
        "Integer": Rule("T", lambda t: t.is_integer, "an integer dtype"),
        "U": Rule("U", lambda t: t is not dtypes.resource, "a value's dtype"),
        "Each": Rule(None, lambda t: True, "any dtype"),
        "Index": Rule(None, lambda t: t.is_integer, "an integer dtype", dtypes.int32),
        "Bool": Rule(None, lambda t: t.is_bool, "bool", dtypes.bool_),
        "String": Rule(None, lambda t: t is dtypes.string, "string", dtypes.string),
        "Handle": Rule(None, lambda t: t is dtypes.resource, "a variable or queue"),
    }
)


@dataclass(frozen=True, slots=True, eq=False)
class OpDef:
    """One op.  Equality is identity; it pickles by name.

    Attributes:
      name: the op's type, such as "MatMul".
      kernel: (xp, [ctx,] *arrays, **attrs) -> array or tuple of arrays; None: its value is fed,
        or the compiler lowers it.
      infer: (*tensors, **attrs) -> [(dims, dtype), ...], one pair per output.
      grad: (g, out, *inputs, **attrs) -> gradient per input, written in ops, None allowed; with
        several outputs `g` and `out` are tuples.  None: the op is declared non-differentiable.
      rules: names in `RULES`, one per input; the last one repeats where `variadic`.
      attrs: attribute names with their defaults (`inspect.Parameter.empty`: must be given).
      effect: "state" rolls back on abort, "input" is logged and replayed, "output" is released
        at commit.
      writes: a "state" op that changes the state its first input names.
      host: indices of inputs whose values live in host memory on every device.
      dynamic: output shapes depend on values.
      alias: index of the input that the outputs may share memory with, or None.
      elementwise: the kernel is a scalar expression over the vocabulary of `ops.expression`.
      cost: (*inputs, **attrs) -> flops, where inputs have `.dims`; None: one per output element.
      cases: sampler -> [Case]; inputs to check the entry with (see `ops.cases`).
    """

    name: str
    kernel: Callable[..., Any] | None
    infer: Callable[..., Specs]
    grad: Callable[..., Any] | None
    params: tuple[str, ...] = ()
    rules: tuple[str, ...] = ()
    variadic: bool = False
    attrs: Mapping[str, Any] = field(default_factory=dict)
    effect: Effect = "none"
    writes: bool = False
    host: frozenset[int] = frozenset()
    dynamic: bool = False
    alias: int | None = None
    takes_ctx: bool = False
    elementwise: bool = False
    random: bool = False
    cost: Callable[..., float] | None = None
    cases: Callable[..., Any] | None = None
    doc: str = ""

    def __call__(self, *inputs: Any, name: str | None = None, **attrs: Any) -> Any:
        """Add an operation to the default graph; its output, tuple of outputs, or itself."""
        from graphflow.build.adding import add  # which needs OpDef

        operation = add(self, inputs, attrs, name)
        outputs = operation.outputs
        if len(outputs) == 1:
            return outputs[0]
        return outputs or operation

    def complete(self, attrs: Mapping[str, Any]) -> dict[str, Any]:
        """The attributes with defaults filled in; lists become tuples.

        Raises:
          TypeError: an attribute is unknown or missing.
        """
        given = dict(self.attrs)
        for key, value in attrs.items():
            if key not in given:
                raise TypeError(f"{self.name} has no attribute {key!r}; it has {sorted(given)}")
            given[key] = tuple(value) if type(value) is list else value
        for key, value in given.items():
            if value is inspect.Parameter.empty:
                raise TypeError(f"{self.name} needs the attribute {key!r}")
        return given

    @property
    def pure(self) -> bool:
        """Same inputs, same outputs, and nothing else happens."""
        return self.effect == "none" and not self.random

    def __reduce__(self) -> Any:
        return find, (self.name,)

    def __repr__(self) -> str:
        return f"<op {self.name}>"


OPS: dict[str, OpDef] = {}


def find(name: str) -> OpDef:
    """The entry of that name.

    Raises:
      LookupError: there is none.
    """
    try:
        return OPS[name]
    except KeyError:
        raise LookupError(f"no op is called {name!r}") from None


def define(name: str, kernel: Callable[..., Any] | None, **declarations: Any) -> OpDef:
    """Enter an op into the registry.  Inputs and attributes come from the kernel's signature,
    or, where there is no kernel, from that of `like`.

    Raises:
      ValueError: the name is taken; the message says by what.
    """
    if name in OPS:
        raise ValueError(f"op {name!r} is already defined by {_where(OPS[name])}")
    like = declarations.pop("like", kernel)
    host = declarations.pop("host", ())
    signature = _signature(like)
    missing = set(host) - set(signature["params"])
    if missing:
        raise ValueError(f"op {name!r}: host inputs {sorted(missing)} are not parameters")
    signature["host"] = frozenset(signature["params"].index(p) for p in host)
    alias = declarations.pop("alias", None)
    if alias is not None:
        declarations["alias"] = signature["params"].index(alias)
    doc = inspect.getdoc(like) or ""
    OPS[name] = entry = OpDef(name=name, kernel=kernel, doc=doc, **signature, **declarations)
    return entry


def op(
    name: str,
    *,
    infer: Callable[..., Specs],
    grad: Callable[..., Any] | None,
    effect: Effect = "none",
    writes: bool = False,
    host: Iterable[str] = (),
    dynamic: bool = False,
    alias: str | None = None,
    elementwise: bool = False,
    random: bool = False,
    cost: Callable[..., float] | None = None,
    cases: Callable[..., Any] | None = None,
) -> Callable[[Callable[..., Any]], OpDef]:
    """Decorator form of `define`: the function below it is the kernel.  See `OpDef`."""
    declarations = {k: v for k, v in locals().items() if k != "name"}
    return lambda kernel: define(name, kernel, **declarations)


def _signature(like: Callable[..., Any] | None) -> dict[str, Any]:
    if like is None:
        return {"params": (), "rules": (), "attrs": {}}
    parameters = list(inspect.signature(like).parameters.values())
    if parameters and parameters[0].name == "xp":
        parameters = parameters[1:]
    takes_ctx = bool(parameters) and parameters[0].name == "ctx"
    if takes_ctx:
        parameters = parameters[1:]
    positional = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.POSITIONAL_ONLY)
    arrays = [p for p in parameters if p.kind in (*positional, inspect.Parameter.VAR_POSITIONAL)]
    return {
        "params": tuple(p.name for p in arrays),
        "rules": tuple(_rule(like, p) for p in arrays),
        "variadic": any(p.kind is inspect.Parameter.VAR_POSITIONAL for p in arrays),
        "attrs": {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY},
        "takes_ctx": takes_ctx,
    }


def _rule(like: Callable[..., Any], parameter: inspect.Parameter) -> str:
    rule = parameter.annotation
    if not isinstance(rule, str) or rule not in RULES:
        raise ValueError(
            f"parameter {parameter.name!r} of kernel {like.__qualname__} is annotated {rule!r}; "
            f"it must name a dtype rule: {', '.join(RULES)} (with from __future__ import "
            "annotations)"
        )
    return rule


def _where(entry: OpDef) -> str:
    code = getattr(entry.kernel, "__code__", None)
    return f"{code.co_filename}:{code.co_firstlineno}" if code else repr(entry)

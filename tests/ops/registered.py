"""What the checks that the registry drives have in common: its entries and their cases."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Sequence
from typing import Any

import numpy as np

import graphflow.ops
from graphflow.build import OPS, OpDef, Operation, Tensor
from graphflow.build.opdef import RULES
from graphflow.ops.cases import PAIRS, SHAPES, Case, Sampler
from graphflow.ops.evaluate import PureContext

for _module in pkgutil.iter_modules(graphflow.ops.__path__):
    importlib.import_module(f"graphflow.ops.{_module.name}")

# Entries that no case can call, each with the place of its tests.  `test_registry` fails when one
# of them has cases after all, or is gone.  Of those that need a session, by `needs_session`, only
# the differentiable ones have to be here.
ELSEWHERE = {
    "Placeholder": "fed by a session; every case here feeds placeholders",
    "Argument": "an argument of a body: test_cond.py, test_while_loop.py",
    "VarHandle": "the name of a variable's state",
    "ReadVariable": "tests/differentiate/test_gradients.py",
    "CheckCount": "test_cond.py",
    "Call": "test_recompute.py",
    "Cond": "test_cond.py",
    "While": "test_while_loop.py",
    "CustomGradient": "its gradient is the user's: tests/differentiate/test_registered.py",
    "PyFuncStateless": "its function is the user's: test_py_func.py",
    "Print": "its gradient is the one of an identity",
}
_LISTS = """
EmptyList ListAdd ListAddAt ListConcat ListConcatOr ListDrop ListGet ListGetOr ListLength
ListLengths ListReserve ListSet ListSplit
"""
for _name in _LISTS.split():
    ELSEWHERE[_name] = "its values are lists: test_while_loop.py, through the gradients of loops"


class Context(PureContext):
    """The context of kernels that draw random numbers, besides running bodies."""

    seed = 7

    def counter(self, stream: int, amount: int) -> int:
        return 0


def entries() -> dict[str, OpDef]:
    """The package's own entries: other test modules enter ops of theirs."""
    return {
        name: entry
        for name, entry in sorted(OPS.items())
        if getattr(entry.kernel or entry.infer, "__module__", "").startswith("graphflow.")
    }


def needs_session(entry: OpDef) -> bool:
    """Does its kernel take the run's context, for state, random numbers or bodies?"""
    return entry.takes_ctx or entry.effect != "none" or entry.random


def cases_of(entry: OpDef) -> list[Case]:
    """Its own cases, or some by its dtype rules; none where these do not tell enough."""
    sampler = Sampler(entry.name)
    if entry.cases is not None:
        return [as_arrays(case) for case in entry.cases(sampler)]
    underivable = (
        entry.kernel is None
        or entry.variadic
        or needs_session(entry)
        or not 1 <= len(entry.rules) <= 2
        or any(_sample(sampler, rule, ()) is None for rule in entry.rules)
        or any(value is inspect.Parameter.empty for value in entry.attrs.values())
    )
    if underivable:
        return []
    shapes: Sequence[Any] = PAIRS if len(entry.rules) == 2 else [(shape,) for shape in SHAPES]
    return [
        Case(tuple(_sample(sampler, r, shape) for r, shape in zip(entry.rules, pair, strict=True)))
        for pair in shapes
    ]


def as_arrays(case: Case) -> Case:
    """The case with every input an array."""
    inputs = tuple(np.asarray(x) for x in case.inputs)
    return Case(inputs, case.attrs, case.check, case.grad, case.second)


def _sample(sampler: Sampler, rule: str, shape: tuple[int, ...]) -> Any:
    if rule in ("T", "Num", "Real", "Float", "RealFloat"):
        return sampler.normal(*shape)
    if rule == "Integer":
        return sampler.integers(5, *shape)
    return sampler.booleans(*shape) if rule == "Bool" else None


def checked_inputs(entry: OpDef, case: Case) -> list[int]:
    """The inputs whose gradient a case checks."""
    if case.check is not None:
        return list(case.check)
    return [
        i
        for i, x in enumerate(case.inputs)
        if np.asarray(x).dtype.kind in "fc" and i not in entry.host
    ]


def call(entry: OpDef, case: Case) -> Any:
    """A function that calls the entry on tensors, with the case's attributes."""

    def function(*tensors: Tensor) -> Any:
        result = entry(*tensors, **case.attrs)
        if isinstance(result, Operation):
            return []
        return list(result) if isinstance(result, tuple) else result

    return function


def as_dtype(case: Case, floating: str) -> Case:
    """The case with its float64 inputs in another precision, complex ones accordingly."""
    kinds = {"f": floating, "c": {"float32": "complex64", "float64": "complex128"}[floating]}
    inputs = tuple(
        x.astype(kinds[x.dtype.kind]) if x.dtype in (np.float64, np.complex128) else x
        for x in case.inputs
    )
    return Case(inputs, case.attrs, case.check, case.grad, case.second)


def rule_of(entry: OpDef, index: int) -> Any:
    """The dtype rule of an input, also of a repeated one."""
    return RULES[entry.rules[min(index, len(entry.rules) - 1)]]

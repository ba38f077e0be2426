"""What programs that are compiled while they run have in common: observing, building, warning."""

from __future__ import annotations

import traceback
import warnings
from collections.abc import Callable, Collection, Sequence
from typing import Any

from graphflow.compile import Plan
from graphflow.execute.program import Call, Program

_NAMED = 8  # ops at most that a warning names

Found = dict[int, Any]  # slot -> shape and dtype of the array that it held


class Observer:
    """Notes the shape and dtype of whatever a plan's slots hold; stands where a trace would."""

    def __init__(self, trace: Any = None) -> None:
        """Args:
        trace: what times the calls as well, or None.
        """
        self.found: Found = {}
        self._trace = trace

    def timed(self, calls: Sequence[Call], plan: Plan, device: str) -> list[Call]:
        """The calls, watched."""
        if self._trace is not None:
            calls = self._trace.timed(calls, plan, device)
        return [self._watched(call) for call in calls]

    def note(self, slot: int, value: Any) -> None:
        if hasattr(value, "dtype"):  # an array, or a store's table of rows
            self.found[slot] = (value.shape, value.dtype)

    def _watched(self, call: Call) -> Call:
        function, outputs = call.function, call.outputs

        def watched(*arguments: Any) -> Any:
            result = function(*arguments)
            if len(outputs) == 1:
                self.note(outputs[0], result[0] if type(result) is tuple else result)
            elif outputs:
                for slot, value in zip(outputs, result, strict=True):
                    self.note(slot, value)
            return result

        return call._replace(function=watched)


def compiled(
    build: Callable[[Program, Found, Collection[str]], Any],
    program: Program,
    found: Found,
    kept: Collection[str],
) -> tuple[Any, str]:
    """The native form of a program, or None; and what runs it, in words."""
    try:
        native = build(program, found, kept)
    except Exception as error:
        _warn(error, program.plan)
        return None, f"the reference tier: native code could not be built: {error}"
    if native is None:
        return None, "the reference tier: too little of the plan lowers"
    return native, "native code"


def fault() -> type[Exception]:
    from graphflow.execute.native import Fault  # it needs llvmlite's wrappers: not at import

    return Fault


_warned: set[Any] = set()  # what has kept code from being built, in this process


def _warn(error: Exception, plan: Plan) -> None:
    """Tell, once per cause, which ops no code could be made of."""
    frames = traceback.extract_tb(error.__traceback__)
    cause = (type(error), *[(f.filename, f.lineno) for f in frames[-1:]])
    if cause in _warned:
        return
    _warned.add(cause)
    notes = getattr(error, "__notes__", ())
    names = sorted({s.opdef.name for s in plan.steps})
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    where = "; ".join(notes) or f"in a plan of {', '.join(names[:_NAMED])}{more}"
    warnings.warn(
        f"native code could not be built ({type(error).__name__}: {error}), {where}: the reference "
        "tier runs the plan.  The same cause is not reported again",
        RuntimeWarning,
        stacklevel=2,
    )

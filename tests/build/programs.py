"""Small programs, and what they give: names of what they build, or the class of their error.

Each is a function of the module that stands for TensorFlow, run in a fresh graph.
"""

from __future__ import annotations

import builtins
import json
import pathlib
import warnings
from collections.abc import Callable
from typing import Any

GOLDEN = pathlib.Path(__file__).parent / "data" / "tensorflow.json"
PROGRAMS: dict[str, Callable[[Any], Any]] = {}


def program(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Enter a program; its name tells what it is about."""
    assert function.__name__ not in PROGRAMS
    PROGRAMS[function.__name__] = function
    return function


def outcome(tf: Any, name: str) -> Any:
    """What a program gives, in words: a list, or {"raises": the built-in classes of its error}."""
    with tf.Graph().as_default():
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                given = PROGRAMS[name](tf)
        except Exception as error:
            return {"raises": [k.__name__ for k in type(error).__mro__ if _is_common(k)]}
    return [_shown(x) for x in (given if isinstance(given, list) else [given])]


def _is_common(kind: type) -> bool:
    return hasattr(builtins, kind.__name__) and kind not in (Exception, BaseException, object)


def _shown(x: Any) -> str:
    """The name and, of a tensor or variable, the dtype."""
    name = getattr(x, "name", None)
    dtype = getattr(getattr(x, "dtype", None), "name", "").replace("_ref", "")
    return f"{name} {dtype}".strip() if isinstance(name, str) else str(x)


def golden() -> dict[str, Any]:
    """What TensorFlow gives; see `record.py`."""
    return json.loads(GOLDEN.read_text())


def load() -> None:
    """Enter all programs."""
    from tests.build import (  # noqa: F401
        programs_graphs,
        programs_names,
        programs_ops,
        programs_scopes,
        programs_variables,
    )

"""Record CuPy's names and signatures, for machines that have no CuPy.

    pip install "cupy-cuda12x>=14.2,<15"
    python tests/ops/record_cupy.py

CuPy imports without a GPU.  Signatures come from Python functions themselves, those of compiled
ones from the first line of their docstrings; null stands for one that cannot be told.
"""

from __future__ import annotations

import importlib
import inspect
import json
import re
import warnings
from pathlib import Path
from typing import Any

TABLE = Path(__file__).parent / "data" / "cupy_signatures.json"
MODULES = ("", "linalg", "fft", "random", "lib.stride_tricks")
# What `ufunc.__call__` takes, read from its source; its signature is (*args, **kwargs).
UFUNC_ARGUMENTS = ("out", "where", "dtype", "casting", "order", "subok")
# Methods of ufuncs that work (the others raise NotImplementedError), from CuPy's documentation.
UFUNC_METHODS = {
    "at": ["add", "maximum", "minimum", "bitwise_and", "bitwise_or", "bitwise_xor"],
    "reduce": ["add", "multiply"],
    "accumulate": ["add", "multiply"],
    "reduceat": ["add"],
}
_FIRST_LINE = re.compile(r"\w+\((.*?)\)(?: *->.*)?$")


def signature(function: Any) -> list[str] | None:
    """Names of the arguments; "*" and "**" where it takes any."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return _from_docstring(function)
    stars = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}
    return [stars.get(p.kind, p.name) for p in parameters]


def _from_docstring(function: Any) -> list[str] | None:
    first = (inspect.getdoc(function) or "").split("\n", 1)[0]
    found = _FIRST_LINE.search(first)
    if found is None:
        return None
    names = []
    for part in found[1].split(","):
        name = part.split("=")[0].strip().split(" ")[-1]
        if name.startswith("**"):
            names.append("**")
        elif name.startswith("*"):
            names.append("*")
        elif name and name != "self":
            names.append(name)
    return names


def entry(cupy: Any, name: str, value: Any) -> Any:
    """What the table says about a public name."""
    if isinstance(value, cupy.ufunc):
        inputs = sorted({kind.split("->")[0] for kind in value.types})
        methods = [m for m, names in UFUNC_METHODS.items() if name in names]
        return {"ufunc": list(UFUNC_ARGUMENTS), "nin": value.nin, "types": inputs} | (
            {"methods": methods} if methods else {}
        )
    if isinstance(value, type) or not callable(value):
        return {}  # dtypes, constants, classes
    return {"arguments": signature(value)}


def record() -> dict[str, Any]:
    import cupy

    names: dict[str, Any] = {}
    for path in MODULES:
        module = cupy
        for part in path.split(".") if path else ():
            module = getattr(module, part)
        for name in sorted(n for n in dir(module) if not n.startswith("_")):
            value = getattr(module, name)
            if not inspect.ismodule(value):
                names[f"{path}.{name}" if path else name] = entry(cupy, name, value)
    special = importlib.import_module("cupyx.scipy.special")
    for name in sorted(n for n in dir(special) if not n.startswith("_")):
        names[f"special.{name}"] = entry(cupy, name, getattr(special, name))
    methods = {
        name: signature(value) if callable(value) else None
        for name, value in ((n, getattr(cupy.ndarray, n)) for n in sorted(dir(cupy.ndarray)))
        if not name.startswith("_")
    }
    return {"cupy": cupy.__version__, "names": names, "ndarray": methods}


def main() -> None:
    warnings.simplefilter("ignore")  # "CUDA path could not be detected"
    table = record()
    lines = [f'"cupy": {json.dumps(table["cupy"])}']
    for part in ("names", "ndarray"):
        rows = [f"  {json.dumps(k)}: {json.dumps(v)}" for k, v in table[part].items()]
        lines.append(f'"{part}": {{\n' + ",\n".join(rows) + "\n}")
    TABLE.write_text("{\n" + ",\n".join(lines) + "\n}\n")
    print(f"{len(table['names'])} names and {len(table['ndarray'])} methods -> {TABLE.name}")


if __name__ == "__main__":
    main()

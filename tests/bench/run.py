"""Print the numbers of a part of graphflow.

python tests/bench/run.py core             a table
python tests/bench/run.py core --json      one JSON object
python tests/bench/run.py distribute       the distributed runtime: minutes
python tests/bench/run.py ops              the op set: minutes
python tests/bench/run.py native           against TensorFlow, PyTorch, JAX and C: minutes
"""

from __future__ import annotations

import argparse
import importlib
import json
import platform
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import environment  # noqa: F401  (before NumPy loads)

NAMES = ("core", "distribute", "native", "ops", "place")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=NAMES)
    parser.add_argument("--json", action="store_true", help="one JSON object")
    options = parser.parse_args()
    sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[2])]
    part = importlib.import_module(options.name)
    with redirect_stdout(sys.stderr):  # Ray tells of its workers whenever it likes
        numbers = part.numbers()
    if options.json:
        print(json.dumps(numbers))
    else:
        _print_table(part, numbers)


def _print_table(part: Any, numbers: dict[str, Any]) -> None:
    import numpy as np
    from rich.console import Console
    from rich.table import Table

    table = Table(
        title=f"{part.__name__}: Python {platform.python_version()}, NumPy {np.__version__}"
    )
    table.add_column("what")
    table.add_column("measured", justify="right")
    table.add_column("bound", justify="right")
    table.add_column("")
    for key, value in numbers.items():
        bound = part.BOUNDS.get(key)
        verdict = "" if bound is None else "ok" if value <= bound else "OVER"
        shown = "" if bound is None else f"<= {bound:g}"
        table.add_row(part.MEANING.get(key, key), f"{value:.3g}", shown, verdict)
    Console().print(table)


if __name__ == "__main__":
    main()

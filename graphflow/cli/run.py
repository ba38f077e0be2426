"""`graphflow run`: a TensorFlow 1 program, unmodified."""

from __future__ import annotations

import runpy
import sys
from collections.abc import Sequence
from pathlib import Path

from graphflow.compat import install


def main(script: str, arguments: Sequence[str]) -> int:
    """Run the script as the main program, with graphflow standing in for tensorflow.

    Args:
      script: path of the program.
      arguments: its command line.
    """
    path = Path(script)
    if not path.is_file():
        print(f"graphflow run: there is no file {script}", file=sys.stderr)
        return 2
    install()
    sys.argv = [script, *arguments]
    sys.path[0] = str(path.resolve().parent)
    runpy.run_path(script, run_name="__main__")
    return 0

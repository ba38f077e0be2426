"""The command `graphflow`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; the exit status.

    Commands:
      demo: train a digit classifier, here and on two Ray workers.
      inspect: run a program, and explain which device runs what.
      whatif: run a program, and predict its step on a cluster that need not exist.
      run: run a TensorFlow 1 program unmodified, with graphflow standing in for tensorflow.
    """
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.command == "demo":
        from graphflow.cli import demo

        return demo.main(options.epochs, options.workers)
    if options.command == "run":
        from graphflow.cli import run

        return run.main(options.script, options.arguments)
    if options.command == "inspect":
        from graphflow.cli import inspect

        return inspect.main(options.script, options.arguments, options.save, options.all)
    if options.command == "whatif":
        from graphflow.cli import inspect

        return inspect.whatif(options.script, options.arguments, options.cluster, options.save)
    parser.print_help()
    return 2


def _parser() -> argparse.ArgumentParser:
    import graphflow

    parser = argparse.ArgumentParser(
        prog="graphflow", description=graphflow.__doc__.splitlines()[0]
    )
    parser.add_argument("--version", action="version", version=f"graphflow {graphflow.__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    demo = commands.add_parser("demo", help="train a digit classifier, here and on two Ray workers")
    demo.add_argument("--epochs", type=int, default=12, help="passes over the training digits")
    demo.add_argument("--workers", type=int, default=2, help="Ray workers; 0: only here")
    run = commands.add_parser("run", help="run a TensorFlow 1 program unmodified")
    run.add_argument("script", help="the program; it may import tensorflow")
    run.add_argument("arguments", nargs=argparse.REMAINDER, help="what the program gets")
    inspect = commands.add_parser("inspect", help="explain which device runs what, and why")
    inspect.add_argument("--placement", action="store_true", help="the placement (the default)")
    inspect.add_argument("--all", action="store_true", help="each plan, not only the largest")
    whatif = commands.add_parser("whatif", help="predict a step on a cluster that one lacks")
    whatif.add_argument("--cluster", required=True, help="YAML or JSON; see graphflow.place.spec")
    for each in (inspect, whatif):
        each.add_argument(
            "--save",
            action="append",
            default=[],
            metavar="FILE",
            help="Gantt chart (.svg, .png) or Chrome trace (.json); may be repeated",
        )
        each.add_argument("script", help="the program; it may import tensorflow")
        each.add_argument("arguments", nargs=argparse.REMAINDER, help="what the program gets")
    return parser


if __name__ == "__main__":
    sys.exit(main())

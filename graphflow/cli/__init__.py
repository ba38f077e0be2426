"""The command `graphflow`."""

from __future__ import annotations

import argparse
import contextlib
import math
import sys
from collections.abc import Callable, Sequence
from typing import Any

# Options that say how to run on workers, and what they are where they are not given.
_OF_WORKERS = {
    "ps": None, "address": None, "cpus_per_worker": 1, "gpus_per_worker": 0, "tls": False,
    "restarts": None, "heartbeat": None, "record_decisions": None, "replay_decisions": None,
}  # fmt: skip
FORMS = ("fused", "memory", "ir", "llvm", "assembly", "cuda")  # of code, for `inspect`


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; the exit status.

    Commands:
      demo: train a digit classifier, here and on two Ray workers.
      inspect: run a program, and explain which device runs what, or what its steps became.
      whatif: run a program, and predict its step on a cluster that need not exist.
      run: run a TensorFlow 1 program unmodified, here, on workers, or as a job of many tasks.
      submit: hand such a program to a Ray cluster.
      trace: run a program, and show when each device computed, handed over and waited.
    """
    parser = _parser()
    options = parser.parse_args(arguments)
    for name, default in _OF_WORKERS.items() if getattr(options, "workers", 0) is None else ():
        if getattr(options, name) != default:
            option = name.replace("_", "-")
            parser.error(f"--{option} is about workers: say how many, by --workers N")
    if options.command == "demo":
        from graphflow.cli import demo

        return demo.main(options.epochs, options.workers)
    if options.command == "run":
        from graphflow.cli import run

        layout = _layout(options)
        if not options.progress:
            return run.main(options.script, options.arguments, layout)
        from graphflow.cli import progress

        if run.has_tasks(options.script, layout):
            tasks = run.InTasks(progress.in_task)
            return run.main(options.script, options.arguments, layout, tasks)
        with progress.progress():
            return run.main(options.script, options.arguments, layout)
    if options.command == "trace":
        from graphflow.cli import trace

        return trace.main(options.script, options.arguments, options.save, _layout(options))
    if options.command == "submit":
        from graphflow.cli import submit

        layout = _layout(options)
        layout = layout._replace(address=layout.address or submit.default_address())
        return submit.main(options.script, options.arguments, layout, not options.no_wait)
    if options.command == "inspect" and (options.code or _is_saved(options.script)):
        from graphflow.cli import code

        return code.main(
            options.script, options.arguments, options.code or "fused", options.all,
            options.fetch, options.shape,
        )  # fmt: skip
    if options.command == "inspect":
        from graphflow.cli import inspect

        return inspect.main(options.script, options.arguments, options.save, options.all)
    if options.command == "whatif":
        from graphflow.cli import inspect

        return inspect.whatif(options.script, options.arguments, options.cluster, options.save)
    parser.print_help()
    return 2


def _is_saved(path: str) -> bool:
    """A graph in a file, and no program?"""
    return path.endswith((".pb", ".pbtxt"))


def _layout(options: argparse.Namespace) -> Any:
    from graphflow.cli.run import Layout

    return Layout(
        options.workers,
        options.ps,
        options.address,
        options.cpus_per_worker,
        options.gpus_per_worker,
        options.record_decisions,
        options.replay_decisions,
        options.restarts,
        options.tls,
        options.heartbeat,
    )


def _whole(least: int) -> Callable[[str], int]:
    """A whole number of the command line, and not less than that."""

    def number(text: str) -> int:
        with contextlib.suppress(ValueError):
            if (value := int(text)) >= least:
                return value
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from {least} on")

    return number


def _cpus(text: str) -> float:
    """A number of the command line of processors, which workers may share.

    Raises:
      ArgumentTypeError: it is none.
    """
    with contextlib.suppress(ValueError):
        if 0 <= (value := float(text)) < math.inf:
            return value
    raise argparse.ArgumentTypeError(f"{text!r} is no number from 0 on")


def _seconds(text: str) -> float:
    """A duration of the command line.

    Raises:
      ArgumentTypeError: it is none.
    """
    try:
        if (seconds := float(text)) > 0:
            return seconds
    except ValueError:
        pass
    raise argparse.ArgumentTypeError(f"{text!r} is no positive number of seconds")


def _parser() -> argparse.ArgumentParser:
    import graphflow

    parser = argparse.ArgumentParser(
        prog="graphflow", description=graphflow.__doc__.splitlines()[0]
    )
    parser.add_argument("--version", action="version", version=f"graphflow {graphflow.__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    demo = commands.add_parser("demo", help="train a digit classifier, here and on two Ray workers")
    demo.add_argument(
        "--epochs", type=_whole(1), default=12, help="passes over the training digits"
    )
    demo.add_argument("--workers", type=_whole(0), default=2, help="Ray workers; 0: only here")
    run = commands.add_parser("run", help="run a TensorFlow 1 program unmodified")
    submit = commands.add_parser("submit", help="run a program on a Ray cluster, as its job")
    submit.add_argument("--no-wait", action="store_true", help="do not wait for its end")
    run.add_argument("--progress", action="store_true", help="show how its runs get on")
    trace = commands.add_parser("trace", help="when each device computed, handed over and waited")
    trace.add_argument(
        "--save", action="append", default=[], metavar="FILE", help="Chrome trace (.json)"
    )
    ray = "of Ray"
    for each, where in ((run, ray), (trace, ray), (submit, "of its dashboard: http://head:8265")):
        needed = each is submit
        each.add_argument(
            "--workers", type=_whole(1), required=needed, help="Ray workers to run on"
        )
        each.add_argument(
            "--ps", type=_whole(0), help="parameter servers; 1 where a program has tasks"
        )
        each.add_argument("--address", help=f"{where}; by default one of its own")
        each.add_argument("--cpus-per-worker", type=_cpus, default=1, help="CPUs of each; 1")
        each.add_argument("--gpus-per-worker", type=_whole(0), default=0, help="GPUs of each; 0")
        each.add_argument("--tls", action="store_true", help="encrypt values between machines, too")
        each.add_argument(
            "--restarts", type=_whole(0), metavar="TIMES",
            help="how often each task that is lost is started again; 3",
        )  # fmt: skip
        each.add_argument(
            "--heartbeat", type=_seconds, metavar="SECONDS",
            help="of silence after which a task is started again; 20, or 30 of a worker",
        )  # fmt: skip
        each.add_argument(
            "--record-decisions", metavar="DIR", help="log the order of asynchronous updates there"
        )
        each.add_argument(
            "--replay-decisions", metavar="DIR", help="have updates in the order of such a log"
        )
        each.add_argument("script", help="the program; it may import tensorflow")
        each.add_argument("arguments", nargs=argparse.REMAINDER, help="what the program gets")
    inspect = commands.add_parser(
        "inspect", help="explain which device runs what and why, or what code a step became"
    )
    inspect.add_argument("--placement", action="store_true", help="the placement (the default)")
    inspect.add_argument(
        "--code",
        choices=FORMS,
        help="what was fused and where values lie, the memory plan alone, the loops, LLVM's IR, "
        "the machine code, or the loops as CUDA C++",
    )
    inspect.add_argument("--all", action="store_true", help="each plan, not only the largest")
    inspect.add_argument(
        "--fetch", action="append", default=[], metavar="NAME", help="a tensor of a saved graph"
    )
    inspect.add_argument(
        "--shape", action="append", default=[], metavar="NAME=2,3",
        help="of a placeholder of a saved graph; sizes that are not told are 1",
    )  # fmt: skip
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
        saved = ", or a saved graph (.pb, .pbtxt)" if each is inspect else ""
        each.add_argument("script", help=f"the program; it may import tensorflow{saved}")
        each.add_argument("arguments", nargs=argparse.REMAINDER, help="what the program gets")
    return parser


if __name__ == "__main__":
    sys.exit(main())

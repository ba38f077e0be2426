"""`graphflow inspect --code`: what became of a program's steps, or of a saved graph.

It prints what was fused, with the user's lines, what is left to kernels and why, the memory plan;
or the loop IR, the LLVM IR, the machine code.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

import numpy as np
from google.protobuf import text_format
from google.protobuf.message import DecodeError

from graphflow.base.errors import FailedPreconditionError, OpError
from graphflow.build import Graph, Tensor
from graphflow.cli import run
from graphflow.serialize import import_graph_def, message
from graphflow.session import Session
from graphflow.session.session import BaseSession

if TYPE_CHECKING:
    from graphflow.compile.native.report import Report

_SAVED = (".pb", ".pbtxt")


class Unreadable(Exception):
    """There is nothing to explain; the message says why."""


def main(
    path: str,
    arguments: Sequence[str],
    what: str = "fused",
    every: bool = False,
    fetches: Sequence[str] = (),
    shapes: Sequence[str] = (),
) -> int:
    """Explain the code of the largest step of a program, or of a saved graph.

    Args:
      path: of the program, or of a `GraphDef`: .pb, or .pbtxt.
      arguments: the program's command line.
      what: one of `FORMS`; "fused" tells of memory, too.
      every: of each step.
      fetches: names of the graph's tensors; by default, those that nothing takes.
      shapes: "NAME=2,3", of placeholders whose shapes the graph leaves open.
    """
    try:
        is_graph = path.endswith(_SAVED)
        found = saved(path, fetches, shapes) if is_graph else reports(path, arguments)
    except (Unreadable, OSError, OpError, ValueError) as error:
        print(f"graphflow inspect: {getattr(error, 'message', error)}", file=sys.stderr)
        return 2
    for report in found if every else [max(found, key=lambda r: len(r.plan.steps))]:
        print(report if what == "fused" else getattr(report, what))
    return 0


def reports(script: str, arguments: Sequence[str]) -> list[Report]:
    """What became of the steps that a program has run.

    Raises:
      Unreadable: it failed, or has run none.
    """
    # By the clock, a short program would end before anything is compiled.
    tier = os.environ.get("GRAPHFLOW_TIER", "native")
    with mock.patch.dict(os.environ, GRAPHFLOW_TIER=tier), _loaded() as executables:
        if run.to_its_end(script, arguments):
            raise Unreadable("the program failed")
        found = [report for each in executables for report in each.reports()]
    if not found:
        raise Unreadable("the program ran no session: there is nothing to explain")
    return found


@contextmanager
def _loaded() -> Iterator[list[Any]]:
    """The executables that sessions inside make, in order."""
    found: list[Any] = []
    usual = BaseSession._build

    def listening(self: BaseSession, *arguments: Any) -> Any:
        prepared = usual(self, *arguments)
        if hasattr(prepared.executable, "reports"):
            found.append(prepared.executable)
        return prepared

    with mock.patch.object(BaseSession, "_build", listening):
        yield found


def saved(path: str, fetches: Sequence[str], shapes: Sequence[str]) -> list[Report]:
    """What becomes of a step of a saved graph.

    Raises:
      Unreadable: the file is no graph, or one that cannot be run by itself.
      ValueError: a shape is none, or a name is not in the graph.
    """
    with Graph().as_default() as graph:
        import_graph_def(_graph_def(path), name="")
        feeds = {tensor: np.zeros(shape, tensor.dtype.np)
                 for tensor, shape in _open(graph, _shapes(shapes)).items()}  # fmt: skip
        wanted: list[Any] = list(fetches) or _ends(graph)
        with Session() as session:
            try:
                return list(session.explain(wanted, feeds))
            except FailedPreconditionError as error:
                raise Unreadable(
                    f"{error.message}: a graph in a file has no values of variables; freeze it "
                    "with tf.graph_util.convert_variables_to_constants, or inspect the program"
                ) from error


def _graph_def(path: str) -> Any:
    graph_def = message("GraphDef")()
    try:
        if path.endswith("txt"):
            text_format.Parse(Path(path).read_text(), graph_def)
        else:
            graph_def.ParseFromString(Path(path).read_bytes())
    except (DecodeError, text_format.ParseError, UnicodeDecodeError) as error:
        raise Unreadable(f"{path} is no GraphDef: {error}") from error
    return graph_def


def _shapes(given: Sequence[str]) -> dict[str, tuple[int, ...]]:
    found = {}
    for each in given:
        name, equals, sizes = each.partition("=")
        try:
            found[name.partition(":")[0]] = tuple([int(n) for n in sizes.split(",") if n])
        except ValueError:
            equals = ""
        if not equals:
            raise ValueError(f"--shape {each}: write NAME=2,3")
    return found


def _open(graph: Graph, shapes: Mapping[str, tuple[int, ...]]) -> dict[Tensor, tuple[int, ...]]:
    """The placeholders, and a shape for each: sizes that nobody tells are 1."""
    found = {}
    for operation in graph.get_operations():
        if operation.type == "Placeholder":
            (tensor,) = operation.outputs
            dims = [n or 1 for n in tensor.dims or ()]
            found[tensor] = shapes.get(operation.name, tuple(dims))
    unknown = set(shapes) - {tensor.op.name for tensor in found}
    if unknown:
        raise ValueError(f"the graph has no placeholder {', '.join(sorted(unknown))}")
    return found


def _ends(graph: Graph) -> list[Tensor]:
    """Tensors that nothing takes."""
    operations = graph.get_operations()
    taken = {tensor for operation in operations for tensor in operation.inputs}
    ends = [t for operation in operations for t in operation.outputs if t not in taken]
    if not ends:
        raise Unreadable("the graph gives no tensor")
    return ends

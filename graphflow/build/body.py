"""Bodies of control flow: graphs with an outer graph, from which they capture tensors."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from graphflow.base.dtypes import DType
from graphflow.base.shapes import Dims
from graphflow.build import defaults
from graphflow.build.graph import Graph
from graphflow.build.opdef import OPS
from graphflow.build.tensor import Operation, Tensor


class Body(Graph):
    """A subgraph owned by an operation of `outer`, such as a branch or the body of a loop.

    A tensor of an enclosing graph that the body uses becomes a capture: an `Argument` inside,
    an input of the owning operation outside.  Names, collections, seeds and ids are the root's.

    Attributes:
      inputs: the declared arguments.
      captures: outer tensor -> the argument that stands for it.
      outputs: what the body returns; may be appended to, as everything in a graph.
      outer_control: operations of enclosing graphs that must run before the owner.
      sees: another body, beside this one -> how to get at its tensors from here.  The body of a
        gradient sees the body that it differentiates.
    """

    def __init__(self, outer: Graph):
        self.outer = outer
        super().__init__()
        self.inputs: list[Tensor] = []
        self.captures: dict[Tensor, Tensor] = {}
        self.outputs: list[Tensor] = []
        self.outer_control: dict[Operation, None] = {}
        self.sees: dict[Graph, Callable[[Tensor], Tensor]] = {}
        self._seen: dict[Tensor, Tensor] = {}
        scopes = outer.scopes
        self.scopes.prefix = scopes.prefix
        self.scopes.devices = scopes.devices
        self.scopes.device = scopes.device
        self.scopes.gradients = scopes.gradients

    def _start(self) -> None:
        assert self.outer is not None
        self.root = self.outer.root
        self.names = self.root.names
        self.collections = self.root.collections

    def own(self, tensor: Tensor) -> Tensor:
        if tensor.op.graph is self:
            return tensor
        if (look := self.sees.get(tensor.op.graph)) is not None:
            if tensor not in self._seen:
                self._seen[tensor] = look(tensor)
            return self._seen[tensor]
        assert self.outer is not None
        outside = self.outer.own(tensor)  # captured by every graph in between
        if outside not in self.captures:
            self.captures[outside] = self.argument(outside.dims, outside.dtype, "capture")
        return self.captures[outside]

    def own_control(self, operation: Operation) -> None:
        self.outer_control[operation] = None

    def visible(self, graph: Graph) -> bool:
        assert self.outer is not None
        return graph is self or graph in self.sees or self.outer.visible(graph)

    def argument(self, dims: Dims, dtype: DType, name: str = "arg") -> Tensor:
        """A new argument; the caller says what it stands for."""
        with self.as_default(), self.control_dependencies(None):
            tensor: Tensor = OPS["Argument"](dims=dims, dtype=dtype, name=name)
        return tensor

    def add_input(self, dims: Dims, dtype: DType, name: str = "arg") -> Tensor:
        """A new declared argument."""
        tensor = self.argument(dims, dtype, name)
        self.inputs.append(tensor)
        return tensor


@dataclass(frozen=True, eq=False)
class Selection:
    """A body of which only some outputs are wanted.  It is called as a body is."""

    body: Body
    outputs: tuple[Tensor, ...]

    @property
    def inputs(self) -> list[Tensor]:
        return self.body.inputs

    @property
    def captures(self) -> Mapping[Tensor, Tensor]:
        return self.body.captures

    @property
    def operations(self) -> list[Operation]:
        return self.body.operations


def build_body(
    function: Callable[..., Any],
    arguments: Sequence[tuple[Dims, DType]],
    outer: Graph | None = None,
) -> tuple[Body, Any]:
    """Call `function` on new arguments inside a new body; the body and what was returned."""
    body = Body(outer or defaults.get_default_graph())
    inputs = [body.add_input(dims, dtype) for dims, dtype in arguments]
    with body.as_default():
        return body, function(*inputs)

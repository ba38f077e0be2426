"""Operation and Tensor: the nodes of a graph and their outputs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, NoReturn

from graphflow.base.dtypes import DType
from graphflow.base.shapes import Dims, TensorShape, as_dims, format_dims
from graphflow.build import defaults
from graphflow.build.opdef import OpDef
from graphflow.build.operators import Operators, define_operator
from graphflow.build.sites import Site

if TYPE_CHECKING:
    from graphflow.build.graph import Graph


class Operation:
    """A node.  Frozen once built: what TF1 lets users change later is kept by its graph.

    Attributes:
      graph: where it was built.
      id: position in the order of creation, over all graphs of one root.
      name: unique in the graph.
      opdef: the op's entry.
      inputs: the tensors it takes.
      attrs: its attributes.
      specs: (dims, dtype) of each output, as inferred.
      site: the user's line that built it.
      outputs: its tensors.
      colocation: operations that it must share a device with.
    """

    __slots__ = (
        "__weakref__",
        "_control",
        "_device",
        "attrs",
        "colocation",
        "graph",
        "id",
        "inputs",
        "name",
        "opdef",
        "outputs",
        "site",
        "specs",
    )

    def __init__(
        self,
        graph: Graph,
        id: int,
        name: str,
        opdef: OpDef,
        inputs: tuple[Tensor, ...],
        attrs: Mapping[str, Any],
        specs: list[tuple[Dims, DType]],
        site: Site,
        control: tuple[Operation, ...] = (),
        device: str = "",
        colocation: tuple[Operation, ...] = (),
    ):
        self.graph = graph
        self.id = id
        self.name = name
        self.opdef = opdef
        self.inputs = inputs
        self.attrs = attrs
        self.specs = specs
        self.site = site
        self._control = control
        self._device = device
        self.colocation = colocation
        self.outputs = tuple([Tensor(self, i) for i in range(len(specs))])

    @property
    def type(self) -> str:
        return self.opdef.name

    @property
    def control_inputs(self) -> tuple[Operation, ...]:
        """Operations that run before this one, without giving it a value."""
        added = self.graph.added_control.get(self)
        return (*self._control, *added) if added else self._control

    @property
    def device(self) -> str:
        """The device the user asked for, "" where none."""
        return self.graph.changed_devices.get(self, self._device)

    def get_attr(self, name: str) -> Any:
        """Value of an attribute; "T" and "dtype" give the output's dtype where it has none.

        Raises:
          ValueError: there is no such attribute.
        """
        if name in self.attrs:
            return self.attrs[name]
        if name in ("T", "dtype") and self.specs:
            return self.specs[0][1]
        raise ValueError(f"operation {self.name!r} has no attribute {name!r}")

    def values(self) -> tuple[Tensor, ...]:
        return self.outputs

    def colocation_groups(self) -> list[bytes]:
        names = [op.name for op in self.colocation] or [self.name]
        return [f"loc:@{name}".encode() for name in names]

    def run(self, feed_dict: Any = None, session: Any = None) -> None:
        """Run this operation in the given or the default session."""
        defaults.session_for(session, self.graph).run(self, feed_dict)

    def __str__(self) -> str:
        return f"{self.name} = {self.type}({', '.join(t.name for t in self.inputs)})"

    def __repr__(self) -> str:
        return f"<tf.Operation {self.name!r} type={self.type}>"


class Tensor(Operators):
    """One output of an operation: its value exists while a session runs the graph.

    Equality is identity, as in TensorFlow 1, so that tensors are keys of feeds.
    """

    __slots__ = ("__weakref__", "index", "op")

    def __init__(self, op: Operation, index: int):
        self.op = op
        self.index = index

    @property
    def name(self) -> str:
        return f"{self.op.name}:{self.index}"

    @property
    def graph(self) -> Graph:
        return self.op.graph

    @property
    def dtype(self) -> DType:
        return self.op.specs[self.index][1]

    @property
    def dims(self) -> Dims:
        """The static shape as a plain tuple; None where the rank is unknown."""
        changed = self.op.graph.set_shapes
        if changed and self in changed:
            return changed[self]
        return self.op.specs[self.index][0]

    @property
    def shape(self) -> TensorShape:
        return TensorShape(self.dims)

    def get_shape(self) -> TensorShape:
        return TensorShape(self.dims)

    def set_shape(self, shape: Any) -> None:
        """State more of the static shape.

        Raises:
          ValueError: it contradicts what is known.
        """
        self.op.graph.set_shape(self, as_dims(shape))

    @property
    def value_index(self) -> int:
        return self.index

    @property
    def device(self) -> str:
        return self.op.device

    def consumers(self) -> list[Operation]:
        """Operations of the same graph that take this tensor."""
        return [op for op in self.op.graph.operations if self in op.inputs]

    def eval(self, feed_dict: Any = None, session: Any = None) -> Any:
        """Value in the given or the default session."""
        return defaults.session_for(session, self.op.graph).run(self, feed_dict)

    def __hash__(self) -> int:
        return id(self)

    def __eq__(self, other: object) -> bool:
        return self is other

    def __ne__(self, other: object) -> bool:
        return self is not other

    # ---- what a symbol cannot do

    def __bool__(self) -> NoReturn:
        raise TypeError(
            f"{self!r} has no truth value while the graph is built: use `if t is not None` to "
            "test whether there is a tensor, tf.cond to branch on its value, tf.logical_and, "
            "tf.logical_or and tf.logical_not instead of and, or, not"
        )

    def __len__(self) -> NoReturn:
        raise TypeError(f"len() of {self!r}: use tf.shape(t)[0], or t.shape[0] if it is static")

    def __iter__(self) -> Iterator[Tensor]:
        dims = self.dims
        if not dims or dims[0] is None:
            raise TypeError(
                f"{self!r} cannot be iterated while the graph is built: its first size is "
                "unknown or it is a scalar; use tf.map_fn or tf.while_loop"
            )
        return iter([self[i] for i in range(dims[0])])

    def __array__(self, *_: Any, **__: Any) -> NoReturn:
        raise NotImplementedError(
            f"{self!r} has no value while the graph is built, so NumPy cannot take it: use the "
            "tf function of that name, or session.run first"
        )

    def __repr__(self) -> str:
        return f"<tf.Tensor {self.name!r} shape={format_dims(self.dims)} dtype={self.dtype.name}>"

    def __str__(self) -> str:
        shape = "" if self.dims is None else f", shape={format_dims(self.dims)}"
        return f'Tensor("{self.name}"{shape}, dtype={self.dtype.name})'


__all__ = ["Operation", "Tensor", "define_operator"]

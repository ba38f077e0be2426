"""Operation and Tensor: the nodes of a graph and their outputs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, NoReturn

from graphflow.base.dtypes import DType
from graphflow.base.shapes import Dims, TensorShape, as_dims, format_dims
from graphflow.build import defaults
from graphflow.build.opdef import OPS, OpDef
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


class Tensor:
    """One output of an operation: its value exists while a session runs the graph.

    Equality is identity, as in TensorFlow 1, so that tensors are keys of feeds.
    """

    __slots__ = ("__weakref__", "index", "op")
    __array_ufunc__ = None  # ndarray + tensor asks Tensor.__radd__
    __array_priority__ = 100

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

    # ---- operators: each is an op of the registry

    def __add__(self, other: Any) -> Tensor:
        return _binary("Add", "add", self, other)

    def __radd__(self, other: Any) -> Tensor:
        return _binary("Add", "add", other, self)

    def __sub__(self, other: Any) -> Tensor:
        return _binary("Sub", "sub", self, other)

    def __rsub__(self, other: Any) -> Tensor:
        return _binary("Sub", "sub", other, self)

    def __mul__(self, other: Any) -> Tensor:
        return _binary("Mul", "mul", self, other)

    def __rmul__(self, other: Any) -> Tensor:
        return _binary("Mul", "mul", other, self)

    def __truediv__(self, other: Any) -> Tensor:
        return _OPERATORS["truediv"](self, other)

    def __rtruediv__(self, other: Any) -> Tensor:
        return _OPERATORS["truediv"](other, self)

    def __floordiv__(self, other: Any) -> Tensor:
        return _binary("FloorDiv", "floordiv", self, other)

    def __rfloordiv__(self, other: Any) -> Tensor:
        return _binary("FloorDiv", "floordiv", other, self)

    def __mod__(self, other: Any) -> Tensor:
        return _binary("FloorMod", "mod", self, other)

    def __rmod__(self, other: Any) -> Tensor:
        return _binary("FloorMod", "mod", other, self)

    def __pow__(self, other: Any) -> Tensor:
        return _binary("Pow", "pow", self, other)

    def __rpow__(self, other: Any) -> Tensor:
        return _binary("Pow", "pow", other, self)

    def __matmul__(self, other: Any) -> Tensor:
        return _OPERATORS["matmul"](self, other)

    def __rmatmul__(self, other: Any) -> Tensor:
        return _OPERATORS["matmul"](other, self)

    def __neg__(self) -> Tensor:
        return OPS["Neg"](self)

    def __abs__(self) -> Tensor:
        return OPS["Abs"](self)

    def __invert__(self) -> Tensor:
        return _OPERATORS["invert"](self)

    def __and__(self, other: Any) -> Tensor:
        return _OPERATORS["and"](self, other)

    def __rand__(self, other: Any) -> Tensor:
        return _OPERATORS["and"](other, self)

    def __or__(self, other: Any) -> Tensor:
        return _OPERATORS["or"](self, other)

    def __ror__(self, other: Any) -> Tensor:
        return _OPERATORS["or"](other, self)

    def __xor__(self, other: Any) -> Tensor:
        return _OPERATORS["xor"](self, other)

    def __rxor__(self, other: Any) -> Tensor:
        return _OPERATORS["xor"](other, self)

    def __lt__(self, other: Any) -> Tensor:
        return _binary("Less", None, self, other)

    def __le__(self, other: Any) -> Tensor:
        return _binary("LessEqual", None, self, other)

    def __gt__(self, other: Any) -> Tensor:
        return _binary("Greater", None, self, other)

    def __ge__(self, other: Any) -> Tensor:
        return _binary("GreaterEqual", None, self, other)

    def __getitem__(self, key: Any) -> Tensor:
        return _OPERATORS["getitem"](self, key)

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


# Operators that are more than one op are functions of `ops.operators`, which enters them here.
_OPERATORS: dict[str, Any] = {}


def define_operator(name: str, function: Any) -> None:
    """Enter the function behind an operator of `Tensor`."""
    _OPERATORS[name] = function


def _binary(kind: str, name: str | None, left: Any, right: Any) -> Tensor:
    return OPS[kind](left, right, name=name)

"""Variables: state that a session keeps between runs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from typing import Any, NoReturn

from graphflow.base import dtypes
from graphflow.base.dtypes import DType
from graphflow.base.errors import GraphError, ShapeError
from graphflow.base.shapes import Dims, TensorShape, as_dims, format_dims, is_known
from graphflow.build import Graph, Operation, Tensor, as_tensor
from graphflow.build.convert import as_array
from graphflow.build.defaults import get_default_graph, session_for
from graphflow.build.keys import GraphKeys
from graphflow.build.opdef import OPS
from graphflow.build.operators import Operators
from graphflow.ops import state
from graphflow.ops.evaluate import ordered
from graphflow.ops.sources import group


class Variable(Operators):
    """A tensor that keeps its value between runs of a session.

    Each use is a read that obeys the control dependencies in force where it is built.  Within a
    run, a read that comes after a write (through data or control dependencies) sees what was
    written; every other read sees the value from before the run.

    Attributes:
      handle: the tensor that names the state.
      initializer: the operation that assigns the initial value.
      initial_value: the tensor it assigns.
      trainable: is it in the collection that optimizers change by default?
      constraint: function that projects an updated value, or None.
      slice_info: which part of a larger tensor it is; None: it stands for itself.
    """

    slice_info: Any = None

    def __init__(
        self,
        initial_value: Any = None,
        trainable: bool | None = None,
        collections: Sequence[str] | None = None,
        validate_shape: bool = True,
        caching_device: Any = None,
        name: str | None = None,
        variable_def: Any = None,
        dtype: Any = None,
        expected_shape: Any = None,
        import_scope: str | None = None,
        constraint: Any = None,
        use_resource: bool | None = None,
        synchronization: Any = None,
        aggregation: Any = None,
        shape: Any = None,
    ):
        """Add a variable to the root of the default graph.

        Args:
          initial_value: a tensor, an array or number, or a function without arguments that
            returns one.
          trainable: add it to the collection of trainable variables (default).
          collections: collections to add it to; by default that of the global variables.
          validate_shape: the shape of the initial value is known and kept.
          caching_device, use_resource, synchronization, aggregation, import_scope: accepted for
            TensorFlow's sake; reads are always cached where they are used.
          name: its name, made unique.
          dtype: converts the initial value.
          expected_shape, shape: the shape that the initial value must have.
          constraint: applied to the value by optimizers after each update.

        Raises:
          ValueError: there is no initial value, or its shape is unknown or not the expected one.
        """
        if variable_def is not None:
            raise GraphError("a variable cannot be made from a VariableDef: import the graph")
        if initial_value is None:
            raise GraphError("a variable needs an initial value")
        self.trainable = trainable is None or bool(trainable)
        self.constraint = constraint
        self._graph = get_default_graph().root
        keys = [GraphKeys.GLOBAL_VARIABLES] if collections is None else list(collections)
        if self.trainable and GraphKeys.TRAINABLE_VARIABLES not in keys:
            keys.append(GraphKeys.TRAINABLE_VARIABLES)
        with init_scope(), self._graph.name_scope(name or "Variable") as scope:
            if callable(initial_value):
                with self._graph.name_scope("Initializer"):
                    initial_value = initial_value()
            self._build(
                initial_value,
                scope,
                dtype,
                validate_shape,
                as_dims(expected_shape if shape is None else shape),
            )
        self._graph.add_to_collections(keys, self)

    def _build(
        self, value: Any, scope: str, dtype: Any, validate_shape: bool, expected: Dims
    ) -> None:
        self.initial_value = as_tensor(value, dtype, name="initial_value")
        if self.initial_value.graph is not self._graph:
            raise GraphError(
                "the initial value depends on a tensor inside control flow: variables are lifted "
                "out of bodies, so give a function that computes the value from outside"
            )
        self.initial_value = _guarded(self.initial_value)
        dims = self.initial_value.dims
        if validate_shape and not is_known(dims):
            raise ShapeError(
                f"the initial value must have a known shape, not {format_dims(dims)}: give one, "
                "or say validate_shape=False"
            )
        if expected is not None and dims != expected:
            raise ShapeError(
                f"the initial value has shape {format_dims(dims)}, not {format_dims(expected)}"
            )
        self._dims = dims if validate_shape else None
        self._dtype = self.initial_value.dtype
        self.handle: Tensor = state.var_handle(
            container=self._graph.scopes.container, shared_name=scope[:-1], dims=self._dims,
            dtype=self._dtype, name=scope,
        )  # fmt: skip
        self.initializer: Operation = state.assign_variable(
            self.handle, self.initial_value, validate_shape=validate_shape, name="Assign"
        ).op
        self._read: Tensor = state.read_variable(self.handle, name="read")

    # ---- what it is

    @property
    def op(self) -> Operation:
        return self.handle.op

    @property
    def name(self) -> str:
        return self.handle.name

    @property
    def _shared_name(self) -> str:
        return self.op.name

    @property
    def dtype(self) -> DType:
        return self._dtype

    @property
    def dims(self) -> Dims:
        return self._dims

    @property
    def shape(self) -> TensorShape:
        return TensorShape(self._dims)

    def get_shape(self) -> TensorShape:
        return TensorShape(self._dims)

    @property
    def graph(self) -> Graph:
        return self._graph

    @property
    def device(self) -> str:
        return self.op.device

    # ---- reading

    def value(self) -> Tensor:
        """A read that obeys the control dependencies in force."""
        graph = get_default_graph()
        if graph is self._graph or graph.root is not self._graph:
            if not self._graph.scopes.control:
                return self._read
            graph = self._graph
        with graph.name_scope(None):
            return state.read_variable(self.handle, name=f"{self.op.name}/read")

    def read_value(self) -> Tensor:
        """A new read operation."""
        read: Tensor = state.read_variable(self.handle, name="read")
        return read

    def as_graph_tensor(self, dtype: Any = None) -> Tensor:
        return self.value()

    def as_graph_element(self) -> Tensor:
        return self._read

    def initialized_value(self) -> Tensor:
        """Its value, or the initial value where it has none yet."""
        from graphflow.ops.control_flow import cond  # control flow builds on variables

        with init_scope():
            return cond(is_variable_initialized(self), self.read_value, lambda: self.initial_value)

    def eval(self, session: Any = None) -> Any:
        """Value in the given or the default session."""
        return session_for(session, self._graph).run(self._read)

    # ---- writing

    def assign(
        self,
        value: Any,
        use_locking: bool = False,
        name: str | None = None,
        read_value: bool = True,
    ) -> Any:
        """Give it a new value.

        Returns:
          The new value as a tensor, or the operation where `read_value` is False.
        """
        tensor = self._fitting(value)
        return self._written(
            state.assign_variable(
                self.handle, tensor, validate_shape=self._dims is not None, name=name or "Assign"
            ),
            read_value,
        )

    def assign_add(
        self,
        delta: Any,
        use_locking: bool = False,
        name: str | None = None,
        read_value: bool = True,
    ) -> Any:
        """Add to it; returns as `assign`."""
        delta = self._fitting(delta)
        new = state.assign_add_variable(self.handle, delta, name=name or "AssignAdd")
        return self._written(new, read_value)

    def assign_sub(
        self,
        delta: Any,
        use_locking: bool = False,
        name: str | None = None,
        read_value: bool = True,
    ) -> Any:
        """Subtract from it; returns as `assign`."""
        delta = self._fitting(delta)
        new = state.assign_sub_variable(self.handle, delta, name=name or "AssignSub")
        return self._written(new, read_value)

    def _fitting(self, value: Any) -> Tensor:
        """The value as a tensor of the variable's dtype; its shape, where only the run tells it,
        is checked there: a variable keeps the shape that it was declared with."""
        tensor = as_tensor(value, self._dtype)
        dims = tensor.dims
        open_ = self._dims is not None and (dims is None or (None in dims and dims != self._dims))
        return OPS["EnsureShape"](tensor, dims=self._dims) if open_ else tensor

    def _written(self, tensor: Tensor, read_value: bool) -> Any:
        return tensor if read_value else tensor.op

    def load(self, value: Any, session: Any = None) -> None:
        """Set the value in a session, without adding operations to the graph."""
        session_for(session, self._graph).run(self.initializer, {self.initial_value: value})

    # ---- use as a tensor

    def __getitem__(self, key: Any) -> Tensor:
        """A part of the value; `variable[key].assign(...)` gives that part another one."""
        from graphflow.ops.partial_writes import variable_slice  # it builds on scatter, and so on

        return variable_slice(self, self.value()[key])

    def __iter__(self) -> NoReturn:
        raise TypeError(f"{self!r} cannot be iterated: iterate over its value()")

    def __hash__(self) -> int:
        return id(self)

    def __eq__(self, other: object) -> bool:
        return self is other

    def __repr__(self) -> str:
        shape = format_dims(self._dims)
        return f"<tf.Variable {self.name!r} shape={shape} dtype={self._dtype.name}>"

    def to_proto(self, export_scope: str | None = None) -> NoReturn:
        raise NotImplementedError("variables are exported with their graph")


def _guarded(value: Tensor) -> Tensor:
    """The value, computed from the initial values of variables that have no value yet.

    All variables are initialised in one run, where each would see the others uninitialised.
    """
    order = ordered([value.op])
    if not any(operation.type == "ReadVariable" for operation in order):
        return value
    graph = value.graph
    by_handle = {v.handle: v for v in _all_variables(graph)}
    instead: dict[Tensor, Tensor] = {}
    for operation in order:
        if operation.type == "ReadVariable" and operation.inputs[0] in by_handle:
            instead[operation.outputs[0]] = by_handle[operation.inputs[0]].initialized_value()
        elif any(t in instead for t in operation.inputs):
            inputs = tuple([instead.get(t, t) for t in operation.inputs])
            again = graph.add(operation.opdef, inputs, operation.attrs, operation.type)
            instead |= zip(operation.outputs, again.outputs, strict=True)
    return instead.get(value, value)


def _all_variables(graph: Graph) -> list[Variable]:
    found = [item for items in graph.collections.values() for item in items]
    return [item for item in found if isinstance(item, Variable)]


def checked_variable(ref: Any) -> Any:
    """What was given as a variable.

    Raises:
      TypeError: it is none.
    """
    if not hasattr(ref, "assign") or not hasattr(ref, "initializer"):
        raise TypeError(f"{ref!r} is no tf.Variable")
    return ref


class init_scope(ExitStack):
    """Build in the root graph, after nothing: where variables and their initial values go."""

    def __enter__(self) -> init_scope:
        graph = get_default_graph()
        root = graph.root
        self.enter_context(root.as_default())
        self.enter_context(root.control_dependencies(None))
        if graph is not root:
            self.enter_context(root.scopes.put(prefix=graph.scopes.prefix))
        return self


def variables_initializer(var_list: Iterable[Variable], name: str = "init") -> Operation:
    """An operation that initialises the variables.

    An initial value is read from before the run, so a variable cannot be initialised from
    another one in the same run: use its `initialized_value()`.
    """
    return group(*[checked_variable(v).initializer for v in var_list], name=name)


def global_variables(scope: str | None = None) -> list[Variable]:
    """The variables that are shared, saved and initialised by default."""
    return get_default_graph().get_collection(GraphKeys.GLOBAL_VARIABLES, scope)


def local_variables(scope: str | None = None) -> list[Variable]:
    """Variables of this process alone, such as the counters of metrics."""
    return get_default_graph().get_collection(GraphKeys.LOCAL_VARIABLES, scope)


def trainable_variables(scope: str | None = None) -> list[Variable]:
    """The variables that optimizers change by default."""
    return get_default_graph().get_collection(GraphKeys.TRAINABLE_VARIABLES, scope)


def model_variables(scope: str | None = None) -> list[Variable]:
    """The variables that make up a model."""
    return get_default_graph().get_collection(GraphKeys.MODEL_VARIABLES, scope)


def moving_average_variables(scope: str | None = None) -> list[Variable]:
    """The variables that have moving averages."""
    return get_default_graph().get_collection(GraphKeys.MOVING_AVERAGE_VARIABLES, scope)


def global_variables_initializer() -> Operation:
    """An operation that initialises all global variables."""
    return variables_initializer(global_variables())


def local_variables_initializer() -> Operation:
    """An operation that initialises all local variables."""
    return variables_initializer(local_variables())


def tables_initializer(name: str = "init_all_tables") -> Operation:
    """An operation that initialises the lookup tables of the graph; none of them is fine."""
    return group(*get_default_graph().get_collection(GraphKeys.TABLE_INITIALIZERS), name=name)


def is_variable_initialized(variable: Variable) -> Tensor:
    """bool []: has the variable a value?"""
    return state.is_initialized(checked_variable(variable).handle)


def report_uninitialized_variables(
    var_list: Sequence[Variable] | None = None, name: str = "report_uninitialized_variables"
) -> Tensor:
    """string [n]: names of the variables that have no value yet."""
    chosen = [*global_variables(), *local_variables()] if var_list is None else list(var_list)
    graph = get_default_graph()
    with graph.name_scope(name):
        if not chosen:
            return OPS["Const"](value=as_array([], dtypes.string))
        missing = OPS["LogicalNot"](
            OPS["Pack"](*[is_variable_initialized(v) for v in chosen], axis=0)
        )
        names = as_tensor([v.op.name for v in chosen])
        return OPS["GatherNd"](names, OPS["Where"](missing))


def assign(ref: Any, value: Any, validate_shape: bool | None = None, use_locking: Any = None,
           name: str | None = None) -> Tensor:  # fmt: skip
    """Give the variable a new value; returns it."""
    return checked_variable(ref).assign(value, name=name)


def assign_add(ref: Any, value: Any, use_locking: Any = None, name: str | None = None) -> Tensor:
    """Add to the variable; returns the new value."""
    return checked_variable(ref).assign_add(value, name=name)


def assign_sub(ref: Any, value: Any, use_locking: Any = None, name: str | None = None) -> Tensor:
    """Subtract from the variable; returns the new value."""
    return checked_variable(ref).assign_sub(value, name=name)

"""The graph: operations in the order of their creation, and what is known about them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, ClassVar

from graphflow.base.dtypes import DType
from graphflow.base.errors import DTypeError, GraphError, ShapeError
from graphflow.base.shapes import CLASH, Dims, format_dims, holds, merged
from graphflow.base.state import StateKey
from graphflow.build import defaults
from graphflow.build.opdef import OpDef
from graphflow.build.scopes import Names, Scopes, check_op_name, check_scope_name
from graphflow.build.sites import user_site
from graphflow.build.tensor import Operation, Tensor


class Graph:
    """An append-only dataflow graph.  Any thread may add to it.

    Attributes:
      operations: all operations, in the order of creation.
      outer: the enclosing graph of a body; None for a root.
      root: the outermost graph; names, collections, ids, the seed and the epoch are the root's.
      seed: the graph's random seed, or None.
      epoch: counts changes to what was built before (`set_shape`, added control inputs).
    """

    outer: Graph | None = None
    exporter: ClassVar[Callable[..., Any] | None] = None

    def __init__(self) -> None:
        self.operations: list[Operation] = []
        self.by_name: dict[str, Operation] = {}
        self.scopes = Scopes()
        self.lock = threading.RLock()
        self.set_shapes: dict[Tensor, Dims] = {}
        self.added_control: dict[Operation, tuple[Operation, ...]] = {}
        self.changed_devices: dict[Operation, str] = {}
        self._finalized = False
        self._start()

    def _start(self) -> None:
        """What a body shares with its root instead."""
        self.root: Graph = self
        self.names = Names()
        self.collections: dict[str, list[Any]] = {}
        self.gradient_overrides: dict[Operation, str] = {}
        self.mirrors: dict[StateKey, tuple[str, ...]] = {}
        self.seed: int | None = None
        self.next_id = 0
        self.epoch = 0

    # ---- adding

    def add(
        self, opdef: OpDef, inputs: tuple[Tensor, ...], attrs: Mapping[str, Any], name: str | None
    ) -> Operation:
        """Append an operation whose inputs are tensors already.

        Raises:
          ShapeError, DTypeError, GraphError: the op does not take these inputs; a note tells
            the user's line.
        """
        root = self.root
        if root._finalized:
            raise RuntimeError("the graph is finalized and cannot be changed")
        site = user_site()
        try:
            attrs = opdef.complete(attrs)
            inputs = tuple([t if t.op.graph is self else self.own(t) for t in inputs])
            specs = opdef.infer(*inputs, **attrs)
            for dims, dtype in specs:
                if type(dtype) is not DType:
                    raise DTypeError(f"{dtype!r} is no dtype of a tensor")
                if dims and not holds(dims, dtype.size):
                    raise ShapeError(f"no memory holds {dtype.name}{format_dims(dims)}")
        except Exception as error:
            shown = (name or opdef.name).rstrip("/")
            note = f"in {opdef.name} {shown!r}({describe(inputs)})\n  built at {site}"
            if isinstance(error, (AttributeError, LookupError, ArithmeticError)):
                refused = GraphError(
                    f"{opdef.name} does not take these inputs and attributes {attrs}: {error}"
                )
                refused.add_note(note)
                raise refused from error
            error.add_note(note)
            raise
        scopes = self.scopes
        with root.lock:
            unique = self.whole_name(name or opdef.name)[:-1]
            operation = Operation(
                self,
                root.next_id,
                unique,
                opdef,
                inputs,
                attrs,
                specs,
                site,
                scopes.control,
                scopes.device or "",
                scopes.colocation,
            )
            if scopes.device is None:
                operation._device = scopes.ask_devices(operation)
            if scopes.gradients and opdef.name in scopes.gradients:
                root.gradient_overrides[operation] = scopes.gradients[opdef.name]
            root.next_id += 1
            self.operations.append(operation)
            self.by_name[unique] = operation
        return operation

    def whole_name(self, name: str) -> str:
        """The name in the scope in force, made unique, with a slash; one with a slash is whole."""
        scopes = self.scopes
        if name.endswith("/"):
            return name
        if not scopes.prefix:
            check_op_name(name)
        with self.root.lock:
            return self.names.unique(scopes.prefix + name) + "/"

    def own(self, tensor: Tensor) -> Tensor:
        """The tensor as this graph's operations may take it.

        Raises:
          GraphError: it belongs to another graph.
        """
        if tensor.op.graph is self:
            return tensor
        raise GraphError(
            f"{tensor!r} belongs to another graph (built at {tensor.op.site}): build both in the "
            "same `with graph.as_default()`"
        )

    def visible(self, graph: Graph) -> bool:
        """May operations of this graph take tensors of that one?"""
        return graph is self

    def append_output(self, operation: Operation, dims: Dims, dtype: DType) -> Tensor:
        """A further output of an operation that owns bodies.

        A gradient asks for what was computed inside.  Plans compiled earlier stay valid: they
        know the outputs that there were.
        """
        with self.root.lock:
            operation.specs.append((dims, dtype))
            tensor = Tensor(operation, len(operation.outputs))
            operation.outputs = (*operation.outputs, tensor)
        return tensor

    def finalize(self) -> None:
        """Forbid further operations."""
        self._finalized = True

    @property
    def finalized(self) -> bool:
        return self.root._finalized

    # ---- what may change later

    def set_shape(self, tensor: Tensor, dims: Dims) -> None:
        with self.root.lock:
            result = merged(tensor.dims, dims)
            if result is CLASH:
                raise ShapeError(
                    f"{tensor!r} cannot have shape {format_dims(dims)}; built at {tensor.op.site}"
                )
            if result != tensor.dims:
                self.set_shapes[tensor] = result
                self.root.epoch += 1

    def add_control_input(self, operation: Operation, before: Operation) -> None:
        """Let `before` run before `operation`, also where both are built already."""
        with self.root.lock:
            self.added_control[operation] = (*self.added_control.get(operation, ()), before)
            self.root.epoch += 1

    def set_device(self, operation: Operation, device: str) -> None:
        """Request another device for an operation that is built already."""
        with self.root.lock:
            self.changed_devices[operation] = device
            self.root.epoch += 1

    def set_mirrors(self, handle: Operation, devices: Sequence[str]) -> None:
        """Have the workers of these devices keep a copy of a variable, which is written wherever
        the variable is.  It must not have a value yet."""
        with self.root.lock:
            key = StateKey(handle.attrs["container"], handle.attrs["shared_name"])
            self.root.mirrors[key] = tuple(devices)
            self.root.epoch += 1

    # ---- finding

    def get_operations(self) -> list[Operation]:
        return list(self.operations)

    def get_operation_by_name(self, name: str) -> Operation:
        """The operation of that name.

        Raises:
          KeyError: no operation has that name.
          TypeError: it is no string.
          ValueError: it is the name of a tensor.
        """
        if not isinstance(name, str):
            raise TypeError(f"names of operations are strings, not {name!r}")
        try:
            return self.by_name[name]
        except KeyError:
            if ":" in name:
                raise GraphError(f"{name!r} names a tensor, not an operation") from None
            raise KeyError(f"the graph has no operation {name!r}{self._similar(name)}") from None

    def get_tensor_by_name(self, name: str) -> Tensor:
        """The tensor called "op:index".

        Raises:
          KeyError: there is none.
          ValueError: the name is that of an operation.
        """
        if not isinstance(name, str):
            raise TypeError(f"names of tensors are strings, not {name!r}")
        op_name, colon, index = name.partition(":")
        if not colon or not index.isdigit():
            raise ValueError(f"{name!r} names no tensor: names of tensors are like 'op:0'")
        outputs = self.get_operation_by_name(op_name).outputs
        if int(index) >= len(outputs):
            raise KeyError(f"operation {op_name!r} has {len(outputs)} outputs, no {name!r}")
        return outputs[int(index)]

    def as_graph_element(
        self, obj: Any, allow_tensor: bool = True, allow_operation: bool = True
    ) -> Any:
        """The tensor or operation that a name or an object stands for.

        Raises:
          TypeError: it stands for neither, or for one that is not allowed.
          KeyError: no element has that name.
          ValueError: it belongs to another graph.
        """
        if isinstance(obj, str):
            found: Any = (
                self.get_tensor_by_name(obj) if ":" in obj else self.get_operation_by_name(obj)
            )
        else:
            found = obj
            if hasattr(obj, "as_graph_element"):
                found = obj.as_graph_element()
        if not (
            (allow_tensor and isinstance(found, Tensor))
            or (allow_operation and isinstance(found, Operation))
        ):
            kinds = [
                n for n, on in (("tensor", allow_tensor), ("operation", allow_operation)) if on
            ]
            raise TypeError(f"{obj!r} is no {' or '.join(kinds)} of a graph")
        if found.graph.root is not self.root:
            site = (found if isinstance(found, Operation) else found.op).site
            raise GraphError(
                f"{found!r} is not an element of this graph, but of another one (built at {site}): "
                "build it under `with graph.as_default():`, or use tf.Session(graph=...)"
            )
        return found

    def _similar(self, name: str) -> str:
        import difflib

        close = difflib.get_close_matches(name, self.by_name, 1)
        return f"; did you mean {close[0]!r}?" if close else ""

    # ---- scopes

    def as_default(self) -> AbstractContextManager[Graph]:
        return defaults.default_graph(self)

    def get_name_scope(self) -> str:
        """The name scope in force, without its last slash."""
        return self.scopes.prefix[:-1]

    def unique_name(self, name: str, mark_as_used: bool = True) -> str:
        """A name that is not taken, in the name scope in force."""
        return self.names.unique(self.scopes.prefix + name, mark_as_used)

    @contextmanager
    def name_scope(self, name: str | None) -> Iterator[str]:
        """Prefix the names of what is built inside; gives the prefix, with its slash.

        A name that ends with "/" is entered as it is; None and "" go back to the root.
        """
        scopes = self.scopes
        if name is None or name == "":
            prefix = ""
        elif not isinstance(name, str):
            raise TypeError(f"names are strings, not {name!r}")
        elif name.endswith("/"):
            prefix = name
        else:
            check_scope_name(name, outermost=not scopes.prefix)
            with self.root.lock:
                prefix = self.names.unique(scopes.prefix + name) + "/"
        with scopes.put(prefix=prefix):
            yield prefix

    @contextmanager
    def device(self, device_name_or_function: Any) -> Iterator[None]:
        """Request a device for what is built inside; inner scopes win part by part.

        Args:
          device_name_or_function: a device name, in part or whole; a function from operation to
            name; None: no request.
        """
        with self.scopes.put(**self.scopes.with_device(device_name_or_function)):
            yield

    @contextmanager
    def container(self, container_name: str) -> Iterator[str]:
        """Put variables, queues and accumulators that are built inside into a container.

        On a server, state of the same name in two containers is not the same, and
        `Session.reset` forgets that of single containers.

        Raises:
          TypeError: the name is no string.
        """
        if not isinstance(container_name, str):
            raise TypeError(f"a container is named by a string, not {container_name!r}")
        with self.root.scopes.put(container=container_name):
            yield container_name

    @contextmanager
    def gradient_override_map(self, op_type_map: Any) -> Iterator[None]:
        """Give operations built inside another gradient, by their type.

        Args:
          op_type_map: type of operations, such as "Sign" -> name under which a gradient was
            registered (`tf.RegisterGradient`), or the type of an op whose gradient to take.

        Raises:
          TypeError: the map is none of strings.
        """
        if not isinstance(op_type_map, Mapping) or not all(
            isinstance(name, str) for pair in op_type_map.items() for name in pair
        ):
            raise TypeError(f"gradient_override_map needs a map of strings, not {op_type_map!r}")
        with self.scopes.put(gradients={**self.scopes.gradients, **op_type_map}):
            yield

    @contextmanager
    def control_dependencies(self, control_inputs: Iterable[Any] | None) -> Iterator[None]:
        """What is built inside runs after the given operations; None: after nothing."""
        if control_inputs is None:
            with self.scopes.put(control=()):
                yield
            return
        known = dict.fromkeys(self.scopes.control)
        for item in control_inputs:
            element = self.root.as_graph_element(item)
            operation = element.op if isinstance(element, Tensor) else element
            if operation.graph is self:
                known[operation] = None
            else:
                self.own_control(operation)
        with self.scopes.put(control=tuple(known)):
            yield

    def own_control(self, operation: Operation) -> None:
        """Depend on an operation of another graph."""
        raise GraphError(f"{operation!r} belongs to another graph (built at {operation.site})")

    @contextmanager
    def colocate_with(self, op: Any, ignore_existing: bool = False) -> Iterator[None]:
        """What is built inside shares the device of `op`, a tensor, operation or variable.

        As in TensorFlow, that is stronger than the device scopes around it.
        """
        if op is None:
            with self.scopes.put(colocation=()) if ignore_existing else nullcontext():
                yield
            return
        element = self.as_graph_element(op)
        operation = element.op if isinstance(element, Tensor) else element
        before = () if ignore_existing else self.scopes.colocation
        with self.scopes.put(colocation=(*before, operation), devices=[], device=""):
            yield

    # ---- collections

    def add_to_collection(self, name: Any, value: Any) -> None:
        self.collections.setdefault(str(name), []).append(value)

    def add_to_collections(self, names: Any, value: Any) -> None:
        for name in (names,) if isinstance(names, str) else dict.fromkeys(names):
            self.add_to_collection(name, value)

    def get_collection_ref(self, name: Any) -> list[Any]:
        return self.collections.setdefault(str(name), [])

    def get_collection(self, name: Any, scope: str | None = None) -> list[Any]:
        """A copy of the collection; with `scope`, the items whose names match it at the start."""
        import re

        items = self.collections.get(str(name), ())
        if scope is None:
            return list(items)
        pattern = re.compile(scope)
        return [item for item in items if pattern.match(getattr(item, "name", ""))]

    def get_all_collection_keys(self) -> list[str]:
        return list(self.collections)

    def clear_collection(self, name: Any) -> None:
        self.collections.pop(str(name), None)

    # ---- TensorFlow's other questions

    @property
    def version(self) -> int:
        return self.root.next_id

    def as_graph_def(self, from_version: int | None = None, add_shapes: bool = False) -> Any:
        """The graph as TensorFlow's `GraphDef`, a protocol buffer.

        Args:
          from_version: only operations that were added since `version` was this.
          add_shapes: give each node its output shapes, in the attribute "_output_shapes".
        """
        assert Graph.exporter is not None  # the package sets it; this layer cannot import it
        return Graph.exporter(self, from_version, add_shapes)

    @property
    def building_function(self) -> bool:
        return self.outer is not None

    def is_feedable(self, tensor: Any) -> bool:
        return isinstance(tensor, Tensor)

    def is_fetchable(self, tensor_or_op: Any) -> bool:
        return isinstance(tensor_or_op, (Tensor, Operation))


def describe(inputs: Iterable[Tensor]) -> str:
    """Inputs with dtypes and shapes, for messages."""
    return ", ".join(f"{t.name}: {t.dtype.name} {format_dims(t.dims)}" for t in inputs)

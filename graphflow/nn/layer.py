"""`Layer`: a function that owns variables, made when it is first called and shared afterwards.

`tf.layers.Layer` and the cells of `tf.nn.rnn_cell` derive from it.
"""

from __future__ import annotations

import copy
import inspect
import re
from collections.abc import Callable
from typing import Any

import numpy as np

from graphflow.base import dtypes, nest
from graphflow.base.dtypes import DType
from graphflow.base.errors import GraphError
from graphflow.base.shapes import size_of
from graphflow.build import Tensor, as_tensor
from graphflow.build.convert import is_symbolic
from graphflow.build.defaults import get_default_graph
from graphflow.build.keys import GraphKeys
from graphflow.ops import initializers
from graphflow.ops.casting import cast
from graphflow.ops.get_variable import get_variable
from graphflow.ops.partitioned import parts_of
from graphflow.ops.shape_ops import shape
from graphflow.ops.variable_scope import VariableScope, variable_scope
from graphflow.ops.variables import Variable


class Layer:
    """A function of tensors with variables of its own.

    Subclasses make their variables in `build(input_shape)` with `add_weight` and compute in
    `call(inputs, ...)`.  The first call builds; every call uses the same variables.

    Args:
      trainable: whether the variables are to be trained.
      name: of the variable scope; by default from the class, made unique.
      dtype: of the variables; by default that of the first input.

    Attributes:
      built: are the variables there?
      input_spec: an `InputSpec`, a list of them, or None.
    """

    def __init__(
        self, trainable: bool = True, name: str | None = None, dtype: Any = None, **kwargs: Any
    ):
        scope = kwargs.pop("_scope", None)
        self._reuse = kwargs.pop("_reuse", None)
        self._regularizer = kwargs.pop("activity_regularizer", None)
        for accepted in ("input_shape", "batch_input_shape", "weights", "autocast", "dynamic"):
            kwargs.pop(accepted, None)
        if kwargs:
            raise TypeError(f"{type(self).__name__}() takes no argument {next(iter(kwargs))!r}")
        self.trainable = trainable
        self.built = False
        self.input_spec: Any = None
        self._dtype: DType | None = None if dtype is None else dtypes.as_dtype(dtype)
        self._base_name = name or snake_case(type(self).__name__)
        self._name = name or _unique(self._base_name)
        self._trainable_weights: list[Variable] = []
        self._non_trainable_weights: list[Variable] = []
        self._losses: list[tuple[Tensor, bool]] = []
        self._updates: list[tuple[Any, bool]] = []
        self._scope: VariableScope | None = None
        if scope is not None:
            with variable_scope(scope) as self._scope:
                pass

    # ---- what subclasses define

    def build(self, input_shape: Any) -> None:
        """Make the variables for inputs of that static shape."""
        self.built = True

    def call(self, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        """The outputs."""
        return inputs

    # ---- calling

    def __call__(self, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        """Apply the layer; it makes its variables when it is first called.

        Args:
          inputs: a tensor or a structure of tensors.
          scope: variable scope, in the first call.
          others: as `call` takes them.

        Raises:
          ValueError: the inputs do not agree with `input_spec`.
        """
        scope = self._set_scope(kwargs.pop("scope", None))
        inputs = nest.map_structure(_converted, inputs)
        reuse = True if self.built else self._reuse
        with variable_scope(scope, reuse=reuse, auxiliary_name_scope=False) as entered:
            if "scope" in inspect.signature(self.call).parameters:
                kwargs["scope"] = entered
            with get_default_graph().name_scope(scope.original_name_scope):
                self._check(inputs)
                self._build(inputs)
                outputs = self.call(inputs, *args, **kwargs)
                self._regularize(outputs)
        return outputs

    def apply(self, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        """The same as calling the layer."""
        return self(inputs, *args, **kwargs)

    def _build(self, inputs: Any) -> None:
        if self.built:
            return
        leaves = [leaf for leaf in nest.flatten(inputs) if hasattr(leaf, "dims")]
        if self._dtype is None and leaves:
            self._dtype = leaves[0].dtype
        self.build(nest.map_structure(lambda x: getattr(x, "shape", None), inputs))
        self.built = True

    def _check(self, inputs: Any) -> None:
        if self.input_spec is None:
            return
        specs, leaves = nest.flatten(self.input_spec), nest.flatten(inputs)
        if len(specs) != len(leaves):
            raise GraphError(f"layer {self.name!r} takes {len(specs)} inputs, not {len(leaves)}")
        for spec, leaf in zip(specs, leaves, strict=True):
            spec.check(leaf, self.name)

    def _regularize(self, outputs: Any) -> None:
        if self._regularizer is None:
            return
        for output in nest.flatten(outputs):
            with get_default_graph().name_scope("ActivityRegularizer"):
                loss = as_tensor(self._regularizer(output))
                batch = cast(shape(output)[0], loss.dtype)
                self.add_loss(loss / batch, inputs=output)

    def _set_scope(self, given: Any) -> VariableScope:
        """The variable scope of this layer, which its first use decides."""
        if self._scope is None:
            default = None if self._reuse else self._base_name
            chosen = self._base_name if self._reuse and given is None else given
            with variable_scope(chosen, default_name=default) as self._scope:
                pass
        return self._scope

    # ---- variables

    def add_weight(
        self,
        name: str,
        shape: Any = None,
        dtype: Any = None,
        initializer: Any = None,
        regularizer: Callable[[Any], Any] | None = None,
        trainable: bool | None = None,
        constraint: Any = None,
        use_resource: bool | None = None,
        synchronization: Any = None,
        aggregation: Any = None,
        partitioner: Any = None,
    ) -> Any:
        """A new variable of the layer, or the one of that name where its scope is reused.

        Args:
          name: inside the scope of the layer.
          dtype: by default that of the layer, or float32.
          initializer: a function, a value, or the name of one in `tf.initializers`.
          regularizer: function of the variable whose value is added to the losses.
          others: as `tf.get_variable`.
        """
        scope = self._set_scope(None)
        root = get_default_graph().root
        existing = set(root.get_collection(GraphKeys.GLOBAL_VARIABLES)) if regularizer else set()
        reuse = self.built or self._reuse
        if isinstance(initializer, str):
            initializer = getattr(initializers, initializer)
        with (
            variable_scope(scope, reuse=reuse, auxiliary_name_scope=False),
            get_default_graph().name_scope(scope.original_name_scope),
        ):
            variable = get_variable(
                name,
                () if shape is None else shape,
                dtype=dtype or self._dtype or dtypes.float32,
                initializer=initializer,
                trainable=trainable is not False and self.trainable,
                constraint=constraint,
                partitioner=partitioner,
                use_resource=use_resource,
            )
            for part in parts_of(variable):
                if regularizer is not None and part not in existing:
                    with get_default_graph().name_scope(f"{name}/Regularizer"):
                        self.add_loss(regularizer(part))
        for part in parts_of(variable):
            self._keep(part)
        return variable

    add_variable = add_weight

    def _keep(self, variable: Variable) -> None:
        known = self._trainable_weights + self._non_trainable_weights
        if all(variable is not v for v in known):
            kept = self._trainable_weights if variable.trainable else self._non_trainable_weights
            kept.append(variable)

    @property
    def trainable_weights(self) -> list[Variable]:
        return list(self._trainable_weights) if self.trainable else []

    @property
    def non_trainable_weights(self) -> list[Variable]:
        frozen = [] if self.trainable else self._trainable_weights
        return [*frozen, *self._non_trainable_weights]

    @property
    def weights(self) -> list[Variable]:
        """The trainable variables, then the others."""
        return self.trainable_weights + self.non_trainable_weights

    @property
    def trainable_variables(self) -> list[Variable]:
        return self.trainable_weights

    @property
    def non_trainable_variables(self) -> list[Variable]:
        return self.non_trainable_weights

    @property
    def variables(self) -> list[Variable]:
        return self.weights

    def count_params(self) -> int:
        """Number of scalars in the variables.

        Raises:
          ValueError: the layer has not been built.
        """
        if not self.built:
            raise GraphError(f"layer {self.name!r} has no variables yet: call or build it first")
        return sum(size_of(v.dims) or 0 for v in self.weights)

    # ---- losses and updates

    def add_loss(self, losses: Any, inputs: Any = None) -> None:
        """Keep losses, and add them to the collection of regularisation losses."""
        for loss in _listed(losses):
            self._losses.append((loss, inputs is not None))
            get_default_graph().add_to_collection(GraphKeys.REGULARIZATION_LOSSES, loss)

    def add_update(self, updates: Any, inputs: Any = None) -> None:
        """Keep operations to run in each training step, and add them to their collection."""
        for update in _listed(updates):
            self._updates.append((update, inputs is not None))
            get_default_graph().add_to_collection(GraphKeys.UPDATE_OPS, update)

    @property
    def losses(self) -> list[Tensor]:
        return [loss for loss, _ in self._losses]

    @property
    def updates(self) -> list[Any]:
        return [update for update, _ in self._updates]

    def get_losses_for(self, inputs: Any) -> list[Tensor]:
        """The losses that depend on inputs, or for None those that do not."""
        return [loss for loss, depends in self._losses if depends == (inputs is not None)]

    def get_updates_for(self, inputs: Any) -> list[Any]:
        """The updates that depend on inputs, or for None those that do not."""
        return [update for update, depends in self._updates if depends == (inputs is not None)]

    # ---- names

    @property
    def name(self) -> str:
        return self._name

    @property
    def dtype(self) -> DType | None:
        return self._dtype

    @property
    def scope_name(self) -> str:
        """Name of the variable scope.

        Raises:
          ValueError: the layer has not been called.
        """
        if self._scope is None:
            raise GraphError(f"layer {self.name!r} has no scope until it is first called")
        return self._scope.name

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        """A layer of the same variables and tensors, where it is built already."""
        result = type(self).__new__(type(self))
        memo[id(self)] = result
        for key, value in self.__dict__.items():
            if is_symbolic(value):
                result.__dict__[key] = value
            elif isinstance(value, VariableScope) or any(map(is_symbolic, _leaves(value))):
                result.__dict__[key] = copy.copy(value)
            else:
                result.__dict__[key] = copy.deepcopy(value, memo)
        return result


def snake_case(name: str) -> str:
    """basic_lstm_cell for BasicLSTMCell."""
    spaced = re.sub("(.)([A-Z][a-z0-9]+)", r"\1_\2", name)
    result = re.sub("([a-z])([A-Z])", r"\1_\2", spaced).lower()
    return f"private{result}" if result.startswith("_") else result


def _unique(base: str) -> str:
    """dense_1, dense_2, ...: counted in the graph."""
    counts = get_default_graph().get_collection_ref("__layer_names")
    if not counts:
        counts.append({})
    counts[0][base] = counts[0].get(base, 0) + 1
    return f"{base}_{counts[0][base]}"


def _converted(value: Any) -> Any:
    """Arrays and numbers become tensors; what is symbolic stays as it is."""
    if isinstance(value, (np.ndarray, np.generic, int, float)):
        return as_tensor(value)
    return value


def _listed(values: Any) -> list[Any]:
    values = values if isinstance(values, (list, tuple)) else [values]
    return [value for value in values if value is not None]


def _leaves(value: Any) -> list[Any]:
    try:
        return nest.flatten(value)
    except TypeError:  # a dict whose keys do not sort
        return list(value.values())

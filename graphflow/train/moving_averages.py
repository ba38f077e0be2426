"""Moving averages of variables and tensors."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from graphflow import ops
from graphflow.base import dtypes
from graphflow.base.errors import DTypeError, GraphError
from graphflow.build import Operation, Tensor, as_tensor
from graphflow.build.defaults import get_default_graph
from graphflow.build.keys import GraphKeys
from graphflow.ops.variable_scope import variable_scope
from graphflow.ops.variables import Variable
from graphflow.train.slots import create_slot


def assign_moving_average(
    variable: Variable, value: Any, decay: Any, zero_debias: bool = True, name: str | None = None
) -> Tensor:
    """variable = variable * decay + value * (1 - decay).

    Args:
      zero_debias: for averages that start at 0: divide by 1 - decay ** updates, so that the first
        ones are no smaller than the values (Kingma and Ba, "Adam", ICLR 2015).

    Returns:
      The new average.
    """
    graph = get_default_graph()
    with graph.name_scope(name or "AssignMovingAvg"), graph.colocate_with(variable.handle.op):
        rate = ops.cast(1.0 - as_tensor(decay), variable.dtype)
        given = ops.cast(as_tensor(value), variable.dtype)
        if not zero_debias:
            return variable.assign_sub((variable.value() - given) * rate)
        with variable_scope(variable.op.name):
            biased = ops.get_variable(
                "biased", variable.shape, variable.dtype, ops.zeros_initializer(), trainable=False
            )
            count = ops.get_variable(
                "local_step", [], variable.dtype, ops.zeros_initializer(), trainable=False
            )
        total = biased.assign_sub((biased.value() - given) * rate)
        updates = count.assign_add(1.0)
        return variable.assign(total / (1.0 - ops.pow(1.0 - rate, updates)))


class ExponentialMovingAverage:
    """Averages of variables, in which older values count less.

    `apply` makes a shadow variable for each and the operation that updates it; `average` gives
    the shadow; `variables_to_restore` says how a `Saver` puts averages into the variables.
    """

    def __init__(
        self,
        decay: float,
        num_updates: Any = None,
        zero_debias: bool = False,
        name: str = "ExponentialMovingAverage",
    ):
        """Args:
        decay: the average keeps this part of itself in each update.
        num_updates: where given, the decay is at most (1 + num_updates) / (10 + num_updates), so
          that the first averages move faster.
        zero_debias: averages of tensors, which start at 0, are corrected for that.
        name: last part of the names of the shadows.
        """
        self._decay = decay
        self._num_updates = num_updates
        self._zero_debias = zero_debias
        self._name = name
        self._averages: dict[Any, Variable] = {}

    @property
    def name(self) -> str:
        return self._name

    def apply(self, var_list: Iterable[Any] | None = None) -> Operation:
        """The operation that updates the averages.

        Args:
          var_list: variables and tensors; by default the trainable variables.

        Raises:
          TypeError: one is not floating.
        """
        chosen = ops.trainable_variables() if var_list is None else list(var_list)
        graph = get_default_graph()
        for item in chosen:
            if not item.dtype.is_floating:
                raise DTypeError(f"averages are of floating values, not {item.dtype.name}: {item}")
            if item not in self._averages:
                self._averages[item] = self._shadow(item)
            if isinstance(item, Variable) and item not in graph.get_collection(
                GraphKeys.MOVING_AVERAGE_VARIABLES
            ):
                graph.add_to_collection(GraphKeys.MOVING_AVERAGE_VARIABLES, item)
        with graph.name_scope(self._name) as scope:
            decay = as_tensor(self._decay, dtypes.float32, name="decay")
            if self._num_updates is not None:
                count = ops.cast(as_tensor(self._num_updates), dtypes.float32)
                decay = ops.minimum(decay, (1.0 + count) / (10.0 + count))
            updates = [
                assign_moving_average(
                    self._averages[item], item, decay,
                    self._zero_debias and not isinstance(item, Variable),
                )
                for item in chosen
            ]  # fmt: skip
            return ops.group(*updates, name=scope)

    def _shadow(self, item: Any) -> Variable:
        """A variable starts at its own first value, a tensor at 0."""
        if isinstance(item, Variable):
            return create_slot(item, item.initialized_value(), self._name)
        if not item.shape.is_fully_defined():
            raise GraphError(f"the average of {item!r} needs its static shape")
        with ops.init_scope(), get_default_graph().name_scope(None):
            return Variable(
                lambda: ops.zeros(item.shape, item.dtype), trainable=False,
                name=f"{item.op.name}/{self._name}",
            )  # fmt: skip

    def average(self, var: Any) -> Variable | None:
        """The shadow of a variable or tensor, or None."""
        return self._averages.get(var)

    def average_name(self, var: Any) -> str:
        """The name of the shadow, or the one that it would get."""
        if var in self._averages:
            return self._averages[var].op.name
        return get_default_graph().root.names.unique(f"{var.op.name}/{self._name}", False)

    def variables_to_restore(
        self, moving_avg_variables: Iterable[Variable] | None = None
    ) -> dict[str, Variable]:
        """What a `Saver` restores so that variables start with their averages: names in the
        checkpoint -> variables; those without averages have their own names."""
        if moving_avg_variables is None:
            moving_avg_variables = [*ops.trainable_variables(), *ops.moving_average_variables()]
        averaged = dict.fromkeys(moving_avg_variables)
        found = {self.average_name(v): v for v in averaged}
        taken = {v.op.name for v in averaged}
        for variable in ops.global_variables():
            if variable.op.name not in taken and variable.op.name not in found:
                found[variable.op.name] = variable
        return found

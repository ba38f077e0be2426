"""Optimizer: gradients of a loss, and their application to variables.

Updates are made of ordinary ops, so that they are placed, partitioned and fused like everything
else.  A subclass says how in `_apply_dense` and `_apply_sparse`, as in TensorFlow.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

from graphflow.base.errors import GraphError
from graphflow.build import Operation, Tensor, as_tensor
from graphflow.build.defaults import get_default_graph
from graphflow.build.keys import GraphKeys
from graphflow.differentiate import gradients
from graphflow.ops import shape, unique
from graphflow.ops.segments import unsorted_segment_sum
from graphflow.ops.slices import IndexedSlices
from graphflow.ops.sources import group
from graphflow.ops.variables import Variable, trainable_variables
from graphflow.train.slots import create_filled_slot, create_slot, create_zeros_slot


class Optimizer:
    """Base of the optimizers.

    Subclasses implement `_apply_dense(grad, var)` and, where rows should be updated alone,
    `_apply_sparse(grad, var)`; `_create_slots(var_list)`, `_prepare()` and
    `_finish(update_ops, name_scope)` if they need them.
    """

    GATE_NONE: ClassVar[int] = 0
    GATE_OP: ClassVar[int] = 1
    GATE_GRAPH: ClassVar[int] = 2

    def __init__(self, use_locking: bool = False, name: str = ""):
        """Args:
        use_locking: accepted; updates never race.
        name: prefix of the operations; needed.

        Raises:
          ValueError: there is no name.
        """
        if not name:
            raise GraphError("an optimizer needs a name")
        self._name = name
        self._use_locking = use_locking
        self._slots: dict[str, dict[Variable, Variable]] = {}
        self._others: dict[tuple[str, Any], Variable] = {}

    def get_name(self) -> str:
        return self._name

    def minimize(
        self,
        loss: Tensor,
        global_step: Variable | None = None,
        var_list: Any = None,
        gate_gradients: int = GATE_OP,
        aggregation_method: Any = None,
        colocate_gradients_with_ops: bool = False,
        name: str | None = None,
        grad_loss: Any = None,
    ) -> Operation:
        """The operation that updates the variables so that the loss falls.

        Args:
          loss: a scalar, usually; the sum of its elements falls otherwise.
          global_step: incremented by the operation.
          var_list: the variables; by default the trainable ones.
          others: as `compute_gradients` and `apply_gradients`.

        Raises:
          ValueError: the loss depends on none of the variables.
        """
        pairs = self.compute_gradients(
            loss, var_list, gate_gradients, aggregation_method, colocate_gradients_with_ops,
            grad_loss,
        )  # fmt: skip
        if all(grad is None for grad, _ in pairs):
            raise GraphError(
                f"the loss {as_tensor(loss).name!r} depends on none of the variables "
                f"{[v.name for _, v in pairs]}: is it computed from them?"
            )
        return self.apply_gradients(pairs, global_step, name)

    def compute_gradients(
        self,
        loss: Any,
        var_list: Any = None,
        gate_gradients: int = GATE_OP,
        aggregation_method: Any = None,
        colocate_gradients_with_ops: bool = False,
        grad_loss: Any = None,
    ) -> list[tuple[Any, Variable]]:
        """Pairs of gradient and variable; the gradient is None where the loss does not depend.

        Raises:
          ValueError: there are no variables, or the loss is not floating.
          TypeError: something in `var_list` is no variable.
        """
        variables = trainable_variables() if var_list is None else _listed(var_list)
        if not variables:
            raise GraphError("no variables to optimize: make some before the optimizer")
        for variable in variables:
            if not isinstance(variable, Variable):
                raise TypeError(f"{variable!r} in var_list is no tf.Variable")
        loss = as_tensor(loss() if callable(loss) else loss)
        if not loss.dtype.is_floating:
            raise GraphError(f"the loss {loss.name!r} must be floating, not {loss.dtype.name}")
        grads = gradients(
            loss, variables, grad_loss, gate_gradients=gate_gradients == self.GATE_OP,
            aggregation_method=aggregation_method,
            colocate_gradients_with_ops=colocate_gradients_with_ops,
        )  # fmt: skip
        return list(zip(grads, variables, strict=True))

    def apply_gradients(
        self,
        grads_and_vars: Iterable[tuple[Any, Variable]],
        global_step: Variable | None = None,
        name: str | None = None,
    ) -> Operation:
        """The operation that applies gradients to variables; pairs with None are passed over.

        Raises:
          ValueError: there is no gradient at all.
        """
        pairs = [(_as_gradient(g), v) for g, v in grads_and_vars]
        present = [(g, v) for g, v in pairs if g is not None]
        if not present:
            raise GraphError(f"no gradients given for any of {[v.name for _, v in pairs]}")
        self._create_slots([v for _, v in present])
        graph = get_default_graph()
        with graph.name_scope(name or self._name) as scope:
            self._prepare()
            updates = []
            for grad, variable in present:
                with (
                    graph.name_scope(f"update_{variable.op.name}"),
                    graph.colocate_with(variable.handle.op),
                ):
                    updates.append(self._apply(grad, variable))
            finished = self._finish(updates, scope if global_step is None else "update")
            if global_step is not None:
                with (
                    graph.control_dependencies([finished]),
                    graph.colocate_with(global_step.handle.op),
                ):
                    finished = global_step.assign_add(1, name=scope, read_value=False)
        graph.add_to_collection(GraphKeys.TRAIN_OP, finished)
        return finished

    def _apply(self, grad: Any, variable: Variable) -> Any:
        if isinstance(grad, IndexedSlices):
            update = self._apply_sparse_duplicate_indices(grad, variable)
        else:
            update = self._apply_dense(grad, variable)
        if variable.constraint is None:
            return update
        graph = get_default_graph()
        with graph.control_dependencies([update]):
            return variable.assign(variable.constraint(variable.value()))

    # ---- what subclasses define

    def _create_slots(self, var_list: Sequence[Variable]) -> None:
        """Make the slots; called before the first update."""

    def _prepare(self) -> None:
        """Make tensors of the hyperparameters."""

    def _apply_dense(self, grad: Tensor, var: Variable) -> Any:
        """Update a variable with a gradient of its shape; returns a tensor or operation."""
        raise NotImplementedError(f"{type(self).__name__} has no _apply_dense")

    def _apply_sparse(self, grad: IndexedSlices, var: Variable) -> Any:
        """Update rows of a variable, none of them twice; by default the whole of it."""
        return self._apply_dense(as_tensor(grad), var)

    def _apply_sparse_duplicate_indices(self, grad: IndexedSlices, var: Variable) -> Any:
        """As `_apply_sparse`, where rows may be repeated: their gradients add up first."""
        rows, positions = unique(grad.indices)
        values = unsorted_segment_sum(grad.values, positions, shape(rows)[0])
        return self._apply_sparse(IndexedSlices(values, rows, grad.dense_shape), var)

    def _finish(self, update_ops: Sequence[Any], name_scope: str) -> Operation:
        """The operation that is all the updates."""
        return group(*update_ops, name=name_scope)

    # ---- slots

    def get_slot(self, var: Variable, name: str) -> Variable | None:
        """The slot of a variable, or None."""
        return self._slots.get(name, {}).get(var)

    def get_slot_names(self) -> list[str]:
        """Names of the kinds of slots."""
        return sorted(self._slots)

    def variables(self) -> list[Variable]:
        """All variables that the optimizer made, by name."""
        made = [v for slots in self._slots.values() for v in slots.values()]
        return sorted([*made, *self._others.values()], key=lambda v: v.name)

    def _zeros_slot(self, var: Variable, slot_name: str, op_name: str) -> Variable:
        slots = self._slots.setdefault(slot_name, {})
        if var not in slots:
            slots[var] = create_zeros_slot(var, op_name)
        return slots[var]

    def _filled_slot(self, var: Variable, value: float, slot_name: str, op_name: str) -> Variable:
        slots = self._slots.setdefault(slot_name, {})
        if var not in slots:
            slots[var] = create_filled_slot(var, value, op_name)
        return slots[var]

    def _get_or_make_slot(self, var: Variable, val: Any, slot_name: str, op_name: str) -> Variable:
        slots = self._slots.setdefault(slot_name, {})
        if var not in slots:
            slots[var] = create_slot(var, val, op_name)
        return slots[var]

    def _create_non_slot_variable(
        self, initial_value: Any, name: str, colocate_with: Variable
    ) -> Variable:
        """A variable of the optimizer itself, one per graph."""
        graph = get_default_graph().root
        if (name, graph) not in self._others:
            with graph.colocate_with(colocate_with.handle.op):
                made = Variable(initial_value, trainable=False, name=name)
            self._others[name, graph] = made
        return self._others[name, graph]

    def _get_non_slot_variable(self, name: str, graph: Any = None) -> Variable:
        return self._others[name, get_default_graph().root]

    @staticmethod
    def _call_if_callable(value: Any) -> Any:
        return value() if callable(value) else value


def _listed(variables: Any) -> list[Any]:
    if isinstance(variables, (list, tuple)):
        return [v for item in variables for v in _listed(item)]
    return [variables]


def _as_gradient(grad: Any) -> Any:
    if grad is None or isinstance(grad, IndexedSlices):
        return grad
    return as_tensor(grad)

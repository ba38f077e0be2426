"""The optimizers, with TensorFlow 1's formulas, argument names and slot names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from graphflow.build import Tensor, as_tensor
from graphflow.build.defaults import get_default_graph
from graphflow.ops import gather, scatter_add, scatter_sub, scatter_update, sqrt, square
from graphflow.ops.casting import cast
from graphflow.ops.slices import IndexedSlices
from graphflow.ops.sources import group
from graphflow.ops.variables import Variable
from graphflow.train.optimizer import Optimizer


class _WithHyperparameters(Optimizer):
    """Numbers or tensors become tensors once per application, in each variable's dtype."""

    def __init__(self, use_locking: bool, name: str, **hyperparameters: Any):
        super().__init__(use_locking, name)
        self._given = hyperparameters
        self._tensors: dict[str, Tensor] = {}

    def _prepare(self) -> None:
        self._tensors = {
            key: as_tensor(self._call_if_callable(value), name=key)
            for key, value in self._given.items()
        }

    def _get(self, key: str, var: Variable) -> Tensor:
        return cast(self._tensors[key], var.dtype)

    def _assigned(self, var: Variable, slots: dict[str, Tensor], delta: Tensor) -> Any:
        """Give the slots new values and subtract `delta` from the variable."""
        new = [self._slots[name][var].assign(value) for name, value in slots.items()]
        return group(*new, var.assign_sub(delta))

    def _scattered(
        self, var: Variable, rows: Tensor, slots: dict[str, Tensor], delta: Tensor
    ) -> Any:
        """As `_assigned`, for some rows."""
        new = [scatter_update(self._slots[name][var], rows, v) for name, v in slots.items()]
        return group(*new, scatter_sub(var, rows, delta))


class GradientDescentOptimizer(_WithHyperparameters):
    """var -= learning_rate * grad."""

    def __init__(
        self, learning_rate: Any, use_locking: bool = False, name: str = "GradientDescent"
    ):
        super().__init__(use_locking, name, learning_rate=learning_rate)

    def _apply_dense(self, grad: Tensor, var: Variable) -> Any:
        return var.assign_sub(grad * self._get("learning_rate", var))

    def _apply_sparse_duplicate_indices(self, grad: IndexedSlices, var: Variable) -> Any:
        delta = grad.values * self._get("learning_rate", var)
        return scatter_sub(var, grad.indices, delta)


class MomentumOptimizer(_WithHyperparameters):
    """accum = momentum * accum + grad; var -= learning_rate * accum.

    With Nesterov's momentum: var -= learning_rate * (grad + momentum * accum).
    """

    def __init__(
        self,
        learning_rate: Any,
        momentum: Any,
        use_locking: bool = False,
        name: str = "Momentum",
        use_nesterov: bool = False,
    ):
        super().__init__(use_locking, name, learning_rate=learning_rate, momentum=momentum)
        self._use_nesterov = use_nesterov

    def _create_slots(self, var_list: Sequence[Variable]) -> None:
        for var in var_list:
            self._zeros_slot(var, "momentum", self._name)

    def _step(self, accum: Any, grad: Any, var: Variable) -> tuple[Tensor, Tensor]:
        """The new accumulator and what to subtract."""
        rate, momentum = self._get("learning_rate", var), self._get("momentum", var)
        new = accum * momentum + grad
        if self._use_nesterov:
            return new, grad * rate + new * momentum * rate
        return new, new * rate

    def _apply_dense(self, grad: Tensor, var: Variable) -> Any:
        new, delta = self._step(self._slots["momentum"][var], grad, var)
        return self._assigned(var, {"momentum": new}, delta)

    def _apply_sparse(self, grad: IndexedSlices, var: Variable) -> Any:
        slot = self._slots["momentum"][var]
        new, delta = self._step(gather(slot, grad.indices), grad.values, var)
        return group(scatter_update(slot, grad.indices, new), scatter_sub(var, grad.indices, delta))


class AdagradOptimizer(_WithHyperparameters):
    """accum += grad**2; var -= learning_rate * grad / sqrt(accum).

    Source: Duchi, Hazan, Singer (2011).
    """

    def __init__(
        self,
        learning_rate: Any,
        initial_accumulator_value: float = 0.1,
        use_locking: bool = False,
        name: str = "Adagrad",
    ):
        """Raises:
        ValueError: the initial value is not positive.
        """
        if initial_accumulator_value <= 0:
            raise ValueError(
                f"initial_accumulator_value must be positive, not {initial_accumulator_value}"
            )
        super().__init__(use_locking, name, learning_rate=learning_rate)
        self._initial = initial_accumulator_value

    def _create_slots(self, var_list: Sequence[Variable]) -> None:
        for var in var_list:
            self._filled_slot(var, self._initial, "accumulator", self._name)

    def _apply_dense(self, grad: Tensor, var: Variable) -> Any:
        new = self._slots["accumulator"][var] + square(grad)
        delta = grad * self._get("learning_rate", var) / sqrt(new)
        return self._assigned(var, {"accumulator": new}, delta)

    def _apply_sparse(self, grad: IndexedSlices, var: Variable) -> Any:
        slot = self._slots["accumulator"][var]
        new = gather(slot, grad.indices) + square(grad.values)
        delta = grad.values * self._get("learning_rate", var) / sqrt(new)
        return group(scatter_update(slot, grad.indices, new), scatter_sub(var, grad.indices, delta))


class AdadeltaOptimizer(_WithHyperparameters):
    """Steps scaled by running means of squared updates over those of squared gradients.

    Source: Zeiler (2012), arXiv:1212.5701.
    """

    def __init__(
        self,
        learning_rate: Any = 0.001,
        rho: Any = 0.95,
        epsilon: Any = 1e-8,
        use_locking: bool = False,
        name: str = "Adadelta",
    ):
        super().__init__(use_locking, name, learning_rate=learning_rate, rho=rho, epsilon=epsilon)

    def _create_slots(self, var_list: Sequence[Variable]) -> None:
        for var in var_list:
            self._zeros_slot(var, "accum", self._name)
            self._zeros_slot(var, "accum_update", self._name)

    def _means(self, var: Variable, grad: Any, read: Any) -> tuple[dict[str, Tensor], Tensor]:
        """New values of the slots, and what to subtract."""
        accum, accum_update = (read(self._slots[k][var]) for k in ("accum", "accum_update"))
        rho, epsilon = self._get("rho", var), self._get("epsilon", var)
        new = accum * rho + square(grad) * (1 - rho)
        update = sqrt(accum_update + epsilon) / sqrt(new + epsilon) * grad
        new_update = accum_update * rho + square(update) * (1 - rho)
        delta = update * self._get("learning_rate", var)
        return {"accum": new, "accum_update": new_update}, delta

    def _apply_dense(self, grad: Tensor, var: Variable) -> Any:
        return self._assigned(var, *self._means(var, grad, lambda slot: slot.value()))

    def _apply_sparse(self, grad: IndexedSlices, var: Variable) -> Any:
        rows = grad.indices
        means = self._means(var, grad.values, lambda slot: gather(slot, rows))
        return self._scattered(var, rows, *means)


class RMSPropOptimizer(_WithHyperparameters):
    """ms = decay * ms + (1 - decay) * grad**2
    mom = momentum * mom + learning_rate * grad / sqrt(ms + epsilon); var -= mom

    Centered: mg = decay * mg + (1 - decay) * grad, and ms - mg**2 in place of ms.
    Source: Tieleman, Hinton (2012), lecture 6e; centered: Graves (2013), arXiv:1308.0850.
    """

    def __init__(
        self,
        learning_rate: Any,
        decay: Any = 0.9,
        momentum: Any = 0.0,
        epsilon: Any = 1e-10,
        use_locking: bool = False,
        centered: bool = False,
        name: str = "RMSProp",
    ):
        super().__init__(
            use_locking, name, learning_rate=learning_rate, decay=decay, momentum=momentum,
            epsilon=epsilon,
        )  # fmt: skip
        self._centered = centered

    def _create_slots(self, var_list: Sequence[Variable]) -> None:
        for var in var_list:
            self._filled_slot(var, 1.0, "rms", self._name)
            if self._centered:
                self._zeros_slot(var, "mg", self._name)
            self._zeros_slot(var, "momentum", self._name)

    def _means(self, var: Variable, grad: Any, read: Any) -> tuple[dict[str, Tensor], Tensor]:
        """New values of the slots, and the step."""
        decay, momentum = self._get("decay", var), self._get("momentum", var)
        rate, epsilon = self._get("learning_rate", var), self._get("epsilon", var)
        rms, mom = read(self._slots["rms"][var]), read(self._slots["momentum"][var])
        new = {"rms": rms + (square(grad) - rms) * (1 - decay)}
        spread = new["rms"]
        if self._centered:
            mean = read(self._slots["mg"][var])
            new["mg"] = mean + (grad - mean) * (1 - decay)
            spread = spread - square(new["mg"])
        new["momentum"] = mom * momentum + grad * rate / sqrt(spread + epsilon)
        return new, new["momentum"]

    def _apply_dense(self, grad: Tensor, var: Variable) -> Any:
        return self._assigned(var, *self._means(var, grad, lambda slot: slot.value()))

    def _apply_sparse(self, grad: IndexedSlices, var: Variable) -> Any:
        rows = grad.indices
        means = self._means(var, grad.values, lambda slot: gather(slot, rows))
        return self._scattered(var, rows, *means)


class AdamOptimizer(_WithHyperparameters):
    """m += (1 - beta1) * (grad - m); v += (1 - beta2) * (grad**2 - v)
    var -= learning_rate * sqrt(1 - beta2**t) / (1 - beta1**t) * m / (sqrt(v) + epsilon)

    Source: Kingma, Ba (2015), arXiv:1412.6980, with epsilon outside the bias correction as in
    TensorFlow ("epsilon hat").
    """

    def __init__(
        self,
        learning_rate: Any = 0.001,
        beta1: Any = 0.9,
        beta2: Any = 0.999,
        epsilon: Any = 1e-8,
        use_locking: bool = False,
        name: str = "Adam",
    ):
        super().__init__(
            use_locking, name, learning_rate=learning_rate, beta1=beta1, beta2=beta2,
            epsilon=epsilon,
        )  # fmt: skip

    def _create_slots(self, var_list: Sequence[Variable]) -> None:
        first = min(var_list, key=lambda v: v.name)
        for key in ("beta1", "beta2"):
            value = self._call_if_callable(self._given[key])
            self._create_non_slot_variable(value, f"{key}_power", first)
        for var in var_list:
            self._zeros_slot(var, "m", self._name)
            self._zeros_slot(var, "v", self._name)

    def _rate(self, var: Variable) -> Tensor:
        """The learning rate with the bias corrections of this step."""
        power1 = cast(self._get_non_slot_variable("beta1_power"), var.dtype)
        power2 = cast(self._get_non_slot_variable("beta2_power"), var.dtype)
        return self._get("learning_rate", var) * sqrt(1 - power2) / (1 - power1)

    def _apply_dense(self, grad: Tensor, var: Variable) -> Any:
        m, v = self._slots["m"][var], self._slots["v"][var]
        new_m = m + (grad - m) * (1 - self._get("beta1", var))
        new_v = v + (square(grad) - v) * (1 - self._get("beta2", var))
        delta = new_m * self._rate(var) / (sqrt(new_v) + self._get("epsilon", var))
        return group(m.assign(new_m), v.assign(new_v), var.assign_sub(delta))

    def _apply_sparse(self, grad: IndexedSlices, var: Variable) -> Any:
        m, v = self._slots["m"][var], self._slots["v"][var]
        beta1, beta2 = self._get("beta1", var), self._get("beta2", var)
        graph = get_default_graph()
        with graph.control_dependencies([m.assign(m * beta1), v.assign(v * beta2)]):
            new_m = scatter_add(m, grad.indices, grad.values * (1 - beta1))
            new_v = scatter_add(v, grad.indices, square(grad.values) * (1 - beta2))
        delta = new_m * self._rate(var) / (sqrt(new_v) + self._get("epsilon", var))
        return group(new_m, new_v, var.assign_sub(delta))

    def _finish(self, update_ops: Sequence[Any], name_scope: str) -> Any:
        powers = [self._get_non_slot_variable(f"{key}_power") for key in ("beta1", "beta2")]
        graph = get_default_graph()
        with graph.control_dependencies(update_ops):
            news = [
                power.assign(power * self._tensors[key])
                for power, key in zip(powers, ("beta1", "beta2"), strict=True)
            ]
        return super()._finish([*update_ops, *news], name_scope)

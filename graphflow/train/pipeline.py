"""Pipelines: the stages of a network on devices of their own, fed with micro-batches.

    pipeline = tf.distribute.Pipeline(optimizer, [first, second], microbatches=8)
    train = pipeline.minimize(x, loss, targets=[y])

While one stage works on a micro-batch, the next one works on that before it.  In both orders, K
equal stages and M micro-batches leave devices idle for (K - 1) / (M + K - 1) of the time; "gpipe"
keeps what the gradients need of all M micro-batches, "1f1b" of at most K.

Gradients add up in the order of the micro-batches, in either order and on any devices: the bits
are those of one device.

Sources: Huang et al., "GPipe", 2019; Narayanan et al., "PipeDream", 2019.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from graphflow.base.errors import GraphError
from graphflow.build import Operation, Tensor, as_tensor
from graphflow.build.defaults import get_default_graph
from graphflow.differentiate import gradients
from graphflow.ops import cast
from graphflow.ops.sources import group
from graphflow.ops.variable_scope import get_variable_scope, variable_scope
from graphflow.ops.variables import Variable, trainable_variables
from graphflow.place.schedules import Order, stage_order
from graphflow.train.optimizer import Optimizer
from graphflow.train.replicate import cut

Stage = Callable[[Any], Any]


class Pipeline:
    """Trains a chain of stages.

    Attributes:
      loss: the mean loss of the batch, once `minimize` was called.
      devices: one per stage.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        stages: Sequence[Stage],
        microbatches: int,
        devices: Sequence[str] | None = None,
        order: Order = "1f1b",
        name: str = "pipeline",
    ):
        """Args:
        optimizer: applies the mean gradients.
        stages: functions from a tensor to a tensor, each of the output of the one before; their
          variables live on the stage's device.
        microbatches: into how many parts a batch is cut.
        devices: one per stage; by default a worker for each.
        order: "1f1b" or "gpipe".

        Raises:
          ValueError: there are no stages or micro-batches, or not as many devices as stages.
        """
        names = [f"/job:worker/task:{i}" for i in range(len(stages))]
        self.devices = names if devices is None else list(devices)
        if not stages or microbatches < 1 or len(self.devices) != len(stages):
            raise GraphError(
                f"{len(stages)} stages on {len(self.devices)} devices with {microbatches} "
                "micro-batches: each stage needs a device, and at least one micro-batch"
            )
        self._optimizer = optimizer
        self._stages = list(stages)
        self._microbatches = microbatches
        self._order: Order = order
        self._name = name
        self.loss: Tensor | None = None

    def minimize(
        self,
        inputs: Any,
        loss: Callable[..., Any],
        targets: Sequence[Any] = (),
        global_step: Variable | None = None,
    ) -> Operation:
        """The operation that trains on one batch.

        Args:
          inputs: what the first stage takes, the examples along the first axis; at least as many
            as micro-batches.
          loss: a function of the last stage's output and the targets: the mean loss of the
            examples. Part of the last stage.
          targets: tensors that are cut as the inputs are.
          global_step: incremented by the operation.
        """
        graph = get_default_graph()
        with graph.name_scope(self._name):
            with graph.device(self.devices[0]):
                batches = [as_tensor(each) for each in (inputs, *targets)]
                pieces, shares = cut(batches, self._microbatches)
            work = _Work(self._stages, self.devices, pieces, shares, loss)
            for key in self._sequence():
                work.do(*key)
            last = self.devices[-1]
            with graph.device(last):
                self.loss = _total(work.losses) / float(self._microbatches)
            pairs = work.means(float(self._microbatches))
        return self._optimizer.apply_gradients(pairs, global_step)

    def _sequence(self) -> list[tuple[str, int, int]]:
        """(way, stage, micro-batch) of all tasks: each stage's in its order, and each after those
        it needs."""
        stages, count = len(self._stages), self._microbatches
        left = [stage_order(self._order, s, stages, count, True)[::-1] for s in range(stages)]
        done: set[tuple[str, int, int]] = set()
        found: list[tuple[str, int, int]] = []
        while any(left):
            for stage, tasks in enumerate(left):
                if tasks and _needs(*tasks[-1], stage, stages) <= done:
                    way, m = tasks.pop()
                    done.add((way, stage, m))
                    found.append((way, stage, m))
        return found


def _needs(way: str, m: int, stage: int, stages: int) -> set[tuple[str, int, int]]:
    if way == "F":
        return {("F", stage - 1, m)} if stage else set()
    after = {("B", stage + 1, m)} if stage + 1 < stages else set()
    return after | {("F", stage, m)}


class _Work:
    """The tasks of a pipeline, as they are added to the graph.

    Attributes:
      losses: of each micro-batch, weighted by its size.
    """

    def __init__(
        self,
        stages: Sequence[Stage],
        devices: Sequence[str],
        pieces: Sequence[Sequence[Tensor]],
        shares: Sequence[Tensor],
        loss: Callable[..., Any],
    ):
        self._stages = stages
        self._devices = devices
        self._pieces = pieces
        self._shares = shares
        self._loss = loss
        self._last: list[Operation | None] = [None] * len(stages)  # of each stage's tasks
        self._variables: list[list[Variable]] = [[] for _ in stages]
        self._inputs: dict[tuple[int, int], Tensor] = {}
        self._outputs: dict[tuple[int, int], Tensor] = {}
        self._back: dict[tuple[int, int], Tensor | None] = {}  # gradients of the inputs
        self._sums: dict[Variable, Any] = {}
        self._where: dict[Variable, str] = {}
        self.losses: list[Tensor] = []

    def do(self, way: str, stage: int, m: int) -> None:
        """Add a task to the graph, after that stage's last one."""
        graph = get_default_graph()
        before = self._last[stage]
        with (
            graph.device(self._devices[stage]),
            graph.name_scope(f"{way}_{stage}_{m}"),
            graph.control_dependencies([before] if before is not None else []),
        ):
            made = self._forward(stage, m) if way == "F" else self._backward(stage, m)
            self._last[stage] = group(*made)

    def _forward(self, stage: int, m: int) -> list[Any]:
        inputs = self._outputs[stage - 1, m] if stage else self._pieces[0][m]
        self._inputs[stage, m] = inputs
        known = set(trainable_variables())
        with variable_scope(get_variable_scope(), reuse=True if m else None):
            output = as_tensor(self._stages[stage](inputs))
            if stage + 1 == len(self._stages):
                targets = [each[m] for each in self._pieces[1:]]
                loss = as_tensor(self._loss(output, *targets))
                output = loss * cast(self._shares[m], loss.dtype)
                self.losses.append(output)
        if not m:
            self._variables[stage] = [v for v in trainable_variables() if v not in known]
        self._outputs[stage, m] = output
        return [output]

    def _backward(self, stage: int, m: int) -> list[Any]:
        output, inputs = self._outputs[stage, m], self._inputs[stage, m]
        variables = self._variables[stage]
        above = self._back[stage + 1, m] if stage + 1 < len(self._stages) else None
        # The first stage's inputs need no gradient.
        wanted = [*([inputs] if stage else []), *variables]
        found = gradients(output, wanted, None if above is None else [above]) if wanted else []
        if stage:
            self._back[stage, m] = found.pop(0)
        for variable, grad in zip(variables, found, strict=True):
            if grad is not None:
                dense = as_tensor(grad)
                before = self._sums.get(variable)
                self._sums[variable] = dense if before is None else before + dense
                self._where[variable] = self._devices[stage]
        return [t for t in (self._back.get((stage, m)), *map(self._sums.get, variables))
                if t is not None]  # fmt: skip

    def means(self, count: float) -> list[tuple[Any, Variable]]:
        """Mean gradients, each on its stage's device, and their variables."""
        pairs = []
        for variable, total in self._sums.items():
            with get_default_graph().device(self._where[variable]):
                pairs.append((total / count, variable))
        return pairs


def _total(values: Sequence[Tensor]) -> Tensor:
    total = values[0]
    for value in values[1:]:
        total = total + value
    return total

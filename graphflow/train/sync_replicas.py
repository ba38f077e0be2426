"""Synchronous training by between-graph replication, with backup workers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from graphflow.base import dtypes
from graphflow.base.devices import parse
from graphflow.base.errors import GraphError
from graphflow.build import Operation, Tensor, as_tensor
from graphflow.build.defaults import get_default_graph
from graphflow.build.keys import GraphKeys
from graphflow.ops.accumulators import ConditionalAccumulator, SparseConditionalAccumulator
from graphflow.ops.casting import cast
from graphflow.ops.gate import gate_admit, gate_handle, gate_open, gate_wait
from graphflow.ops.queues import FIFOQueue
from graphflow.ops.slices import IndexedSlices
from graphflow.ops.sources import group, no_op
from graphflow.ops.variables import (
    Variable,
    global_variables,
    report_uninitialized_variables,
)
from graphflow.train.coordinator import QueueRunner
from graphflow.train.hooks import SessionRunHook
from graphflow.train.optimizer import Optimizer
from graphflow.train.session_manager import check_ready


class SyncReplicasOptimizer(Optimizer):
    """Applies the mean of the gradients of several workers at once.

    Each worker gives its gradients to accumulators beside the variables, and waits for the next
    step.  The chief's queue runner takes the mean of `replicas_to_aggregate` gradients, applies
    it, and lets the workers go on.  Of more workers than that, the slowest are not waited
    for: their gradients are of an old step and are dropped.

    Gradients add up in the order of the workers' numbers, whichever came first.  So, where each
    worker gives one per step (`num_tokens=0` and no backup workers), the bits are those of one
    process that adds them in that order.

    Source: Chen et al., "Revisiting distributed synchronous SGD", 2016.
    """

    def __init__(
        self,
        opt: Optimizer,
        replicas_to_aggregate: int,
        total_num_replicas: int | None = None,
        variable_averages: Any = None,
        variables_to_average: Any = None,
        use_locking: bool = False,
        name: str = "sync_replicas",
    ):
        """Args:
        opt: applies the mean.
        replicas_to_aggregate: how many gradients make a step.
        total_num_replicas: how many workers there are; as many as that by default.
        variable_averages, variables_to_average: an `ExponentialMovingAverage` to keep.
        """
        super().__init__(use_locking, name)
        self._opt = opt
        self._aggregate = replicas_to_aggregate
        total = replicas_to_aggregate if total_num_replicas is None else total_num_replicas
        self._total = total
        self._averages = variable_averages
        self._averaged = variables_to_average
        self._applied = False
        self._runner: QueueRunner | None = None
        self._gate: Any = None
        self._global_step: Any = None
        self.chief_init_op: Any = None
        self.local_step_init_op: Any = None
        self.ready_for_local_init_op: Any = None

    def compute_gradients(self, *args: Any, **kwargs: Any) -> list[tuple[Any, Variable]]:
        """As the optimizer inside."""
        return self._opt.compute_gradients(*args, **kwargs)

    def apply_gradients(
        self,
        grads_and_vars: Iterable[tuple[Any, Variable]],
        global_step: Variable | None = None,
        name: str | None = None,
    ) -> Operation:
        """The operation that gives this worker's gradients, and waits for the next step.

        Raises:
          ValueError: there is no global step.
        """
        if global_step is None:
            raise GraphError("synchronous training needs a global step: give global_step")
        graph = get_default_graph()
        anchor = no_op()  # on this worker: what is placed with it is not on a parameter server
        with graph.name_scope(None), graph.colocate_with(anchor):
            local_step = Variable(
                0,
                trainable=False,
                collections=[GraphKeys.LOCAL_VARIABLES],
                dtype=global_step.dtype,
                name="sync_rep_local_step",
            )
        self.ready_for_local_init_op = report_uninitialized_variables(global_variables())
        rank = parse(anchor.device).task or 0
        with graph.name_scope(None):
            now = cast(local_step.value(), dtypes.int64)
        with graph.name_scope(name or self._name):
            given, averaged, steps, withdrawn = self._accumulate(
                grads_and_vars, now, global_step, rank
            )
            update = self._opt.apply_gradients(averaged, global_step)
        with graph.colocate_with(global_step.handle.op), graph.name_scope(None):
            self._gate = gate_handle(
                container=graph.root.scopes.container, shared_name="sync_token_q",
                name="sync_token_q",
            )  # fmt: skip
            with graph.control_dependencies(given):
                token = gate_wait(self._gate, now, rank=rank)
            with graph.control_dependencies([update]):
                synced = self._open(global_step)
            if self._averages is not None:
                with graph.control_dependencies([synced]):
                    synced = self._averages.apply(self._averaged)
            steps.append(self._open(global_step))
            # What the runner closes in the end; it would stay closed on the server.
            dummy = FIFOQueue(
                1, dtypes.int32, shapes=(), name="dummy_queue", shared_name="dummy_queue"
            )
        self._runner = QueueRunner(dummy, [synced])
        # A worker that was started again may have given some of its gradients before.
        self.local_step_init_op = group(local_step.assign(global_step.read_value()).op, *withdrawn)
        self.chief_init_op = group(self.local_step_init_op, *steps)
        self._global_step = global_step
        self._applied = True
        with graph.colocate_with(anchor):
            return local_step.assign(cast(token, local_step.dtype)).op

    def _open(self, global_step: Variable) -> Operation:
        """Let workers go on to the step as it is then."""
        return gate_open(self._gate, cast(global_step.read_value(), dtypes.int64))

    def _accumulate(
        self, pairs: Iterable[tuple[Any, Variable]], now: Tensor, step: Variable, rank: int
    ) -> tuple[list[Operation], list[tuple[Any, Variable]], list[Operation], list[Operation]]:
        """Operations that give gradients; the means with their variables; what sets the steps;
        what takes back what was given."""
        graph = get_default_graph()
        given, averaged, steps, withdrawn = [], [], [], []
        for grad, variable in pairs:
            if grad is None:
                averaged.append((None, variable))
                continue
            sparse = isinstance(grad, IndexedSlices)
            kind = SparseConditionalAccumulator if sparse else ConditionalAccumulator
            with graph.colocate_with(variable.handle.op):
                accumulator: Any = kind(
                    grad.dtype, variable.shape, shared_name=f"{variable.name}/grad_accum"
                )
                if sparse:
                    given.append(accumulator.apply_indexed_slices_grad(grad, now, rank=rank))
                    mean = accumulator.take_indexed_slices_grad(self._aggregate)
                else:
                    given.append(accumulator.apply_grad(grad, now, rank=rank))
                    mean = accumulator.take_grad(self._aggregate)
                averaged.append((mean, variable))
                steps.append(accumulator.set_global_step(step.value(), name="SetGlobalStep"))
                withdrawn.append(accumulator.withdraw(rank))
        return given, averaged, steps, withdrawn

    def _made(self) -> None:
        if not self._applied:
            raise GraphError("call minimize or apply_gradients first")

    def get_chief_queue_runner(self) -> QueueRunner:
        """What the chief must run: it applies the means.

        Raises:
          ValueError: nothing was applied yet.
        """
        self._made()
        assert self._runner is not None
        return self._runner

    def get_init_tokens_op(self, num_tokens: int = -1) -> Operation:
        """The operation that lets workers run ahead of the first step.

        Args:
          num_tokens: how many may; as many as a step takes by default. At least what a step
            takes more than there are workers.

        Raises:
          ValueError: these are too few, or nothing was applied yet.
        """
        self._made()
        needed = self._aggregate - self._total
        if num_tokens == -1:
            num_tokens = self._aggregate
        elif num_tokens < needed:
            raise GraphError(
                f"{num_tokens} tokens are too few: {self._aggregate} gradients of {self._total} "
                f"workers need {needed}"
            )
        if num_tokens <= 0:
            return no_op(name="no_init_tokens")
        graph = get_default_graph()
        with graph.colocate_with(self._global_step.handle.op), graph.name_scope(None):
            return gate_admit(self._gate, as_tensor(num_tokens, dtypes.int64))

    def make_session_run_hook(self, is_chief: bool, num_tokens: int = -1) -> SessionRunHook:
        """The hook that a `MonitoredSession` of a worker needs."""
        return _SyncReplicasHook(self, is_chief, num_tokens)

    def get_slot(self, *args: Any, **kwargs: Any) -> Variable | None:
        return self._opt.get_slot(*args, **kwargs)

    def get_slot_names(self, *args: Any, **kwargs: Any) -> list[str]:
        return self._opt.get_slot_names(*args, **kwargs)

    def variables(self) -> list[Variable]:
        return self._opt.variables()


class _SyncReplicasHook(SessionRunHook):
    """Sets the steps, hands out the first tokens, and starts the chief's queue runner."""

    def __init__(self, optimizer: SyncReplicasOptimizer, is_chief: bool, num_tokens: int):
        self._optimizer = optimizer
        self._is_chief = is_chief
        self._tokens = num_tokens

    def begin(self) -> None:
        optimizer = self._optimizer
        optimizer._made()
        self._ready = optimizer.ready_for_local_init_op
        if self._is_chief:
            self._init = optimizer.chief_init_op
            self._first = optimizer.get_init_tokens_op(self._tokens)
        else:
            self._init = optimizer.local_step_init_op

    def after_create_session(self, session: Any, coord: Any) -> None:
        check_ready(session, self._ready)
        session.run(self._init)
        if self._is_chief:
            session.run(self._first)
            runner = self._optimizer.get_chief_queue_runner()
            runner.create_threads(session, coord, daemon=True, start=True)

"""Data-parallel training: one program, replicated over devices by a rewrite of its graph.

    optimizer = tf.distribute.DataParallel(tf.train.AdamOptimizer(), replicas=4, devices=2)
    train = optimizer.minimize(loss)                # the loss of one batch, built once
    session.run([train, optimizer.loss], {x: images, y: labels})

The batch is cut into a fixed number of logical replicas.  Each computes its gradients on its
device; they are put into buckets, summed in the order of a binary tree over the replicas, and
applied where the variable lives.  That is an all-reduce whose halves lie around the update:
gradients are scattered to the owners of variables, and new values gathered from there in the
next step, so that the optimizer's slots are kept once and not on each device
(Rajbhandari et al., ZeRO, 2020).  With `mirrored`, mean gradients go to all workers instead of new
values, and each updates its own copy of all variables (`place/mirror.py`): what travels is as
much, and a lost worker's state comes from any other one.

Nothing in the sums depends on how many devices carry the replicas: the bits are the same on one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, ClassVar

from graphflow.base.errors import GraphError
from graphflow.build import Operation, Tensor, as_tensor
from graphflow.build.defaults import get_default_graph
from graphflow.ops import cast, concat, reshape, split, where, zeros_like
from graphflow.ops.slices import IndexedSlices
from graphflow.ops.variable_scope import get_variable_scope, variable_scope
from graphflow.ops.variables import Variable, trainable_variables
from graphflow.train.optimizer import Optimizer
from graphflow.train.replicate import between, copied, cut

BUCKET = 4 << 20  # bytes: a message of this size takes longer than its start
Loss = Tensor | Callable[..., Any]


class DataParallel(Optimizer):
    """An optimizer whose gradients are computed by several replicas.

    Attributes:
      loss: the mean of the replicas' losses, once `minimize` was called.
      losses: each replica's.
      devices: those that carry the replicas.
    """

    _names: ClassVar[str] = "/job:worker/task:{}"

    def __init__(
        self,
        optimizer: Optimizer,
        replicas: int,
        devices: int | Sequence[str] | None = None,
        bucket: int = BUCKET,
        mirrored: bool = False,
        name: str = "data_parallel",
    ):
        """Args:
        optimizer: applies the mean gradients.
        replicas: how many; what is computed depends on it.
        devices: their names, or the number of workers of a cluster; by default a worker for
          each replica. What is computed does not depend on them.
        bucket: bytes of gradients that travel as one message.
        mirrored: every worker keeps all variables and slots, and updates its own from the mean
          gradients; where workers are lost, the others have all that these held. It takes memory
          and the time of the updates on each worker. What is computed does not depend on it.

        Raises:
          ValueError: there are no replicas, or fewer than devices.
        """
        super().__init__(name=name)
        count = replicas if devices is None else devices
        names = (
            [self._names.format(i) for i in range(count)] if isinstance(count, int) else list(count)
        )
        if not 0 < len(names) <= replicas:
            raise GraphError(
                f"{replicas} replicas on {len(names)} devices: each device must have one"
            )
        self._optimizer = optimizer
        self._replicas = replicas
        self._bucket = bucket
        self._mirrored = mirrored
        self.devices = names
        self.losses: list[Tensor] = []
        self.loss: Tensor | None = None

    def device_of(self, replica: int) -> str:
        """The device of a replica; those of one device are neighbours."""
        return self.devices[replica * len(self.devices) // self._replicas]

    # ---- TensorFlow's interface

    def minimize(  # type: ignore[override]
        self,
        loss: Loss,
        global_step: Variable | None = None,
        var_list: Any = None,
        inputs: Sequence[Tensor] | None = None,
        name: str | None = None,
        **options: Any,
    ) -> Operation:
        """The operation that updates the variables so that the mean loss falls.

        Args:
          loss: the mean loss of a batch: a scalar, whose part of the graph is copied for each
            replica; or a function of the inputs that builds it, called once for each.
          inputs: tensors whose first axis is that of the examples; where these are fewer than
            replicas, some replicas have none.  By default the placeholders that the loss depends on
            and whose first size is unknown.
          others: as `Optimizer.minimize`.

        Raises:
          ValueError: there are no inputs, or the loss cannot be copied.
        """
        pairs = self.compute_gradients(loss, var_list, inputs=inputs, **options)
        return self.apply_gradients(pairs, global_step, name)

    def compute_gradients(  # type: ignore[override]
        self,
        loss: Loss,
        var_list: Any = None,
        inputs: Sequence[Tensor] | None = None,
        **options: Any,
    ) -> list[tuple[Any, Variable]]:
        """Pairs of the mean gradient, where its variable lives, and the variable."""
        if inputs is None:
            if not isinstance(loss, Tensor):
                raise GraphError("a function that builds the loss needs inputs=[...]")
            inputs = _batches(loss)
        graph = get_default_graph()
        with graph.name_scope(self._name):
            with graph.device(self.devices[0]):
                shards, shares = cut([as_tensor(each) for each in inputs], self._replicas)
            self.losses = self._towers(loss, list(inputs), shards)
            variables = list(trainable_variables() if var_list is None else var_list)
            owners = self._owners(variables)
            grads = []
            for replica, each in enumerate(self.losses):
                with self._on(replica), graph.name_scope(f"replica_{replica}"):
                    weighted = each * cast(shares[replica], each.dtype)
                    pairs = self._optimizer.compute_gradients(weighted, variables, **options)
                    grads.append([g for g, _ in pairs])
            self.loss = self._mean(
                [_share_of(loss, s) for loss, s in zip(self.losses, shares, strict=True)]
            )
            means = self._means(grads, variables, owners)
        return list(zip(means, variables, strict=True))

    def apply_gradients(
        self,
        grads_and_vars: Iterable[tuple[Any, Variable]],
        global_step: Variable | None = None,
        name: str | None = None,
    ) -> Operation:
        """As the optimizer inside."""
        pairs = list(grads_and_vars)
        updated = self._optimizer.apply_gradients(pairs, global_step, name)
        if self._mirrored and len(self.devices) > 1:
            steps = [] if global_step is None else [global_step]
            graph = get_default_graph().root
            for variable in (*[v for _, v in pairs], *self._optimizer.variables(), *steps):
                graph.set_mirrors(variable.handle.op, self.devices)
        return updated

    def get_slot(self, var: Variable, name: str) -> Variable | None:
        return self._optimizer.get_slot(var, name)

    def get_slot_names(self) -> list[str]:
        return self._optimizer.get_slot_names()

    def variables(self) -> list[Variable]:
        return self._optimizer.variables()

    # ---- replicas

    def _on(self, replica: int) -> Any:
        return get_default_graph().device(self.device_of(replica))

    def _towers(
        self, loss: Loss, inputs: Sequence[Tensor], shards: Sequence[Sequence[Tensor]]
    ) -> list[Tensor]:
        """Each replica's loss."""
        graph = get_default_graph()
        found = []
        operations = between(inputs, loss) if isinstance(loss, Tensor) else []
        for replica in range(self._replicas):
            mine = [each[replica] for each in shards]
            with self._on(replica), graph.name_scope(f"replica_{replica}"):
                if isinstance(loss, Tensor):
                    given = dict(zip(inputs, mine, strict=True))
                    found.append(copied(operations, given, replica)[loss])
                    continue
                with variable_scope(get_variable_scope(), reuse=True if replica else None):
                    found.append(as_tensor(loss(*mine)))
        return found

    # ---- variables and sums

    def _owners(self, variables: Sequence[Variable]) -> dict[Variable, str]:
        """Where each variable lives: where it asks to, else so that all have as many bytes."""
        graph = get_default_graph()
        load = dict.fromkeys(self.devices, 0)
        owners: dict[Variable, str] = {}
        for variable in variables:
            asked = variable.handle.op.device
            if asked and asked not in load:
                owners[variable] = asked
                continue
            owner = asked or min(load, key=lambda device: load[device])
            if not asked:
                graph.root.set_device(variable.handle.op, owner)
            load[owner] += _bytes(variable)
            owners[variable] = owner
        return owners

    def _means(
        self, grads: Sequence[Sequence[Any]], variables: Sequence[Variable], owners: Any
    ) -> list[Any]:
        """The mean gradient of each variable, on its owner."""
        means: dict[int, Any] = {}
        buckets: dict[tuple[str, Any], list[list[int]]] = {}
        for i in reversed(range(len(variables))):  # backward: the last ones are ready first
            ready = [g[i] for g in grads]
            owner = owners[variables[i]]
            if any(g is None for g in ready):
                means[i] = None
            elif all(isinstance(g, IndexedSlices) for g in ready):
                means[i] = self._rows(ready, owner)
            else:
                bucket = buckets.setdefault((owner, variables[i].dtype), [[]])
                filled = sum(_bytes(variables[j]) for j in bucket[-1])
                if bucket[-1] and filled + _bytes(variables[i]) > self._bucket:
                    bucket.append([])
                bucket[-1].append(i)
        for (owner, _), several in buckets.items():
            for chosen in several:
                parts = [[as_tensor(g[i]) for i in chosen] for g in grads]
                sums = self._sum_bucket(parts, [variables[i] for i in chosen], owner)
                means |= zip(chosen, sums, strict=True)
        return [means[i] for i in range(len(variables))]

    def _sum_bucket(
        self, parts: Sequence[Sequence[Tensor]], variables: Sequence[Variable], owner: str
    ) -> list[Tensor]:
        """Mean over replicas of a bucket of gradients: one message from each device."""
        flat = []
        for replica, grads in enumerate(parts):
            with self._on(replica):
                every = [reshape(g, [-1]) for g in grads]
                flat.append(concat(every, 0) if len(every) > 1 else every[0])
        mean = self._mean(flat, owner)
        with get_default_graph().device(owner):
            sizes = [_size(v) for v in variables]
            pieces = split(mean, sizes) if len(sizes) > 1 else [mean]
            return [reshape(p, v.dims) for p, v in zip(pieces, variables, strict=True)]

    def _mean(self, values: Sequence[Tensor], owner: str | None = None) -> Tensor:
        """The mean over replicas; a tree of sums, those of one device on it."""
        owner = owner or self.devices[0]

        def total(first: int, end: int) -> Tensor:
            if end - first == 1:
                return values[first]
            middle = (first + end) // 2
            a, b = total(first, middle), total(middle, end)
            here = {self.device_of(r) for r in (first, end - 1)}
            with get_default_graph().device(here.pop() if len(here) == 1 else owner):
                return a + b

        whole = total(0, len(values))
        with get_default_graph().device(owner):
            return whole / float(len(values))

    def _rows(self, slices: Sequence[IndexedSlices], owner: str) -> IndexedSlices:
        """Gradients of rows of all replicas, one after the other."""
        with get_default_graph().device(owner):
            values = concat([s.values for s in slices], 0) / float(self._replicas)
            indices = concat([s.indices for s in slices], 0)
        return IndexedSlices(values, indices, slices[0].dense_shape)


def _share_of(loss: Tensor, share: Tensor) -> Tensor:
    """What a replica's loss is of the mean; one without examples has none, as that would be NaN."""
    weight = cast(share, loss.dtype)
    return where(weight > 0.0, loss * weight, zeros_like(loss))


def _size(variable: Variable) -> int:
    """Number of elements.

    Raises:
      GraphError: it is not known.
    """
    sizes = [n for n in variable.dims or () if n is not None]
    if variable.dims is None or len(sizes) < len(variable.dims):
        raise GraphError(f"{variable.name!r} has no known shape: its gradient fits no bucket")
    return math.prod(sizes)


def _bytes(variable: Variable) -> int:
    return _size(variable) * variable.dtype.size


def _batches(loss: Tensor) -> list[Tensor]:
    """The placeholders of a batch.

    Raises:
      GraphError: there are none.
    """
    seen: set[Operation] = set()
    stack = [loss.op]
    while stack:
        operation = stack.pop()
        if operation not in seen:
            seen.add(operation)
            stack += [t.op for t in operation.inputs]
    fed = [op for op in seen if op.type in ("Placeholder", "PlaceholderWithDefault")]
    found = [
        op.outputs[0]
        for op in sorted(fed, key=lambda op: op.id)
        if op.outputs[0].dims and op.outputs[0].dims[0] is None
    ]
    if not found:
        raise GraphError(
            f"{loss.name!r} depends on no placeholder of unknown first size: give inputs=[...]"
        )
    return found

"""Batch normalisation with moving averages."""

from __future__ import annotations

from typing import Any

import graphflow.nn as nn
from graphflow.base import dtypes
from graphflow.base.errors import GraphError, ShapeError
from graphflow.base.shapes import as_dims, format_dims
from graphflow.build import Tensor
from graphflow.build.defaults import get_default_graph
from graphflow.layers.base import decided, where_training
from graphflow.nn.input_spec import InputSpec
from graphflow.nn.layer import Layer
from graphflow.ops.casting import cast
from graphflow.ops.filling import ones, zeros
from graphflow.ops.initializers import Ones, Zeros
from graphflow.ops.shape_ops import reshape
from graphflow.ops.sources import identity
from graphflow.ops.variables import Variable


class BatchNormalization(Layer):
    """gamma * (inputs - mean) / sqrt(variance + epsilon) + beta (arXiv:1502.03167).

    In training mean and variance are those of the batch, and two updates of their moving averages
    are added to the collection UPDATE_OPS: run them in each step.  Else they are the averages.

    Args:
      axis: that of the features, or a list of axes: all others are averaged over.
      momentum: of the moving averages: new = momentum * old + (1 - momentum) * batch.
      epsilon: added to the variance.
      center, scale: use beta, gamma.
      beta_initializer, gamma_initializer, moving_mean_initializer, moving_variance_initializer: by
        default 0, 1, 0, 1.
      beta_regularizer, gamma_regularizer: functions whose values are added to the losses.
      beta_constraint, gamma_constraint: functions to apply after each update.
      fused: compute images as `tf.nn.fused_batch_norm` does, where the moving variance takes
        Bessel's correction; by default for inputs of rank 4 with axis 1 or 3.
      trainable, name: as for every `Layer`.

    It is called with `training`: a bool or a scalar bool tensor; False by default.

    Raises:
      ValueError: renorm, virtual_batch_size or adjustment is asked for: there is none.
    """

    def __init__(
        self,
        axis: Any = -1,
        momentum: float = 0.99,
        epsilon: float = 1e-3,
        center: bool = True,
        scale: bool = True,
        beta_initializer: Any = Zeros(),  # noqa: B008 - immutable
        gamma_initializer: Any = Ones(),  # noqa: B008 - immutable
        moving_mean_initializer: Any = Zeros(),  # noqa: B008 - immutable
        moving_variance_initializer: Any = Ones(),  # noqa: B008 - immutable
        beta_regularizer: Any = None,
        gamma_regularizer: Any = None,
        beta_constraint: Any = None,
        gamma_constraint: Any = None,
        renorm: bool = False,
        renorm_clipping: Any = None,
        renorm_momentum: float = 0.99,
        fused: bool | None = None,
        trainable: bool = True,
        virtual_batch_size: int | None = None,
        adjustment: Any = None,
        name: str | None = None,
        **kwargs: Any,
    ):
        super().__init__(trainable=trainable, name=name, **kwargs)
        if renorm or virtual_batch_size is not None or adjustment is not None:
            raise GraphError(
                "batch normalisation has no renorm, virtual_batch_size and adjustment here"
            )
        self.axis = list(axis) if isinstance(axis, (list, tuple)) else [axis]
        self.momentum = momentum
        self.epsilon = epsilon
        self.fused = fused
        self._weights = {
            "gamma": (scale, gamma_initializer, gamma_regularizer, gamma_constraint),
            "beta": (center, beta_initializer, beta_regularizer, beta_constraint),
        }
        self._averages = {
            "moving_mean": moving_mean_initializer,
            "moving_variance": moving_variance_initializer,
        }

    def build(self, input_shape: Any) -> None:
        dims = as_dims(input_shape)
        if dims is None:
            raise ShapeError("the rank of the inputs of batch normalisation must be known")
        rank = len(dims)
        self.axis = [axis + rank if axis < 0 else axis for axis in self.axis]
        if any(not 0 < axis < rank for axis in self.axis) or len(set(self.axis)) < len(self.axis):
            raise GraphError(f"batch normalisation cannot keep the axes {self.axis} of {rank}")
        kept = [dims[axis] for axis in self.axis]
        if None in kept:
            raise ShapeError(
                f"the sizes of axes {self.axis} must be known, not {format_dims(dims)}"
            )
        self.input_spec = InputSpec(
            ndim=rank, axes={a: n for a, n in zip(self.axis, kept, strict=True) if n is not None}
        )
        if self.fused is None:
            self.fused = rank == 4 and self.axis in ([1], [3])
        if self.fused and not (rank == 4 and self.axis in ([1], [3])):
            raise GraphError("fused batch normalisation is for images, with axis 1 or 3")
        if len(kept) == 1 or rank == len(kept) + 1:
            self._shape = kept
        else:
            self._shape = [n if i in self.axis else 1 for i, n in enumerate(dims)]
        self._spread = [dims[i] if i in self.axis else 1 for i in range(rank)]
        self._make()

    def _make(self) -> None:
        wide = dtypes.float32 if self._dtype is not None and self._dtype.size == 2 else self._dtype
        made: dict[str, Variable | None] = {}
        for name, (used, initializer, regularizer, constraint) in self._weights.items():
            made[name] = None
            if used:
                made[name] = self.add_weight(
                    name,
                    self._shape,
                    wide,
                    initializer=initializer,
                    regularizer=regularizer,
                    constraint=constraint,
                )
        self.gamma, self.beta = made["gamma"], made["beta"]
        scope = self._set_scope(None)
        partitioner, scope.partitioner = scope.partitioner, None  # averages are never in parts
        try:
            self.moving_mean, self.moving_variance = [
                self.add_weight(name, self._shape, wide, initializer=initializer, trainable=False)
                for name, initializer in self._averages.items()
            ]
        finally:
            scope.partitioner = partitioner

    def call(self, inputs: Tensor, training: Any = False) -> Tensor:
        y, mean, variance = (self._fused if self.fused else self._plain)(inputs, training)
        if decided(training) is not False:
            self._update(training, mean, variance)
        return y

    def _update(self, training: Any, mean: Tensor, variance: Tensor) -> None:
        pairs = ((self.moving_mean, mean), (self.moving_variance, variance))
        for average, value in pairs:
            with get_default_graph().name_scope("AssignMovingAvg"):
                share = where_training(training, lambda: 1.0 - self.momentum, lambda: 0.0)
                change = average.value() - reshape(value, average.shape)
                update = average.assign_sub(change * cast(share, average.dtype))
            self.add_update(update, inputs=True)

    def _plain(self, inputs: Tensor, training: Any) -> tuple[Tensor, Tensor, Tensor]:
        """The outputs, and the mean and variance that they were computed with."""
        others = [i for i in range(len(self._spread)) if i not in self.axis]
        moving = [reshape(v, self._spread) for v in (self.moving_mean, self.moving_variance)]
        mean, variance = where_training(
            training,
            lambda: nn.moments(self._widened(inputs), others, keep_dims=True),
            lambda: (identity(moving[0]), identity(moving[1])),
        )
        scale, offset = [None if v is None else reshape(v, self._spread) for v in self._affine]
        y = nn.batch_normalization(
            self._widened(inputs), mean, variance, offset, scale, self.epsilon
        )
        y.set_shape(inputs.dims)
        return cast(y, inputs.dtype), mean, variance

    def _widened(self, inputs: Tensor) -> Tensor:
        return cast(inputs, self.moving_mean.dtype)

    @property
    def _affine(self) -> tuple[Variable | None, Variable | None]:
        return self.gamma, self.beta

    def _fused(self, inputs: Tensor, training: Any) -> tuple[Tensor, Tensor, Tensor]:
        """The same, for images."""
        dtype = self.moving_mean.dtype
        scale = ones(self._shape, dtype) if self.gamma is None else self.gamma
        offset = zeros(self._shape, dtype) if self.beta is None else self.beta
        options: dict[str, Any] = {
            "epsilon": self.epsilon,
            "data_format": "NHWC" if self.axis == [3] else "NCHW",
        }
        moving = (self.moving_mean, self.moving_variance)
        norm = nn.fused_batch_norm
        y, mean, variance = where_training(
            training,
            lambda: norm(inputs, scale, offset, **options),
            lambda: norm(inputs, scale, offset, *moving, is_training=False, **options),
        )
        y.set_shape(inputs.dims)
        return y, mean, variance


def batch_normalization(
    inputs: Any,
    axis: Any = -1,
    momentum: float = 0.99,
    epsilon: float = 1e-3,
    center: bool = True,
    scale: bool = True,
    beta_initializer: Any = Zeros(),  # noqa: B008 - immutable
    gamma_initializer: Any = Ones(),  # noqa: B008 - immutable
    moving_mean_initializer: Any = Zeros(),  # noqa: B008 - immutable
    moving_variance_initializer: Any = Ones(),  # noqa: B008 - immutable
    beta_regularizer: Any = None,
    gamma_regularizer: Any = None,
    beta_constraint: Any = None,
    gamma_constraint: Any = None,
    training: Any = False,
    trainable: bool = True,
    name: str | None = None,
    reuse: Any = None,
    renorm: bool = False,
    renorm_clipping: Any = None,
    renorm_momentum: float = 0.99,
    fused: bool | None = None,
    virtual_batch_size: int | None = None,
    adjustment: Any = None,
) -> Tensor:
    """Apply a new `BatchNormalization`; its variables are in the scope `name`."""
    layer = BatchNormalization(
        axis=axis,
        momentum=momentum,
        epsilon=epsilon,
        center=center,
        scale=scale,
        beta_initializer=beta_initializer,
        gamma_initializer=gamma_initializer,
        moving_mean_initializer=moving_mean_initializer,
        moving_variance_initializer=moving_variance_initializer,
        beta_regularizer=beta_regularizer,
        gamma_regularizer=gamma_regularizer,
        beta_constraint=beta_constraint,
        gamma_constraint=gamma_constraint,
        renorm=renorm,
        renorm_clipping=renorm_clipping,
        renorm_momentum=renorm_momentum,
        fused=fused,
        virtual_batch_size=virtual_batch_size,
        adjustment=adjustment,
        trainable=trainable,
        name=name,
        _scope=name,
        _reuse=reuse,
    )
    return layer(inputs, training=training)

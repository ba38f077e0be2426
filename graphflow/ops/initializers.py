"""Initializers: what a variable holds first, as a function of its shape.

Each is called with (shape, dtype=None, partition_info=None) and returns a tensor.  Fan-in and
fan-out of a shape [*window, in, out] are in and out times the size of the window.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from graphflow.base import dtypes
from graphflow.base.dtypes import DType, as_dtype
from graphflow.base.errors import DTypeError, GraphError
from graphflow.base.shapes import as_dims
from graphflow.build import op
from graphflow.build.opdef import Array, RealFloat, Specs
from graphflow.build.tensor import Tensor
from graphflow.ops import filling, random, sources
from graphflow.ops.cases import Case
from graphflow.ops.rules import rank_is
from graphflow.ops.shape_ops import reshape, transpose

# Standard deviation of a standard normal distribution cut at +-2.
TRUNCATED_DEVIATION = 0.87962566103423978


class Initializer:
    """Base of all initializers; `get_config` and `from_config` carry them as plain data."""

    def __call__(self, shape: Any, dtype: Any = None, partition_info: Any = None) -> Tensor:
        """The first value of a variable.

        Args:
          shape: of the variable; fully known.
          dtype: by default the one the initializer was made with.
          partition_info: whole shape and offset where the variable is a part of a larger one.
        """
        raise NotImplementedError

    def get_config(self) -> dict[str, Any]:
        """The arguments that make this initializer again."""
        return {k: v.name if isinstance(v, DType) else v for k, v in vars(self).items()}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Any:
        """The initializer of a configuration."""
        return cls(**config)


class Zeros(Initializer):
    """All 0."""

    def __init__(self, dtype: Any = dtypes.float32):
        self.dtype = as_dtype(dtype)

    def __call__(self, shape: Any, dtype: Any = None, partition_info: Any = None) -> Tensor:
        return filling.zeros(shape, self.dtype if dtype is None else dtype)


class Ones(Initializer):
    """All 1."""

    def __init__(self, dtype: Any = dtypes.float32):
        self.dtype = as_dtype(dtype)

    def __call__(self, shape: Any, dtype: Any = None, partition_info: Any = None) -> Tensor:
        return filling.ones(shape, self.dtype if dtype is None else dtype)


class Constant(Initializer):
    """A number everywhere, or the elements of a list or array in row-major order; where there
    are too few, the last one is repeated."""

    def __init__(self, value: Any = 0, dtype: Any = dtypes.float32, verify_shape: bool = False):
        if not (np.isscalar(value) or isinstance(value, (list, tuple, np.ndarray))):
            raise TypeError(f"the value must be a number, list or array, not {type(value)}")
        self.value = value
        self.dtype = as_dtype(dtype)
        self.verify_shape = verify_shape

    def __call__(
        self,
        shape: Any,
        dtype: Any = None,
        partition_info: Any = None,
        verify_shape: bool | None = None,
    ) -> Tensor:
        verify = self.verify_shape if verify_shape is None else verify_shape
        dtype = self.dtype if dtype is None else dtype
        return sources.constant(self.value, dtype, shape, verify_shape=verify)

    def get_config(self) -> dict[str, Any]:
        return {"value": self.value, "dtype": self.dtype.name}


class RandomUniform(Initializer):
    """Spread evenly over [minval, maxval)."""

    def __init__(
        self,
        minval: Any = 0,
        maxval: Any = None,
        seed: int | None = None,
        dtype: Any = dtypes.float32,
    ):
        self.minval = minval
        self.maxval = maxval
        self.seed = seed
        self.dtype = as_dtype(dtype)

    def __call__(self, shape: Any, dtype: Any = None, partition_info: Any = None) -> Tensor:
        dtype = self.dtype if dtype is None else dtype
        return random.random_uniform(shape, self.minval, self.maxval, dtype, self.seed)


class RandomNormal(Initializer):
    """Normally distributed."""

    def __init__(
        self,
        mean: Any = 0.0,
        stddev: Any = 1.0,
        seed: int | None = None,
        dtype: Any = dtypes.float32,
    ):
        self.mean = mean
        self.stddev = stddev
        self.seed = seed
        self.dtype = _floating(dtype)

    def __call__(self, shape: Any, dtype: Any = None, partition_info: Any = None) -> Tensor:
        dtype = self.dtype if dtype is None else dtype
        return random.random_normal(shape, self.mean, self.stddev, dtype, self.seed)


class TruncatedNormal(RandomNormal):
    """Normally distributed, without what is further than two deviations from the mean."""

    def __call__(self, shape: Any, dtype: Any = None, partition_info: Any = None) -> Tensor:
        dtype = self.dtype if dtype is None else dtype
        return random.truncated_normal(shape, self.mean, self.stddev, dtype, self.seed)


class UniformUnitScaling(Initializer):
    """Evenly over +-factor * sqrt(3 / n), where n is the product of all sizes but the last.

    It keeps the scale of the input (Sussillo and Abbott, arXiv:1412.6558).
    """

    def __init__(self, factor: float = 1.0, seed: int | None = None, dtype: Any = dtypes.float32):
        self.factor = factor
        self.seed = seed
        self.dtype = _floating(dtype)

    def __call__(self, shape: Any, dtype: Any = None, partition_info: Any = None) -> Tensor:
        dtype = self.dtype if dtype is None else dtype
        size = float(max(math.prod(_sizes(_whole(shape, partition_info))[:-1]), 1))
        limit = math.sqrt(3 / size) * self.factor
        return random.random_uniform(shape, -limit, limit, dtype, self.seed)


class VarianceScaling(Initializer):
    """Random numbers whose variance is scale / n.

    Args:
      scale: positive.
      mode: n is the "fan_in", the "fan_out", or their mean, "fan_avg".
      distribution: "truncated_normal" (also "normal"), "untruncated_normal" or "uniform".
      seed: the operation's seed.
      dtype: floating.

    Raises:
      ValueError: an argument is none of these.
    """

    def __init__(
        self,
        scale: float = 1.0,
        mode: str = "fan_in",
        distribution: str = "truncated_normal",
        seed: int | None = None,
        dtype: Any = dtypes.float32,
    ):
        if scale <= 0:
            raise GraphError(f"scale must be positive, not {scale}")
        if mode not in ("fan_in", "fan_out", "fan_avg"):
            raise GraphError(f"mode must be fan_in, fan_out or fan_avg, not {mode!r}")
        distribution = distribution.lower()
        if distribution not in ("normal", "uniform", "truncated_normal", "untruncated_normal"):
            raise GraphError(
                "distribution must be truncated_normal, untruncated_normal or uniform, not "
                f"{distribution!r}"
            )
        self.scale = scale
        self.mode = mode
        self.distribution = distribution
        self.seed = seed
        self.dtype = _floating(dtype)

    def __call__(self, shape: Any, dtype: Any = None, partition_info: Any = None) -> Tensor:
        dtype = self.dtype if dtype is None else dtype
        fan_in, fan_out = fans(_whole(shape, partition_info))
        fan = {"fan_in": fan_in, "fan_out": fan_out, "fan_avg": (fan_in + fan_out) / 2}[self.mode]
        variance = self.scale / max(1.0, fan)
        if self.distribution == "uniform":
            limit = math.sqrt(3.0 * variance)
            return random.random_uniform(shape, -limit, limit, dtype, self.seed)
        if self.distribution == "untruncated_normal":
            return random.random_normal(shape, 0.0, math.sqrt(variance), dtype, self.seed)
        deviation = math.sqrt(variance) / TRUNCATED_DEVIATION
        return random.truncated_normal(shape, 0.0, deviation, dtype, self.seed)


class _Scaled(VarianceScaling):
    """A variance scaling that has a name of its own."""

    _FIXED: tuple[float, str, str] = (1.0, "fan_in", "uniform")

    def __init__(self, seed: int | None = None, dtype: Any = dtypes.float32):
        super().__init__(*self._FIXED, seed=seed, dtype=dtype)

    def get_config(self) -> dict[str, Any]:
        return {"seed": self.seed, "dtype": self.dtype.name}


class GlorotUniform(_Scaled):
    """Evenly over +-sqrt(6 / (fan_in + fan_out)) (Glorot and Bengio 2010; also "Xavier")."""

    _FIXED = (1.0, "fan_avg", "uniform")


class GlorotNormal(_Scaled):
    """Truncated normal of variance 2 / (fan_in + fan_out) (Glorot and Bengio 2010)."""

    _FIXED = (1.0, "fan_avg", "truncated_normal")


def _orthogonal_spec(a: Tensor) -> Specs:
    return [(rank_is(a, 2, "a matrix to factorise"), a.dtype)]


@op(
    "OrthogonalFactor",
    infer=_orthogonal_spec,
    grad=None,
    cases=lambda s: [Case((s.normal(*shape),)) for shape in ((3, 2), (2, 2), (1, 1))],
)
def _orthogonal_factor(xp: Any, a: RealFloat) -> Array:
    """The Q of a = QR with a positive diagonal of R, which makes it unique; a: [rows, columns],
    rows >= columns."""
    q, r = xp.linalg.qr(a)
    return q * xp.sign(xp.diagonal(r))


class Orthogonal(Initializer):
    """gain times a random matrix with orthonormal rows or columns, whichever are fewer.

    All axes but the last are taken together. (Saxe, McClelland and Ganguli, arXiv:1312.6120.)
    """

    def __init__(self, gain: float = 1.0, seed: int | None = None, dtype: Any = dtypes.float32):
        self.gain = gain
        self.seed = seed
        self.dtype = _floating(dtype)

    def __call__(self, shape: Any, dtype: Any = None, partition_info: Any = None) -> Tensor:
        dtype = self.dtype if dtype is None else as_dtype(dtype)
        sizes = _sizes(shape)
        if len(sizes) < 2:
            raise GraphError(f"an orthogonal value has at least two axes, not shape {sizes}")
        rows, columns = math.prod(sizes[:-1]), sizes[-1]
        flat = (max(rows, columns), min(rows, columns))
        q = _orthogonal_factor(random.random_normal(flat, dtype=dtype, seed=self.seed))
        return self.gain * reshape(transpose(q) if rows < columns else q, sizes)


class Identity(Initializer):
    """gain times the identity matrix, for shapes of rank 2."""

    def __init__(self, gain: float = 1.0, dtype: Any = dtypes.float32):
        self.gain = gain
        self.dtype = _floating(dtype)

    def __call__(self, shape: Any, dtype: Any = None, partition_info: Any = None) -> Tensor:
        dtype = self.dtype if dtype is None else as_dtype(dtype)
        sizes = _sizes(_whole(shape, partition_info))
        if len(sizes) != 2:
            raise GraphError(f"an identity matrix has two axes, not shape {sizes}")
        matrix = filling.eye(*sizes, dtype=dtype)
        if partition_info is not None:
            first, second = partition_info.var_offset
            rows, columns = _sizes(shape)
            matrix = matrix[first : first + rows, second : second + columns]
        return self.gain * matrix


def fans(shape: Any) -> tuple[float, float]:
    """Fan-in and fan-out of a shape; a vector has both of its size, a scalar 1."""
    sizes = _sizes(shape)
    if len(sizes) < 2:
        size = float(sizes[0]) if sizes else 1.0
        return size, size
    window = math.prod(sizes[:-2])
    return float(window * sizes[-2]), float(window * sizes[-1])


def _sizes(shape: Any) -> tuple[int, ...]:
    dims = as_dims(shape)
    if dims is None or None in dims:
        raise GraphError(f"an initializer needs a fully known shape, not {shape}")
    return tuple([n for n in dims if n is not None])


def _whole(shape: Any, partition_info: Any) -> Any:
    """The shape of the variable that the value is a part of."""
    return shape if partition_info is None else partition_info.full_shape


def _floating(dtype: Any) -> DType:
    found = as_dtype(dtype)
    if not found.is_floating:
        raise DTypeError(f"this initializer is for floating dtypes, not {found.name}")
    return found


def he_uniform(seed: int | None = None, dtype: Any = dtypes.float32) -> VarianceScaling:
    """Evenly over +-sqrt(6 / fan_in) (He et al. 2015)."""
    return VarianceScaling(2.0, "fan_in", "uniform", seed, dtype)


def he_normal(seed: int | None = None, dtype: Any = dtypes.float32) -> VarianceScaling:
    """Truncated normal of variance 2 / fan_in (He et al. 2015)."""
    return VarianceScaling(2.0, "fan_in", "truncated_normal", seed, dtype)


def lecun_uniform(seed: int | None = None, dtype: Any = dtypes.float32) -> VarianceScaling:
    """Evenly over +-sqrt(3 / fan_in) (LeCun et al. 1998)."""
    return VarianceScaling(1.0, "fan_in", "uniform", seed, dtype)


def lecun_normal(seed: int | None = None, dtype: Any = dtypes.float32) -> VarianceScaling:
    """Truncated normal of variance 1 / fan_in (LeCun et al. 1998)."""
    return VarianceScaling(1.0, "fan_in", "truncated_normal", seed, dtype)


# TensorFlow's names of these classes: this module is also `tf.initializers`.
zeros = zeros_initializer = Zeros
ones = ones_initializer = Ones
constant = constant_initializer = Constant
random_uniform = random_uniform_initializer = RandomUniform
random_normal = random_normal_initializer = RandomNormal
truncated_normal = truncated_normal_initializer = TruncatedNormal
uniform_unit_scaling = uniform_unit_scaling_initializer = UniformUnitScaling
variance_scaling = variance_scaling_initializer = VarianceScaling
glorot_uniform = glorot_uniform_initializer = GlorotUniform
glorot_normal = glorot_normal_initializer = GlorotNormal
orthogonal = orthogonal_initializer = Orthogonal
identity = Identity

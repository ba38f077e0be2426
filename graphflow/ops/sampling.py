"""Random numbers whose distribution is an input: gamma and Poisson.

Streams and algorithms are those of TensorFlow's CPU kernels, so that the numbers are, too.
Rejection samplers give each output 256 blocks of the stream, of which it uses what it needs.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from graphflow.base import dtypes
from graphflow.base.dtypes import as_dtype
from graphflow.base.errors import DTypeError, InvalidArgumentError
from graphflow.build import as_tensor, op
from graphflow.build.opdef import Array, Index, Real, RealFloat, Specs
from graphflow.build.tensor import Tensor
from graphflow.ops import philox
from graphflow.ops.arithmetic import maximum
from graphflow.ops.cases import Case, Sampler
from graphflow.ops.checks import Assert
from graphflow.ops.expression import special
from graphflow.ops.gamma_slopes import sample_slope
from graphflow.ops.public import composite
from graphflow.ops.random import (
    add_random,
    random_uniform,
    sizes_of,
    static_sizes,
    stream_key,
    tensor_of_sizes,
)
from graphflow.ops.reduce import reduce_all
from graphflow.ops.shape_ops import shape as shape_of
from graphflow.ops.slicing import slice_
from graphflow.ops.sources import identity
from graphflow.ops.sums import unbroadcast
from graphflow.ops.tiling import broadcast_dynamic_shape, broadcast_to


class _Streams:
    """The blocks that belong to each of many outputs, taken one at a time."""

    def __init__(self, xp: Any, seed: int, seed2: int, start: int, size: int):
        self._xp = xp
        self._key = seed, seed2, start
        self._next = xp.arange(size, dtype=np.uint64) * np.uint64(philox.RESERVED)
        self._uniform = xp.zeros((size, 2))
        self._normal = xp.zeros((size, 2))
        self._left = {"uniform": xp.zeros(size, np.int64), "normal": xp.zeros(size, np.int64)}

    def uniform(self, rows: Array) -> Array:
        """A number of [0, 1) for each of the rows."""
        return self._take("uniform", self._uniform, rows)

    def normal(self, rows: Array) -> Array:
        """A standard normal number for each of the rows."""
        return self._take("normal", self._normal, rows)

    def _take(self, kind: str, store: Array, rows: Array) -> Array:
        left = self._left[kind]
        empty = rows[left[rows] == 0]
        if empty.size:
            words = philox.blocks_at(self._xp, *self._key, self._next[empty])
            self._next[empty] += np.uint64(1)
            if kind == "uniform":
                store[empty] = philox.unit64(words)
            else:
                store[empty] = philox.normal_pairs(self._xp, words, double=True)
            left[empty] = 2
        left[rows] -= 1
        return store[rows, left[rows]]


def _spec(shape: Tensor, parameter: Tensor, **attrs: Any) -> Specs:
    sizes = static_sizes(shape)
    dtype = attrs.get("dtype") or parameter.dtype
    if sizes is None or parameter.dims is None:
        return [(None, dtype)]
    return [((*sizes, *parameter.dims), dtype)]


def _reserved(ctx: Any, size: int, seed: int, seed2: int, stream: int) -> tuple[int, int, int]:
    start = ctx.counter(stream, size * philox.RESERVED) if size else 0
    return (*stream_key(ctx, seed, seed2, stream), start)


# ---- gamma


def _parameter_cases(*values: float, **attrs: Any) -> Any:
    def cases(s: Sampler) -> list[Case]:
        given = {"seed": 1, "seed2": 2, "stream": 0, **attrs}
        return [
            Case((np.array(sizes, np.int32), np.array(parameter)), given, grad=False)
            for sizes, parameter in [((3,), values), ((), values), ((2, 0), values), ((4,), 2.5)]
        ]

    return cases


def _gamma_grad(g: Any, y: Any, shape: Any, alpha: Any, **_: Any) -> Any:
    """By implicit reparameterisation: samples move with alpha as their quantiles do."""
    return None, unbroadcast(g * sample_slope(alpha, y), alpha, y)


@op(
    "RandomGamma",
    infer=_spec,
    grad=_gamma_grad,
    random=True,
    host=("shape",),
    cases=_parameter_cases(0.3, 1.0, 7.5),
)
def _gamma(
    xp: Any,
    ctx: Any,
    shape: Index,
    alpha: RealFloat,
    *,
    seed: Any = 0,
    seed2: Any = 0,
    stream: Any,
) -> Array:
    """Gamma distributed numbers of scale 1: `shape` many for each alpha > 0.

    By the squeeze of Marsaglia and Tsang, "A simple method for generating gamma variables", 2000.
    Differentiated once with respect to alpha, at fixed quantiles.
    """
    sizes = (*sizes_of(shape), *alpha.shape)
    size, each = math.prod(sizes), math.prod(sizes_of(shape))
    streams = _Streams(xp, *_reserved(ctx, size, seed, seed2, stream), size)
    alphas = xp.repeat(alpha.reshape(-1).astype(np.float64), each)  # TensorFlow goes alpha by alpha
    result = xp.zeros(size)
    rows = xp.nonzero(alphas == 1.0)[0]
    result[rows] = -xp.log1p(-streams.uniform(rows))
    _accept_gammas(xp, streams, alphas, result)
    return result.reshape(alpha.size, each).T.reshape(sizes).astype(alpha.dtype)


def _accept_gammas(xp: Any, streams: _Streams, alphas: Array, result: Array) -> None:
    small = alphas < 1
    d = alphas + xp.where(small, 2.0 / 3, -1.0 / 3)
    c = 1.0 / 3 / xp.sqrt(d)
    rows = xp.nonzero(alphas > 0)[0]
    result[xp.nonzero(~(alphas > 0))[0]] = math.nan  # TensorFlow would not end
    rows = rows[alphas[rows] != 1.0]
    while rows.size:
        x = streams.normal(rows)
        v = 1 + c[rows] * x
        fits = v > 0
        tried, x, v = rows[fits], x[fits], v[fits] ** 3
        u = streams.uniform(tried)
        accepted = u < 1 - 0.0331 * (x * x) * (x * x)
        safe = xp.where(u > 0, u, 1e-300)
        slow = xp.log(safe) < 0.5 * x * x + d[tried] * (1 - v + xp.log(v))
        accepted = accepted | slow
        done = tried[accepted]
        value = d[done] * v[accepted]
        lower = small[done]
        boosted = done[lower]
        if boosted.size:
            value[lower] = value[lower] * streams.uniform(boosted) ** (1 / alphas[boosted])
        result[done] = value
        waiting = xp.zeros(alphas.shape, bool)
        waiting[rows] = True
        waiting[done] = False
        rows = xp.nonzero(waiting)[0]


# ---- Poisson


@op(
    "RandomPoissonV2",
    infer=_spec,
    grad=None,
    random=True,
    host=("shape",),
    cases=_parameter_cases(0.0, 0.7, 9.0, 25.0, 1e4, dtype=dtypes.float32),
)
def _poisson(
    xp: Any,
    ctx: Any,
    shape: Index,
    rate: Real,
    *,
    dtype: Any,
    seed: Any = 0,
    seed2: Any = 0,
    stream: Any,
) -> Array:
    """Poisson distributed numbers: `shape` many for each rate >= 0, in another dtype.

    Products of uniform numbers below a rate of 10; above, Hormann's transformed rejection, "The
    transformed rejection method for generating Poisson random variables", 1993.
    """
    sizes = (*sizes_of(shape), *rate.shape)
    size, each = math.prod(sizes), math.prod(sizes_of(shape))
    streams = _Streams(xp, *_reserved(ctx, size, seed, seed2, stream), size)
    rates = xp.repeat(rate.reshape(-1).astype(np.float64), each)
    finite = xp.isfinite(rates)
    if dtype.is_integer and not bool(finite.all()):
        raise InvalidArgumentError(None, None, "Poisson numbers of an infinite rate or NaN")
    result = xp.where(finite, 0.0, rates)
    highest = float(dtype.max)
    _multiply_uniforms(xp, streams, rates, xp.nonzero(rates < 10)[0], result)
    _accept_poissons(xp, streams, rates, xp.nonzero(finite & (rates >= 10))[0], result, highest)
    return result.reshape(rate.size, each).T.reshape(sizes).astype(dtype.np)


def _multiply_uniforms(
    xp: Any, streams: _Streams, rates: Array, rows: Array, result: Array
) -> None:
    limit = xp.exp(-rates)
    product = xp.ones(rates.shape)
    while rows.size:
        product[rows] = product[rows] * streams.uniform(rows)
        rows = rows[product[rows] > limit[rows]]
        result[rows] += 1


def _accept_poissons(
    xp: Any, streams: _Streams, rates: Array, rows: Array, result: Array, highest: float
) -> None:
    gammaln = special(xp).gammaln
    while rows.size:
        rate = rates[rows]
        b = 0.931 + 2.53 * xp.sqrt(rate)
        a = -0.059 + 0.02483 * b
        inverse = 1.1239 + 1.1328 / (b - 3.4)
        u = streams.uniform(rows) - 0.5
        v = streams.uniform(rows)
        shifted = 0.5 - xp.abs(u)
        safe = xp.where(shifted > 0, shifted, 1e-300)
        k = xp.floor((2 * a / safe + b) * u + rate + 0.43)
        fits = k <= highest
        quick = (shifted >= 0.07) & (v <= 0.9277 - 3.6224 / (b - 2))
        hopeless = (k < 0) | ((shifted < 0.013) & (v > shifted))
        whole = xp.where((k < 0) | ~fits, 0.0, k)
        s = xp.log(xp.maximum(v, 1e-300) * inverse / (a / (safe * safe) + b))
        t = -rate + whole * xp.log(rate) - gammaln(whole + 1)
        accepted = fits & (quick | (~hopeless & (s <= t)))
        result[rows[accepted]] = k[accepted]
        rows = rows[~accepted]


# ---- TensorFlow's functions


def random_gamma(
    shape: Any,
    alpha: Any,
    beta: Any = None,
    dtype: Any = dtypes.float32,
    seed: int | None = None,
    name: str | None = None,
) -> Tensor:
    """Gamma distributed numbers.

    Args:
      shape: how many for each pair of parameters; a tensor or a sequence of sizes.
      alpha: the shape parameters, > 0.
      beta: the inverse scales, which broadcast with alpha; 1 by default.
      dtype: float16, float32 or float64.
      seed: the operation's seed.

    Returns:
      [*shape, *shape of alpha and beta]; differentiated with respect to both, alpha once only.
    """
    with composite(name, "random_gamma", alpha):
        sizes = tensor_of_sizes(shape)
        a = as_tensor(alpha, dtype, "alpha")
        b = as_tensor(1.0 if beta is None else beta, dtype, "beta")
        if a.dims != b.dims and b.dims != ():
            a = broadcast_to(a, broadcast_dynamic_shape(shape_of(a), shape_of(b)))
        tiny = np.asarray(np.finfo(a.dtype.np).tiny, a.dtype.np)
        return maximum(tiny, add_random(_gamma, sizes, a, seed=seed, name=None) / b)


def random_poisson(
    lam: Any,
    shape: Any,
    dtype: Any = dtypes.float32,
    seed: int | None = None,
    name: str | None = None,
) -> Tensor:
    """Poisson distributed numbers.

    Args:
      lam: the rates, >= 0.
      shape: how many for each rate; a tensor or a sequence of sizes.
      dtype: a floating or integer dtype.
      seed: the operation's seed.

    Returns:
      [*shape, *shape of lam].
    """
    kind = as_dtype(dtype)
    if not (kind.is_floating or kind.is_integer):
        raise DTypeError(f"Poisson numbers are real, not {kind.name}")
    with composite(name, "random_poisson", lam):
        sizes = tensor_of_sizes(shape)
        return add_random(_poisson, sizes, as_tensor(lam), dtype=kind, seed=seed, name=None)


def random_crop(value: Any, size: Any, seed: int | None = None, name: str | None = None) -> Tensor:
    """A part of a tensor at a random place.

    Args:
      value: a tensor.
      size: the shape of the part, at most that of the value.
      seed: the operation's seed.

    Raises:
      InvalidArgumentError: when run, or now where shapes are known: the part does not fit.
    """
    from graphflow.build.default_graph import control_dependencies
    from graphflow.ops.compare import greater_equal

    with composite(name, "random_crop", value) as scope:
        x, wanted = as_tensor(value), as_tensor(size, dtypes.int32, "size")
        sizes = shape_of(x)
        fits = reduce_all(greater_equal(sizes, wanted))
        check = Assert(fits, ["Need value.shape >= size, got ", sizes, wanted], summarize=1000)
        with control_dependencies([check]):
            sizes = identity(sizes)
        drawn = random_uniform(
            shape_of(sizes), maxval=dtypes.int32.max, dtype=dtypes.int32, seed=seed
        )
        return slice_(x, drawn % (sizes - wanted + 1), wanted, name=scope)

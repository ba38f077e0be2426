"""Fast Fourier transforms over the last one, two or three axes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from graphflow.base import dtypes
from graphflow.base.errors import DTypeError, InvalidArgumentError, ShapeError
from graphflow.base.shapes import format_dims
from graphflow.build import OPS, as_tensor, op
from graphflow.build.opdef import Array, Float, Index, RealFloat, Specs, define
from graphflow.build.tensor import Tensor
from graphflow.ops.cases import Case, Sampler
from graphflow.ops.casting import cast
from graphflow.ops.complexes import real
from graphflow.ops.filling import ones, zeros
from graphflow.ops.joining import concat
from graphflow.ops.known import constant_value
from graphflow.ops.public import composite
from graphflow.ops.reduce import reduce_prod
from graphflow.ops.shape_ops import shape as shape_of
from graphflow.ops.shape_ops import transpose


def _complex_spec(rank: int) -> Callable[..., Specs]:
    def infer(x: Tensor) -> Specs:
        if not x.dtype.is_complex:
            raise DTypeError(f"a Fourier transform takes complex numbers, not {x.dtype.name}")
        _check_rank(x, rank)
        return [(x.dims, x.dtype)]

    return infer


def _check_rank(x: Tensor, rank: int) -> None:
    if x.dims is not None and len(x.dims) < rank:
        raise ShapeError(f"needs rank {rank} or more, not shape {format_dims(x.dims)}")


def _complex_cases(rank: int) -> Callable[[Sampler], list[Case]]:
    shapes: tuple[tuple[int, ...], ...] = ((2,) * (rank - 1) + (3,), (2, *(2,) * (rank - 1), 4))
    return lambda s: [Case((s.normal(*d) + 1j * s.normal(*d),)) for d in shapes]


def _size(x: Tensor, rank: int) -> Tensor:
    return cast(reduce_prod(shape_of(x)[-rank:]), x.dtype)


def _pair(rank: int) -> None:
    """Enter a transform and its inverse; each one's gradient is the other, but for the size."""
    suffix = "" if rank == 1 else f"{rank}D"
    forward, inverse = f"FFT{suffix}", f"IFFT{suffix}"
    axes = tuple(range(-rank, 0))

    def fft(xp: Any, x: Float) -> Array:
        return xp.fft.fftn(x, axes=axes).astype(x.dtype)

    def ifft(xp: Any, x: Float) -> Array:
        return xp.fft.ifftn(x, axes=axes).astype(x.dtype)

    fft.__doc__ = f"The discrete Fourier transform over the last {rank} axes."
    ifft.__doc__ = f"The inverse of {forward}."
    declared = {"infer": _complex_spec(rank), "cases": _complex_cases(rank)}
    define(forward, fft, grad=lambda g, y, x: OPS[inverse](g) * _size(x, rank), **declared)
    define(inverse, ifft, grad=lambda g, y, x: OPS[forward](g) / _size(x, rank), **declared)


for _rank in (1, 2, 3):
    _pair(_rank)


def _half_spec(x: Tensor) -> Specs:
    _check_rank(x, 1)
    kind = dtypes.complex128 if x.dtype is dtypes.float64 else dtypes.complex64
    if x.dims is None:
        return [(None, kind)]
    n = x.dims[-1]
    return [((*x.dims[:-1], None if n is None else n // 2 + 1), kind)]


def _half_grad(g: Tensor, y: Tensor, x: Tensor) -> Tensor:
    """The transposed sum over the frequencies kept: those left out count as zeros."""
    n = shape_of(x)[-1:]
    missing = concat([shape_of(g)[:-1], n - shape_of(g)[-1:]], 0)
    whole = concat([g, zeros(missing, g.dtype)], -1)
    return real(OPS["IFFT"](whole)) * cast(n[0], x.dtype)


@op(
    "RFFT",
    infer=_half_spec,
    grad=_half_grad,
    cases=lambda s: [Case((s.normal(*d),)) for d in ((4,), (2, 5), (1,))],
)
def _rfft(xp: Any, x: RealFloat) -> Array:
    """The n // 2 + 1 frequencies >= 0 of the Fourier transform over the last axis."""
    kind = np.complex128 if x.dtype == np.float64 else np.complex64
    return xp.fft.rfft(x.astype(kind(0).real.dtype), axis=-1).astype(kind)


def _whole_spec(x: Tensor, n: Tensor) -> Specs:
    if not x.dtype.is_complex:
        raise DTypeError(f"IRFFT takes complex numbers, not {x.dtype.name}")
    _check_rank(x, 1)
    length = constant_value(n)
    dims = None if x.dims is None else (*x.dims[:-1], None if length is None else int(length))
    return [(dims, x.dtype.real_dtype)]


def _whole_grad(g: Tensor, y: Tensor, x: Tensor, n: Tensor) -> Any:
    """Frequencies between the first and, of an even length, the last stand for two."""
    count = shape_of(x)[-1:]
    even = 1 - n % 2
    inside = count - 1 - even
    weights = concat(
        [ones([1], g.dtype), 2 * ones(inside, g.dtype), ones(_vector(even), g.dtype)], 0
    )
    return _rfft(g) * cast(weights / cast(n, g.dtype), x.dtype), None


def _vector(n: Tensor) -> Tensor:
    return OPS["Reshape"](n, np.array([1], np.int32))


@op(
    "IRFFT",
    infer=_whole_spec,
    grad=_whole_grad,
    host=("n",),
    cases=lambda s: [
        Case((s.normal(*d) + 1j * s.normal(*d), np.array(n, np.int32)))
        for d, n in (((3,), 4), ((2, 3), 5), ((2,), 2))
    ],
)
def _irfft(xp: Any, x: Float, n: Index) -> Array:
    """The inverse of RFFT: n real numbers of n // 2 + 1 frequencies along the last axis."""
    length = int(n)
    if length < 1 or x.shape[-1] != length // 2 + 1:
        raise InvalidArgumentError(
            None, None, f"{length} numbers need {length // 2 + 1} frequencies, not {x.shape[-1]}"
        )
    return xp.fft.irfft(x, n=length, axis=-1).astype(x.real.dtype)


# ---- TensorFlow's functions


def _public(kind: str, name: str) -> Callable[..., Tensor]:
    def transform(input: Any, name: str | None = None) -> Tensor:
        result: Tensor = OPS[kind](input, name=name)
        return result

    transform.__name__ = transform.__qualname__ = name
    transform.__doc__ = f"""{OPS[kind].doc}

    Args:
      input: complex64 or complex128.
    """
    return transform


fft, ifft = _public("FFT", "fft"), _public("IFFT", "ifft")
fft2d, ifft2d = _public("FFT2D", "fft2d"), _public("IFFT2D", "ifft2d")
fft3d, ifft3d = _public("FFT3D", "fft3d"), _public("IFFT3D", "ifft3d")


def _sized(x: Tensor, n: Tensor) -> Tensor:
    """Cropped or filled with zeros to n entries of the last axis."""
    from graphflow.ops.arithmetic import maximum

    x = x[..., : n[0]]
    missing = concat([shape_of(x)[:-1], maximum(n - shape_of(x)[-1:], 0)], 0)
    return concat([x, zeros(missing, x.dtype)], -1)


def rfft(input: Any, fft_length: Any = None, name: str | None = None) -> Tensor:
    """The Fourier transform of real numbers over the last axis: its frequencies >= 0.

    Args:
      input: float32 or float64, [..., n].
      fft_length: int32 [1]: crop or fill with zeros to this length first.

    Returns:
      complex, [..., n // 2 + 1].
    """
    with composite(name, "rfft", input):
        x = as_tensor(input)
        return _rfft(x if fft_length is None else _sized(x, as_tensor(fft_length, dtypes.int32)))


def irfft(input: Any, fft_length: Any = None, name: str | None = None) -> Tensor:
    """The inverse of `rfft`.

    Args:
      input: complex, [..., m].
      fft_length: int32 [1], the length of the result; 2 * (m - 1) by default.

    Returns:
      Real numbers, [..., length].
    """
    with composite(name, "irfft", input):
        x = as_tensor(input)
        if fft_length is None:
            return _irfft(x, 2 * (shape_of(x)[-1] - 1))
        n = as_tensor(fft_length, dtypes.int32)
        return _irfft(_sized(x, n // 2 + 1), n[0])


def _last_two(x: Tensor) -> Tensor:
    if x.dims is None or len(x.dims) < 2:
        raise ShapeError(f"needs a known rank of 2 or more, not shape {format_dims(x.dims)}")
    rank = len(x.dims)
    return transpose(x, [*range(rank - 2), rank - 1, rank - 2])


def rfft2d(input: Any, name: str | None = None) -> Tensor:
    """`rfft` over the last axis, then `fft` over the one before it."""
    with composite(name, "rfft2d", input):
        return _last_two(fft(_last_two(rfft(input))))


def irfft2d(input: Any, name: str | None = None) -> Tensor:
    """The inverse of `rfft2d`, of an even last size."""
    with composite(name, "irfft2d", input):
        return irfft(_last_two(ifft(_last_two(as_tensor(input)))))

"""Complex numbers: parts, conjugate, angle."""

from __future__ import annotations

from typing import Any

import numpy as np

from graphflow.base import dtypes
from graphflow.build import as_tensor, op
from graphflow.build.opdef import Array, Float, Num, RealFloat, Specs
from graphflow.build.tensor import Tensor
from graphflow.ops.cases import Case, Sampler
from graphflow.ops.rules import broadcast_dims, same
from graphflow.ops.sums import unbroadcast


def _complex_cases(s: Sampler) -> list[Case]:
    return [Case((s.normal(*d) + 1j * s.normal(*d),)) for d in ((), (2, 3), (0,))]


def _part_spec(x: Tensor) -> Specs:
    return [(x.dims, x.dtype.real_dtype)]


def conjugate(x: Any) -> Any:
    """The conjugate of a complex tensor; a real one itself."""
    return _conj(x) if x.dtype.is_complex else x


@op("Conj", infer=same, grad=lambda g, y, x: conjugate(g), elementwise=True, cases=_complex_cases)
def _conj(xp: Any, x: Num) -> Array:
    """The complex conjugate of x, elementwise."""
    return xp.conj(x)


def _make_spec(real: Tensor, imag: Tensor) -> Specs:
    dtype = dtypes.complex64 if real.dtype is dtypes.float32 else dtypes.complex128
    return [(broadcast_dims(real.dims, imag.dims), dtype)]


def _make_grad(g: Any, z: Any, x: Any, y: Any) -> Any:
    return unbroadcast(_real(g), x, y), unbroadcast(_imag(g), y, x)


@op(
    "Complex",
    infer=_make_spec,
    grad=_make_grad,
    cases=lambda s: [Case((s.normal(2, 3), s.normal(3)))],
)
def _complex(xp: Any, real: RealFloat, imag: RealFloat) -> Array:
    """real + i imag, elementwise, with broadcasting: complex64 of float32, else complex128."""
    dtype = np.complex64 if real.dtype == np.float32 else np.complex128
    return real.astype(dtype) + imag.astype(dtype) * dtype(1j)


@op(
    "Real",
    infer=_part_spec,
    grad=lambda g, y, x: _complex(g, g * 0),
    alias="x",
    cases=_complex_cases,
)
def _real(xp: Any, x: Float) -> Array:
    """The real part of x, elementwise."""
    return x.real


@op(
    "Imag",
    infer=_part_spec,
    grad=lambda g, y, x: _complex(g * 0, g),
    alias="x",
    cases=_complex_cases,
)
def _imag(xp: Any, x: Float) -> Array:
    """The imaginary part of x, elementwise."""
    return x.imag


def _abs_grad(g: Any, y: Any, x: Any) -> Any:
    from graphflow.ops.arithmetic import div_no_nan

    return _complex(g * div_no_nan(_real(x), y), g * div_no_nan(_imag(x), y))


@op("ComplexAbs", infer=_part_spec, grad=_abs_grad, cases=_complex_cases)
def complex_abs(xp: Any, x: Float) -> Array:
    """The magnitude of x, elementwise; its gradient at 0 is 0."""
    return xp.abs(x)


def _angle_grad(g: Any, y: Any, x: Any) -> Any:
    re, im = _real(x), _imag(x)
    scaled = g / (re * re + im * im)
    return _complex(-scaled * im, scaled * re)


@op("Angle", infer=_part_spec, grad=_angle_grad, cases=_complex_cases)
def _angle(xp: Any, x: Float) -> Array:
    """The argument of x in (-pi, pi], elementwise."""
    return xp.arctan2(x.imag, x.real)


# ---- TensorFlow's functions


def conj(x: Any, name: str | None = None) -> Tensor:
    """The complex conjugate, elementwise; a real tensor is returned as it is."""
    x = as_tensor(x)
    return _conj(x, name=name) if x.dtype.is_complex else x


def complex(real: Any, imag: Any, name: str | None = None) -> Tensor:
    """real + i imag, of float32 or float64, with broadcasting."""
    return _complex(real, imag, name=name)


def real(input: Any, name: str | None = None) -> Tensor:
    """The real part, elementwise; a real tensor is returned as it is."""
    x = as_tensor(input)
    return _real(x, name=name) if x.dtype.is_complex else x


def imag(input: Any, name: str | None = None) -> Tensor:
    """The imaginary part, elementwise; 0 for real tensors."""
    x = as_tensor(input)
    if x.dtype.is_floating or x.dtype.is_complex:
        return _imag(x, name=name)
    from graphflow.ops.filling import zeros_like

    return zeros_like(x)


def angle(input: Any, name: str | None = None) -> Tensor:
    """The argument, elementwise; for real tensors 0 or, where negative, pi."""
    from graphflow.ops.casting import cast
    from graphflow.ops.compare import less

    x = as_tensor(input)
    if x.dtype.is_complex:
        return _angle(x, name=name)
    return cast(less(x, 0), x.dtype) * np.pi

"""Functions that are several ops: histograms, polynomials, patches of images, products."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from graphflow import ops
from graphflow.base import dtypes
from graphflow.base.errors import GraphError
from graphflow.build import as_tensor
from graphflow.build.tensor import Tensor
from graphflow.ops.public import composite
from graphflow.ops.rules import rank_is
from graphflow.ops.windows import axes, output_dims, taps


def histogram_fixed_width_bins(
    values: Any, value_range: Any, nbins: Any = 100, dtype: Any = dtypes.int32,
    name: str | None = None,
) -> Tensor:  # fmt: skip
    """The number of the bin of each value; those outside count for the first or last.

    Args:
      value_range: [2], of the dtype of the values: where the first bin begins, the last one ends.
      nbins: how many bins of equal width.
    """
    with composite(name, "histogram_fixed_width_bins", values):
        x = as_tensor(values)
        low, high = ops.unstack(as_tensor(value_range, x.dtype), num=2)
        wide = ops.cast(ops.subtract(high, low), dtypes.float64)
        part = ops.cast(x - low, dtypes.float64) / wide
        count = ops.cast(as_tensor(nbins), dtypes.float64)
        number = ops.clip_by_value(ops.floor(part * count), ops.zeros_like(count), count - 1.0)
        return ops.cast(number, dtype)


def histogram_fixed_width(
    values: Any, value_range: Any, nbins: Any = 100, dtype: Any = dtypes.int32,
    name: str | None = None,
) -> Tensor:  # fmt: skip
    """How many values are in each bin, [nbins]; Args as of `histogram_fixed_width_bins`."""
    with composite(name, "histogram_fixed_width", values):
        bins = ops.reshape(histogram_fixed_width_bins(values, value_range, nbins), [-1])
        return ops.unsorted_segment_sum(ops.ones_like(bins, dtype), bins, nbins)


def polyval(coeffs: Sequence[Any], x: Any, name: str | None = None) -> Tensor:
    """The polynomial with these coefficients, highest power first, at x; by Horner's rule."""
    if not isinstance(coeffs, (list, tuple)):
        raise GraphError(f"polyval takes a list of coefficients, not {coeffs!r}")
    with composite(name, "polyval", x):
        at = as_tensor(x)
        if not coeffs:
            return ops.zeros_like(at)
        total = as_tensor(coeffs[0], at.dtype)
        for c in coeffs[1:]:
            total = as_tensor(c, at.dtype) + total * at
        return total


def reciprocal_no_nan(x: Any, name: str | None = None) -> Tensor:
    """1 / x, but 0 where x is 0."""
    with composite(name, "reciprocal_no_nan", x) as scope:
        y = as_tensor(x)
        result: Tensor = ops.div_no_nan(ops.ones_like(y), y, name=scope)
        return result


def adjoint(matrix: Any, name: str | None = None) -> Tensor:
    """The conjugate transpose of the last two axes."""
    return ops.matrix_transpose(matrix, name=name or "adjoint", conjugate=True)


def matvec(
    a: Any, b: Any, transpose_a: bool = False, adjoint_a: bool = False, name: str | None = None
) -> Tensor:
    """The product of matrices [..., m, n] and vectors [..., n]."""
    with composite(name, "MatVec", a, b):
        product = ops.matmul(a, ops.expand_dims(b, -1), transpose_a, adjoint_a=adjoint_a)
        return ops.squeeze(product, [-1])


def normalize(
    tensor: Any, ord: Any = "euclidean", axis: Any = None, name: str | None = None
) -> tuple[Tensor, Tensor]:
    """A tensor divided by its norm, and the norm, with its axes kept; Args as of `tf.norm`."""
    with composite(name, "normalize", tensor):
        x = as_tensor(tensor)
        size = ops.norm(x, ord, axis, keepdims=True)
        return x / size, size


def pinv(a: Any, rcond: Any = None, name: str | None = None) -> Tensor:
    """The Moore-Penrose inverse of matrices [..., m, n], by their singular values.

    Args:
      rcond: singular values below so many times the largest count as 0; by default
        10 * max(m, n) * eps.
    """
    with composite(name, "pinv", a):
        x = as_tensor(a)
        if x.dims is None or None in x.dims[-2:]:
            raise GraphError("pinv needs the static sizes of its matrices")
        if rcond is None:
            rcond = 10.0 * max(n or 0 for n in x.dims[-2:]) * np.finfo(x.dtype.real_dtype.np).eps
        s, u, v = ops.svd(x)
        most = ops.reduce_max(s, -1, keepdims=True) * ops.cast(as_tensor(rcond), s.dtype)
        kept = ops.greater(s, most)
        inverse = ops.where_v2(kept, 1.0 / ops.where_v2(kept, s, ops.ones_like(s)),
                               ops.zeros_like(s))  # fmt: skip
        scaled = v * ops.expand_dims(ops.cast(inverse, x.dtype), -2)
        return ops.matmul(scaled, u, adjoint_b=True)


def extract_image_patches(
    images: Any = None, ksizes: Any = None, strides: Any = None, rates: Any = None,
    padding: Any = None, name: str | None = None, sizes: Any = None,
) -> Tensor:  # fmt: skip
    """The windows of images, each as one row of channels.

    Args:
      images: [batch, height, width, channels], of known height and width.
      ksizes: size of the windows, [1, rows, columns, 1]; `sizes` is its newer name.
      strides, rates: distance of windows, and of neighbouring pixels in them.
      padding: "SAME", with zeros, or "VALID".

    Returns:
      [batch, height', width', rows * columns * channels].
    """
    window = tuple(ksizes if sizes is None else sizes)[1:3]
    steps, far = tuple(strides)[1:3], tuple(rates)[1:3]
    with composite(name, "ExtractImagePatches", images):
        x = as_tensor(images)
        dims = rank_is(x, 4, "images of extract_image_patches")
        if None in dims[1:3]:
            raise GraphError("extract_image_patches needs the static size of its images")
        padding = str(padding).upper()
        output_dims(dims, window, steps, far, padding, 4)
        high, wide = axes(dims[1:3], window, steps, far, padding)
        rest = [[a.before, max(a.padded - a.before - a.size, 0)] for a in (high, wide)]
        whole = ops.pad(x, [[0, 0], *rest, [0, 0]]) if any(map(any, rest)) else x
        return ops.concat([whole[index] for _, index in taps((high, wide))], 3)

"""A masked value: what gradients at kinks and poles are made of."""

from __future__ import annotations

from typing import Any

import numpy as np

from graphflow.build import op
from graphflow.build.opdef import Array, Bool, Num, Specs
from graphflow.build.tensor import Tensor
from graphflow.ops.cases import PAIRS, Case, Sampler
from graphflow.ops.public import function
from graphflow.ops.rules import broadcast_dims
from graphflow.ops.sums import unbroadcast


def _spec(mask: Tensor, x: Tensor, *, other: float) -> Specs:
    return [(broadcast_dims(mask.dims, x.dims), x.dtype)]


def _cases(s: Sampler) -> list[Case]:
    nan = Case((np.asarray([True, False]), np.asarray([1.0, np.nan])), grad=False)
    ones = Case((s.booleans(3), s.normal(3)), {"other": 1})
    return [*[Case((s.booleans(*a), s.normal(*b))) for a, b in PAIRS], nan, ones]


@function
@op(
    "Keep",
    infer=_spec,
    grad=lambda g, y, mask, x, *, other: (None, unbroadcast(keep(mask, g), x, mask)),
    elementwise=True,
    cases=_cases,
)
def keep(xp: Any, mask: Bool, x: Num, *, other: float = 0) -> Array:
    """x where the mask is true, else a number, also where x is NaN; with broadcasting."""
    return xp.where(mask, x, other)

"""Second derivatives as matrices."""

from __future__ import annotations

from typing import Any

from graphflow.base.errors import GraphError
from graphflow.build import Tensor, as_tensor
from graphflow.build.defaults import get_default_graph
from graphflow.differentiate.gradients import gradients
from graphflow.ops.filling import range as range_
from graphflow.ops.functional import map_fn
from graphflow.ops.joining import concat
from graphflow.ops.shape_ops import reshape, shape, size


def hessians(
    ys: Any,
    xs: Any,
    name: str = "hessians",
    colocate_gradients_with_ops: bool = False,
    gate_gradients: bool = False,
    aggregation_method: int | None = None,
) -> list[Tensor]:
    """Hessian of the sum of ys with respect to each of xs.

    The elements of the gradient are differentiated one by one, in a loop.

    Args:
      ys: a tensor or a list of tensors.
      xs: a tensor, variable, or a list of them.
      name: name scope of the ops that are added.
      colocate_gradients_with_ops, gate_gradients, aggregation_method: as in `gradients`.

    Returns:
      One tensor of shape x.shape + x.shape per x; zeros where the gradient is constant.

    Raises:
      ValueError: no y depends on an x.
    """
    options: dict[str, Any] = {
        "colocate_gradients_with_ops": colocate_gradients_with_ops,
        "gate_gradients": gate_gradients,
        "aggregation_method": aggregation_method,
    }
    listed = list(xs) if isinstance(xs, (list, tuple)) else [xs]
    with get_default_graph().name_scope(name):
        found = gradients(ys, listed, **options)
        return [_hessian(g, x, options) for g, x in zip(found, listed, strict=True)]


def _hessian(gradient: Any, x: Any, options: dict[str, Any]) -> Tensor:
    if gradient is None:
        raise GraphError(f"no y depends on {x!r}: there is no Hessian")
    gradient = as_tensor(gradient)
    flat = reshape(gradient, [-1])

    def row(i: Tensor) -> Tensor:
        (found,) = gradients(flat[i], x, unconnected_gradients="zero", **options)
        return as_tensor(found)

    rows = map_fn(row, range_(size(gradient)), dtype=gradient.dtype)
    sizes = shape(gradient)
    result: Tensor = reshape(rows, concat([sizes, sizes], 0))
    if gradient.dims is not None:
        result.set_shape((*gradient.dims, *gradient.dims))
    return result

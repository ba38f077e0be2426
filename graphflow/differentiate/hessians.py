"""Second derivatives as matrices."""

from __future__ import annotations

from typing import Any

from graphflow.base.errors import GraphError
from graphflow.base.shapes import size_of
from graphflow.build import OPS, Tensor, as_tensor
from graphflow.build.defaults import get_default_graph
from graphflow.differentiate.gradients import gradients


def hessians(
    ys: Any,
    xs: Any,
    name: str = "hessians",
    colocate_gradients_with_ops: bool = False,
    gate_gradients: bool = False,
    aggregation_method: int | None = None,
) -> list[Tensor]:
    """Hessian of the sum of ys with respect to each of xs.

    The gradient's elements are differentiated one by one: the ops added grow with the number of
    elements of an x, which must be static.

    Args:
      ys: a tensor or a list of tensors.
      xs: a tensor, variable, or a list of them.
      name: name scope of the ops that are added.
      colocate_gradients_with_ops, gate_gradients, aggregation_method: as in `gradients`.

    Returns:
      One tensor of shape x.shape + x.shape per x; zeros where the gradient is constant.

    Raises:
      ValueError: no y depends on an x, or the shape of an x is not static.
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
    dims, size = x.dims, size_of(x.dims)
    if gradient is None:
        raise GraphError(f"no y depends on {x!r}: there is no Hessian")
    if size is None:
        raise GraphError(f"the Hessian by {x!r} needs a static shape; use set_shape")
    gradient = as_tensor(gradient)
    if not size:
        zeros: Tensor = OPS["Reshape"](gradient, [*dims, *dims])
        return zeros
    flat = OPS["Reshape"](gradient, [-1])
    rows = []
    for element in OPS["Unpack"](flat, num=size) if size > 1 else [OPS["Reshape"](flat, [])]:
        rows += gradients(element, x, unconnected_gradients="zero", **options)
    result: Tensor = OPS["Reshape"](OPS["Pack"](*[as_tensor(r) for r in rows]), [*dims, *dims])
    return result

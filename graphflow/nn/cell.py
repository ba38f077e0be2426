"""What every recurrent cell has: a size, a state, and a step from one state to the next."""

from __future__ import annotations

from typing import Any

from graphflow.base import nest
from graphflow.base.dtypes import as_dtype
from graphflow.base.errors import DTypeError, GraphError
from graphflow.base.shapes import as_dims, is_known
from graphflow.build import Tensor, as_tensor
from graphflow.build.convert import is_symbolic
from graphflow.build.defaults import get_default_graph
from graphflow.nn.layer import Layer
from graphflow.ops.filling import zeros
from graphflow.ops.joining import stack
from graphflow.ops.known import constant_value
from graphflow.ops.shape_ops import shape
from graphflow.ops.variable_scope import get_variable_scope, variable_scope


class RNNCell(Layer):
    """A step of a recurrent network: `output, next_state = cell(inputs, state)`.

    Subclasses define `state_size`, `output_size` and `call(inputs, state)`, in which they may make
    variables with `get_variable`; or `build` and `call`, as layers do (`LayerRNNCell`).
    """

    @property
    def state_size(self) -> Any:
        """Size of the state without the batch: an int, a shape, or a structure of these."""
        raise NotImplementedError(f"{type(self).__name__} does not define state_size")

    @property
    def output_size(self) -> Any:
        """Size of the output without the batch: an int, a shape, or a structure of these."""
        raise NotImplementedError(f"{type(self).__name__} does not define output_size")

    def __call__(self, inputs: Any, state: Any, scope: Any = None) -> Any:
        """One step.

        Args:
          inputs: [batch, size], or a structure of such tensors.
          state: as `state_size` says, with the batch in front of each shape.
          scope: variable scope; by default named after the class.

        Returns:
          The output and the next state.
        """
        with variable_scope(
            get_variable_scope() if scope is None else scope, custom_getter=self._observed
        ) as entered:
            return Layer.__call__(self, inputs, state, scope=entered if scope is not None else None)

    def _observed(self, getter: Any, *args: Any, **kwargs: Any) -> Any:
        """A custom getter that keeps what `call` makes with `get_variable`."""
        variable = getter(*args, **kwargs)
        self._keep(variable)
        return variable

    def get_initial_state(
        self, inputs: Any = None, batch_size: Any = None, dtype: Any = None
    ) -> Any:
        """The state to begin with: zeros, for the batch and dtype given or those of the inputs.

        Raises:
          ValueError: neither says them.
        """
        if inputs is not None:
            tensor = as_tensor(inputs)
            known = tensor.dims[0] if tensor.dims else None
            batch_size = shape(tensor)[0] if known is None else known
            dtype = tensor.dtype
        if batch_size is None or dtype is None:
            raise GraphError("an initial state needs batch_size and dtype, or the inputs")
        return self.zero_state(batch_size, dtype)

    def zero_state(self, batch_size: Any, dtype: Any) -> Any:
        """A state of zeros.

        Args:
          batch_size: an int or a scalar int tensor.
          dtype: of the state.
        """
        with get_default_graph().name_scope(f"{type(self).__name__}ZeroState"):
            return nest.map_structure(
                lambda size: zeros_for(batch_size, size, dtype), self.state_size
            )


class LayerRNNCell(RNNCell):
    """A cell that makes its variables in `build`, as a layer does."""

    def __call__(self, inputs: Any, state: Any, scope: Any = None, **kwargs: Any) -> Any:
        """One step; see `RNNCell`."""
        return Layer.__call__(self, inputs, state, scope=scope, **kwargs)


def zeros_for(batch_size: Any, size: Any, dtype: Any) -> Tensor:
    """Zeros of shape [batch_size, *size]; the batch may be a tensor."""
    inner = as_dims(size)
    if not is_known(inner):
        raise GraphError(f"the size of a state or output must be known, not {size}")
    assert inner is not None
    if is_symbolic(batch_size):
        known = constant_value(as_tensor(batch_size))
        batch_size = batch_size if known is None else int(known)
    if not is_symbolic(batch_size):
        return zeros((int(batch_size), *inner), as_dtype(dtype))
    result = zeros(stack([batch_size, *inner]), as_dtype(dtype))
    result.set_shape((None, *inner))
    return result


def assert_like_rnncell(name: str, cell: Any) -> None:
    """Raises:
    TypeError: an argument of that name has not what a cell needs.
    """
    missing = [part for part in ("output_size", "state_size") if not hasattr(cell, part)]
    if not (hasattr(cell, "zero_state") or hasattr(cell, "get_initial_state")):
        missing.append("zero_state")
    if not callable(cell):
        missing.append("__call__")
    if missing:
        raise TypeError(f"the argument {name!r} ({cell!r}) is not an RNNCell: it has no {missing}")


def check_floating(*values: Any) -> None:
    """Raises:
    DTypeError: a tensor is not of a floating or complex dtype.
    """
    for leaf in nest.flatten(values):
        if not (leaf.dtype.is_floating or leaf.dtype.is_complex):
            raise DTypeError(
                f"a cell takes floating inputs and states, not {leaf.dtype.name} ({leaf!r})"
            )

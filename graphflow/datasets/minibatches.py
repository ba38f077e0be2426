"""Mini-batches that a graph takes by itself, from a place that is a variable."""

from __future__ import annotations

import operator
from typing import Any

import numpy as np

from graphflow.base import dtypes
from graphflow.build.default_graph import control_dependencies, name_scope
from graphflow.ops.gathering import gather
from graphflow.ops.shuffling import shuffled_row
from graphflow.ops.sources import constant
from graphflow.ops.variables import Variable

__all__ = ["Minibatches"]


class Minibatches:
    """Endless passes over arrays, in batches: each run that needs `next` takes one.

    How far it has come is a variable, `position`.  So it is in checkpoints, and training that
    goes on from one sees the batches that it would have seen; a run that fails takes none, and one
    that is repeated after the loss of a worker takes the same one again.

    A pass gives each row once.  Batches are all of one size: where a pass ends inside of one, the
    rest of it is of the next pass.

    Attributes:
      next: a tensor [size, ...] per array, of the rows of one batch; alone where there is one.
      position: rows that were taken, int64 []; not trained.
    """

    def __init__(self, *arrays: Any, size: int, seed: int | None = None, name: str = "minibatches"):
        """Args:
        arrays: [n, ...] each; they become part of the graph.
        size: rows of a batch.
        seed: each pass has another order, which depends on this alone; None: rows come as they lie.

        Raises:
          ValueError: there is no array or no row, arrays differ in length, or size is not positive.
        """
        rows = {len(array) for array in arrays}
        if len(rows) != 1 or rows == {0}:
            raise ValueError(f"arrays of one length are needed, not of {sorted(rows) or 'none'}")
        size = operator.index(size)
        if size < 1:
            raise ValueError(f"size is {size}; a batch needs at least one row")
        (count,) = rows
        with name_scope(name):
            self.position = Variable(np.int64(0), trainable=False, name="position")
            taken = self.position.assign_add(np.int64(size))
            numbers = taken + constant(np.arange(-size, 0, dtype=np.int64))
            if seed is None:
                chosen = numbers % constant(count, dtypes.int64)
            else:
                chosen = shuffled_row(numbers, rows=count, seed=operator.index(seed))
            with control_dependencies([taken]):
                found = tuple(gather(constant(array), chosen) for array in map(np.asarray, arrays))
        self.next = found[0] if len(found) == 1 else found

"""Control flow by TensorFlow's name for the module: branches, loops, and order."""

from graphflow.ops.cond import case, cond, switch_case
from graphflow.ops.sources import group, no_op
from graphflow.ops.sources import tuple_ as tuple
from graphflow.ops.while_loop import while_loop

__all__ = ["case", "cond", "group", "no_op", "switch_case", "tuple", "while_loop"]

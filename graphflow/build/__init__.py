"""Graphs: operations, tensors, scopes, and the registry of op definitions.

`Graph` is what this stage makes.  It is append-only; everything downstream reads it.
"""

from graphflow.build.convert import as_tensor
from graphflow.build.graph import Graph
from graphflow.build.opdef import OPS, OpDef, op
from graphflow.build.tensor import Operation, Tensor

__all__ = ["OPS", "Graph", "OpDef", "Operation", "Tensor", "as_tensor", "op"]

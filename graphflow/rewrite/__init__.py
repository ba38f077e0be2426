"""Pruning and rewriting: from a graph and what is asked of it to a `Subgraph`."""

from graphflow.rewrite.prune import prune
from graphflow.rewrite.rewrite import FAST_MATH, PASSES, Pass, rewrite
from graphflow.rewrite.subgraph import Subgraph

__all__ = ["FAST_MATH", "PASSES", "Pass", "Subgraph", "prune", "rewrite"]

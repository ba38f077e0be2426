"""Pruning and rewriting: from a graph and what is asked of it to a `Subgraph`."""

from graphflow.rewrite.prune import prune
from graphflow.rewrite.subgraph import Subgraph

__all__ = ["Subgraph", "prune"]

"""Reverse-mode differentiation: gradients are ops, added to the same graph."""

from graphflow.differentiate.accumulate import AggregationMethod
from graphflow.differentiate.gradients import UnconnectedGradients, gradients

__all__ = ["AggregationMethod", "UnconnectedGradients", "gradients"]

"""Reverse-mode differentiation: gradients are ops, added to the same graph."""

from graphflow.differentiate.accumulate import AggregationMethod
from graphflow.differentiate.gradient_checker import compute_gradient, compute_gradient_error
from graphflow.differentiate.gradients import UnconnectedGradients, gradients
from graphflow.differentiate.hessians import hessians
from graphflow.differentiate.registered import RegisterGradient
from graphflow.differentiate.registered import no_gradient as NoGradient
from graphflow.differentiate.registered import no_gradient as NotDifferentiable

__all__ = [
    "AggregationMethod",
    "NoGradient",
    "NotDifferentiable",
    "RegisterGradient",
    "UnconnectedGradients",
    "compute_gradient",
    "compute_gradient_error",
    "gradients",
    "hessians",
]

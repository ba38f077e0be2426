"""Compile: an ordered part of a graph becomes a `Plan`, a flat list of steps over slots."""

from graphflow.compile.lower import compile_plan
from graphflow.compile.plan import Plan, Step, takes_input

__all__ = ["Plan", "Step", "compile_plan", "takes_input"]

"""Loops: a plan, for known shapes, becomes typed loops and matrix products over flat memory."""

from graphflow.compile.loops.fuse import fuse
from graphflow.compile.loops.nests import Access, Nest, Product, Reduction, Store
from graphflow.compile.loops.specialise import Specialised, specialise

__all__ = [
    "Access",
    "Nest",
    "Product",
    "Reduction",
    "Specialised",
    "Store",
    "fuse",
    "specialise",
]

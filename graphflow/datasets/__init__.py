"""Small data sets that ship with graphflow, and the mini-batches to feed from them.

Nothing is downloaded. Origin, licence and making of each file: `data/README.md`.
"""

from graphflow.datasets import mnist
from graphflow.datasets.minibatch import batches
from graphflow.datasets.minibatches import Minibatches

__all__ = ["Minibatches", "batches", "mnist"]

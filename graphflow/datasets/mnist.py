"""Handwritten digits: a class-balanced sample of MNIST that ships in the package."""

from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

__all__ = ["load_data"]

Bytes: TypeAlias = NDArray[np.uint8]

SAMPLE = Path(__file__).with_name("data") / "mnist.npz"


def load_data() -> tuple[tuple[Bytes, Bytes], tuple[Bytes, Bytes]]:
    """Return `(x_train, y_train), (x_test, y_test)`, as Keras does.

    Images are uint8 of shape (n, 28, 28), 0 for paper and 255 for ink; labels are uint8 of shape
    (n,), 0 to 9. There are 5,000 training and 1,000 test examples (of MNIST's 60,000 and 10,000),
    as many of each digit, in random order. Every call returns fresh arrays, free to be changed.
    """
    with np.load(SAMPLE, allow_pickle=False) as sample:
        return (sample["x_train"], sample["y_train"]), (sample["x_test"], sample["y_test"])

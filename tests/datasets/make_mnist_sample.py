"""Make graphflow's MNIST sample: a fixed, class-balanced draw from the four idx files.

    python tests/datasets/make_mnist_sample.py FOLDER_WITH_IDX_GZ graphflow/datasets/data/mnist.npz

The same sources give the same arrays, bit for bit: the draw has a seed and the archive no dates.
(The bytes of the archive may differ between zlib versions.)
"""

import argparse
import gzip
import hashlib
from pathlib import Path

import numpy as np

SEED = 1998  # the year of LeCun, Bottou, Bengio & Haffner
TRAIN_PER_CLASS = 500
TEST_PER_CLASS = 100
IMAGES, LABELS = 0x00000803, 0x00000801  # idx magic: unsigned bytes, three axes or one


def read_idx(path: Path) -> np.ndarray:
    """The array in a gzipped idx file of unsigned bytes."""
    raw = gzip.decompress(path.read_bytes())
    magic = int.from_bytes(raw[:4], "big")
    if magic not in (IMAGES, LABELS):
        raise ValueError(f"{path} is no idx file of unsigned bytes: magic number {magic:#010x}")
    axes = magic & 0xFF
    shape = [int.from_bytes(raw[4 + 4 * i : 8 + 4 * i], "big") for i in range(axes)]
    return np.frombuffer(raw, np.uint8, offset=4 + 4 * axes).reshape(shape)


def draw(labels: np.ndarray, *, per_class: int, rng: np.random.Generator) -> np.ndarray:
    """Row numbers of `per_class` examples of each digit, in random order."""
    rows = [rng.choice(np.flatnonzero(labels == d), per_class, replace=False) for d in range(10)]
    return rng.permutation(np.concatenate(rows))


def make_sample(
    source: Path, *, train_per_class: int = TRAIN_PER_CLASS, test_per_class: int = TEST_PER_CLASS
) -> dict[str, np.ndarray]:
    """The sample's four arrays, drawn from the idx files in `source`."""
    rng = np.random.default_rng(SEED)
    sample = {}
    for part, stem, per_class in (
        ("train", "train", train_per_class),
        ("test", "t10k", test_per_class),
    ):
        images = read_idx(source / f"{stem}-images-idx3-ubyte.gz")
        labels = read_idx(source / f"{stem}-labels-idx1-ubyte.gz")
        rows = draw(labels, per_class=per_class, rng=rng)
        sample[f"x_{part}"], sample[f"y_{part}"] = images[rows], labels[rows]
    return sample


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    args = parser.parse_args()
    sample = make_sample(args.source)
    np.savez_compressed(args.target, **sample)
    for name, array in sample.items():
        digest = hashlib.sha256(array.tobytes()).hexdigest()
        print(f"{name:8} {array.shape!s:16} sha256 {digest[:16]}")
    print(f"{args.target}: {args.target.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()

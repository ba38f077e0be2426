"""The MNIST sample is what its README says, and good enough to learn from."""

import gzip
import hashlib
import re
from pathlib import Path

import numpy as np
import pytest

from graphflow.datasets import batches, mnist
from tests.datasets.make_mnist_sample import make_sample, read_idx


def test_shapes_dtypes_and_balance():
    (x_train, y_train), (x_test, y_test) = mnist.load_data()
    assert x_train.shape == (5000, 28, 28)
    assert x_test.shape == (1000, 28, 28)
    assert {a.dtype for a in (x_train, y_train, x_test, y_test)} == {np.dtype(np.uint8)}
    assert np.bincount(y_train).tolist() == [500] * 10
    assert np.bincount(y_test).tolist() == [100] * 10
    assert x_train.min() == 0
    assert x_train.max() == 255


def test_no_test_digit_is_trained_on():
    (x_train, _), (x_test, _) = mnist.load_data()
    seen = {x.tobytes() for x in x_train}
    assert len(seen) == len(x_train)
    assert not any(x.tobytes() in seen for x in x_test)


def test_bytes_are_those_the_readme_names():
    (x_train, y_train), (x_test, y_test) = mnist.load_data()
    readme = mnist.SAMPLE.with_name("README.md").read_text()
    for name, array in [
        ("x_train", x_train),
        ("y_train", y_train),
        ("x_test", x_test),
        ("y_test", y_test),
    ]:
        stated = re.search(rf"\| `{name}`.*`([0-9a-f]{{16}})`", readme)
        assert stated, name
        assert hashlib.sha256(array.tobytes()).hexdigest().startswith(stated[1]), name


def test_each_call_returns_arrays_of_its_own():
    (first, _), _ = mnist.load_data()
    first[:] = 7
    (second, _), _ = mnist.load_data()
    assert second[0].min() == 0


def test_file_is_about_one_megabyte():
    assert 0.5e6 < mnist.SAMPLE.stat().st_size < 1.2e6


def test_two_layers_of_plain_numpy_reach_93_percent():
    (x_train, y_train), (x_test, y_test) = mnist.load_data()
    x = x_train.reshape(-1, 784) / np.float32(255)
    rng = np.random.default_rng(0)
    w1 = rng.normal(0, 0.05, (784, 64)).astype(np.float32)
    w2 = rng.normal(0, 0.05, (64, 10)).astype(np.float32)
    v1, v2 = np.zeros_like(w1), np.zeros_like(w2)
    for epoch in range(8):
        for xb, yb in batches(x, y_train, size=100, seed=epoch):
            h = np.maximum(xb @ w1, 0)
            e = np.exp(h @ w2)
            dz = (e / e.sum(1, keepdims=True) - np.eye(10, dtype=np.float32)[yb]) / len(xb)
            v1 = 0.9 * v1 - 0.1 * xb.T @ (dz @ w2.T * (h > 0))
            v2 = 0.9 * v2 - 0.1 * h.T @ dz
            w1, w2 = w1 + v1, w2 + v2
    logits = np.maximum(x_test.reshape(-1, 784) / np.float32(255) @ w1, 0) @ w2
    assert (logits.argmax(1) == y_test).mean() >= 0.93


def write_idx(path: Path, array: np.ndarray) -> None:
    header = bytes([0, 0, 8, array.ndim]) + b"".join(n.to_bytes(4, "big") for n in array.shape)
    path.write_bytes(gzip.compress(header + array.tobytes()))


def test_make_sample_draws_balanced_and_always_the_same(tmp_path):
    rng = np.random.default_rng(3)
    for stem, n in (("train", 200), ("t10k", 100)):
        labels = np.arange(n, dtype=np.uint8) % 10
        images = rng.integers(0, 256, (n, 28, 28), np.uint8)
        images[:, 0, 0] = labels  # so that a mix-up of images and labels shows
        write_idx(tmp_path / f"{stem}-images-idx3-ubyte.gz", images)
        write_idx(tmp_path / f"{stem}-labels-idx1-ubyte.gz", labels)
    one = make_sample(tmp_path, train_per_class=5, test_per_class=3)
    two = make_sample(tmp_path, train_per_class=5, test_per_class=3)
    assert np.bincount(one["y_train"]).tolist() == [5] * 10
    assert np.bincount(one["y_test"]).tolist() == [3] * 10
    for name, array in one.items():
        assert np.array_equal(array, two[name]), name
    assert np.array_equal(one["x_train"][:, 0, 0], one["y_train"])


def test_read_idx_refuses_other_files(tmp_path):
    (tmp_path / "x.gz").write_bytes(gzip.compress(b"not an idx file"))
    with pytest.raises(ValueError, match=r"no idx file of unsigned bytes: magic number 0x6e6f7420"):
        read_idx(tmp_path / "x.gz")

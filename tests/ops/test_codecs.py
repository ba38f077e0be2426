"""JPEG files: what is written can be read again, nearly as it was."""

from __future__ import annotations

import numpy as np
import pytest

import graphflow as tf


@pytest.mark.parametrize("channels", [1, 3])
def test_a_smooth_image_survives_jpeg(channels: int) -> None:
    row, column = np.mgrid[0:24, 0:40]
    planes = [3 * row + 2 * column, 200 - 4 * row, 5 * column]
    image = np.stack(planes[:channels], -1).astype(np.uint8)
    with tf.Graph().as_default(), tf.Session() as session:
        files = [tf.image.encode_jpeg(image, quality=q) for q in (95, 20)]
        again = tf.image.decode_jpeg(files[0], channels=channels)
        small, fine, decoded = session.run([*files[::-1], again])
    assert fine.startswith(b"\xff\xd8\xff")
    assert len(small) < len(fine)
    assert decoded.shape == image.shape
    assert np.abs(decoded.astype(int) - image).max() <= 6

"""Programs of `tf.image`; see `record.py`."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.golden.programs import Programs, uniform, with_gradients

PROGRAMS = Programs()
program = PROGRAMS.register

BATCH = uniform(2, 5, 6, 3).astype(np.float32)
BYTES = (uniform(5, 6, 3, seed=1) * 255).astype(np.uint8)


@program
def resizing(tf: Any) -> list[Any]:
    found = []
    for size in ([3, 4], [7, 9], [10, 12]):
        for align in (False, True):
            for method in range(4):
                found.append(tf.image.resize_images(BATCH, size, method, align))
            found += with_gradients(
                tf, lambda x, s=size, a=align: tf.image.resize_bilinear(x, s, a), BATCH
            )[1:]
            found += with_gradients(
                tf, lambda x, s=size, a=align: tf.image.resize_bicubic(x, s, a), BATCH
            )[1:]
        found.append(tf.image.resize_bilinear(BATCH, size, half_pixel_centers=True))
        found.append(tf.image.resize_bicubic(BATCH, size, half_pixel_centers=True))
        found.append(tf.image.resize_nearest_neighbor(BYTES[None], size))
    found.append(tf.image.resize_images(BYTES, [5, 6]))
    found.append(tf.image.resize_images(BYTES, [20, 20], preserve_aspect_ratio=True))
    return [*found, tf.image.resize_image_with_pad(BATCH, 8, 8)]


@program
def crops_and_flips(tf: Any) -> list[Any]:
    m = tf.image
    found = [m.flip_left_right(BYTES), m.flip_up_down(BATCH), m.transpose_image(BYTES)]
    found += [m.rot90(BYTES, k) for k in (-1, 0, 1, 2, 3)]
    found += [m.random_flip_left_right(BATCH, seed=s) for s in (1, 2)]
    found += [m.random_flip_up_down(BYTES, seed=s) for s in (1, 2, 3)]
    found += [m.central_crop(BATCH, 0.5), m.central_crop(BYTES, 0.7)]
    found += [m.crop_to_bounding_box(BYTES, 1, 2, 3, 4), m.pad_to_bounding_box(BATCH, 1, 2, 8, 9)]
    for size in ((3, 4), (8, 9), (4, 9), (9, 3)):
        found.append(m.resize_image_with_crop_or_pad(BATCH, *size))
    boxes = np.array([[0, 0, 1, 1], [0.2, 0.9, 0.7, 0.1], [-0.5, 0, 0.5, 1.5]], np.float32)
    for method in ("bilinear", "nearest"):
        found.append(m.crop_and_resize(BATCH, boxes, [0, 1, 1], [3, 4], method, 7.0))
    found += with_gradients(
        tf, lambda x, b: m.crop_and_resize(x, b, [0, 1, 1], [3, 4]), BATCH, boxes + 0.01
    )
    return [*found, m.crop_and_resize(BATCH, boxes, [0, 1, 1], [1, 1])]


@program
def colours(tf: Any) -> list[Any]:
    m = tf.image
    found = []
    for x in (tf.constant(BATCH), tf.constant(BYTES)):
        found += [m.adjust_brightness(x, 0.2), m.adjust_contrast(x, 1.7), m.adjust_hue(x, 0.3)]
        found += [m.adjust_saturation(x, 0.4), m.adjust_saturation(x, 3.0), m.adjust_hue(x, -0.9)]
        found += [m.rgb_to_grayscale(x), m.grayscale_to_rgb(x[..., :1])]
        found += [m.per_image_standardization(x), m.total_variation(tf.cast(x, tf.float32))]
        found += [m.random_brightness(x, 0.5, seed=3), m.random_contrast(x, 0.3, 2.0, seed=4)]
        found += [m.random_hue(x, 0.3, seed=5), m.random_saturation(x, 0.3, 2.0, seed=6)]
    found.append(m.adjust_gamma(BATCH, 0.6, 1.2))
    found += with_gradients(tf, m.rgb_to_hsv, BATCH)
    found += [m.hsv_to_rgb(BATCH), m.psnr(BATCH, BATCH[::-1], 1.0), m.psnr(BYTES, BYTES[::-1], 255)]
    kinds = (tf.uint8, tf.int16, tf.uint16, tf.float32, tf.float64)
    for kind in kinds:
        found.append(m.convert_image_dtype(BATCH * 1.1, kind, saturate=True))
        found.append(m.convert_image_dtype(BYTES, kind))
    return found


@program
def files(tf: Any) -> list[Any]:
    m = tf.image
    png = m.encode_png(BYTES)
    found = [m.decode_png(png), m.decode_image(png), m.decode_png(m.encode_png(BYTES[..., :1]))]
    return [
        *found,
        m.decode_png(png, dtype=tf.uint16),
        m.decode_png(m.encode_png(BYTES[..., :1]), 3),
    ]

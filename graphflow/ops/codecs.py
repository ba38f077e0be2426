"""PNG and JPEG files as tensors, through Pillow, and the bytes of numbers."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import numpy as np

from graphflow.base import dtypes
from graphflow.base.dtypes import as_dtype
from graphflow.base.errors import (
    DTypeError,
    GraphError,
    InvalidArgumentError,
    NotFoundError,
    ShapeError,
)
from graphflow.base.shapes import Dims, format_dims
from graphflow.build import op
from graphflow.build.opdef import Array, Integer, Specs, String
from graphflow.build.tensor import Operation, Tensor
from graphflow.ops.cases import Case, Sampler
from graphflow.ops.rules import nothing
from graphflow.ops.shape_ops import no_cost

MODES = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}


def _pillow() -> Any:
    try:
        from PIL import Image
    except ImportError:
        raise ImportError("images are decoded and encoded by Pillow: pip install pillow") from None
    return Image


def scalar_bytes(contents: Any) -> bytes:
    """The one element of a string scalar.

    Raises:
      InvalidArgumentError: it is no scalar.
    """
    array: Any = np.asarray(contents, object)
    if array.shape != ():
        raise InvalidArgumentError(None, None, f"expected one string, got shape {array.shape}")
    value: Any = array[()]
    return value.encode() if isinstance(value, str) else bytes(value)


def _decoded_spec(contents: Tensor, *, channels: int, dtype: Any) -> Specs:
    if contents.dims not in (None, ()):
        raise ShapeError(f"contents must be a scalar, not of shape {format_dims(contents.dims)}")
    if channels not in (0, 1, 3, 4):
        raise GraphError(f"channels must be 0 (those of the file), 1, 3 or 4, not {channels}")
    if dtype not in (dtypes.uint8, dtypes.uint16):
        raise DTypeError(f"images are decoded to uint8 or uint16, not {dtype.name}")
    return [((None, None, channels or None), dtype)]


def _image_bytes(s: Sampler) -> list[Case]:
    cases = []
    for mode, shape in (("L", (3, 4)), ("RGB", (2, 3, 3)), ("RGBA", (2, 2, 4))):
        file = io.BytesIO()
        _pillow().fromarray(s.integers(256, *shape, dtype=np.uint8), mode).save(file, "PNG")
        contents = np.array(file.getvalue(), object)
        cases += [
            Case((contents,), {"channels": n, "dtype": dtypes.uint8}, grad=False) for n in (0, 1, 3)
        ]
    return cases


@op(
    "DecodeImage",
    infer=_decoded_spec,
    grad=None,
    dynamic=True,
    cost=no_cost,
    cases=_image_bytes,
)
def _decode(xp: Any, contents: String, *, channels: Any = 0, dtype: Any = dtypes.uint8) -> Array:
    """The pixels [height, width, channels] of an image file; 0 channels: those of the file."""
    data = scalar_bytes(contents)
    try:
        with _pillow().open(io.BytesIO(data)) as image:
            pixels = _pixels(image, channels, dtype)
    except (OSError, SyntaxError, ValueError) as error:
        raise InvalidArgumentError(None, None, f"no image that can be decoded: {error}") from None
    return xp.asarray(pixels if pixels.ndim == 3 else pixels[:, :, None])


def _pixels(image: Any, channels: int, dtype: Any) -> Any:
    deep = image.mode.startswith("I")  # 16 bits
    if deep:
        pixels = np.asarray(image).astype(np.uint16)
        if channels > 1:
            pixels = np.repeat(pixels[:, :, None], channels, axis=2)
            pixels[..., 3:] = 0xFFFF
        return pixels if dtype is dtypes.uint16 else (pixels >> 8).astype(np.uint8)
    mode = MODES[channels] if channels else _mode_of(image)
    pixels = np.asarray(image if image.mode == mode else image.convert(mode))
    return pixels.astype(np.uint16) * 257 if dtype is dtypes.uint16 else pixels


def _mode_of(image: Any) -> str:
    if image.mode in MODES.values():
        return str(image.mode)
    return "RGBA" if "transparency" in image.info else "L" if image.mode == "1" else "RGB"


def _text(x: Tensor, **_: Any) -> Specs:
    return [((), dtypes.string)]


def _pixel_cases(*channels: int, **attrs: Any) -> Callable[[Sampler], list[Case]]:
    return lambda s: [
        Case((s.integers(256, 3, 4, n, dtype=np.uint8),), attrs, grad=False) for n in channels
    ]


def _host(image: Any) -> Any:
    return image if isinstance(image, np.ndarray) else image.get()


def _checked_image(image: Any, allowed: tuple[int, ...]) -> Any:
    pixels = _host(image)
    if pixels.ndim != 3 or pixels.shape[2] not in allowed or pixels.dtype not in ("u1", "u2"):
        raise InvalidArgumentError(
            None,
            None,
            f"images are encoded from uint8 [height, width, {allowed}], not {pixels.dtype} of "
            f"shape {pixels.shape}",
        )
    return pixels


def _encoded(pixels: Any, kind: str, **options: Any) -> Array:
    mode = MODES[pixels.shape[2]]
    if pixels.dtype == np.uint16:
        if pixels.shape[2] != 1:
            raise InvalidArgumentError(None, None, "uint16 images are encoded with one channel")
        mode = "I;16"
    pixels = pixels[:, :, 0] if pixels.shape[2] == 1 else pixels
    height, width = pixels.shape[:2]
    file = io.BytesIO()
    data = np.ascontiguousarray(pixels).tobytes()
    _pillow().frombytes(mode, (width, height), data).save(file, kind, **options)
    result = np.empty((), object)
    result[()] = file.getvalue()
    return result


@op("EncodePng", infer=_text, grad=None, cost=no_cost, cases=_pixel_cases(1, 3, 4, compression=3))
def _encode_png(xp: Any, image: Integer, *, compression: Any = -1) -> Array:
    """The PNG file of an image [height, width, channels], uint8 or, with one channel, uint16."""
    level = {} if compression < 0 else {"compress_level": compression}
    return _encoded(_checked_image(image, (1, 2, 3, 4)), "PNG", **level)


@op("EncodeJpeg", infer=_text, grad=None, cost=no_cost, cases=_pixel_cases(1, 3, quality=80))
def _encode_jpeg(xp: Any, image: Integer, *, quality: Any = 95, optimize: Any = False) -> Array:
    """The JPEG file of an image [height, width, 1 or 3], uint8."""
    return _encoded(_checked_image(image, (1, 3)), "JPEG", quality=quality, optimize=optimize)


# ---- files


def _string(*_: Tensor, **__: Any) -> Specs:
    return [((), dtypes.string)]


@op("ReadFile", infer=_string, grad=None, effect="input", cost=no_cost)
def _read_file(xp: Any, ctx: Any, filename: String) -> Array:
    """The bytes of a file."""
    path = scalar_bytes(filename).decode()

    def read() -> Any:
        result = np.empty((), object)
        try:
            with open(path, "rb") as file:
                result[()] = file.read()
        except FileNotFoundError as error:
            raise NotFoundError(None, None, f"{path}: {error.strerror}") from None
        return result

    return ctx.input(read, of=(filename,))


@op("WriteFile", infer=nothing, grad=None, effect="output", cost=no_cost)
def _write_file(xp: Any, ctx: Any, filename: String, contents: String) -> tuple[()]:
    """Writes bytes to a file when the run commits."""
    path, data = scalar_bytes(filename).decode(), scalar_bytes(contents)

    def write() -> None:
        with open(path, "wb") as file:
            file.write(data)

    ctx.output(write)
    return ()


# ---- numbers


def _raw_spec(data: Tensor, *, out_type: Any, little_endian: bool) -> Specs:
    dims: Dims = None if data.dims is None else (*data.dims, None)
    return [(dims, out_type)]


@op(
    "DecodeRaw",
    infer=_raw_spec,
    grad=None,
    dynamic=True,
    cost=no_cost,
    cases=lambda s: [
        Case((np.array(values, object),), {"out_type": kind}, grad=False)
        for values in ([b"abcd", b"1234"], b"\x00\x01\x02\x03\x04\x05\x06\x07", [[b""]])
        for kind in (dtypes.uint8, dtypes.int16, dtypes.float32)
    ],
)
def _decode_raw(xp: Any, data: String, *, out_type: Any, little_endian: Any = True) -> Array:
    """The bytes of strings as numbers, along a new last axis; all strings have one length."""
    array = np.asarray(data, object)
    parts = [bytes(b) for b in array.reshape(-1)]
    lengths = {len(p) for p in parts} or {0}
    if len(lengths) > 1:
        raise InvalidArgumentError(
            None, None, f"DecodeRaw needs strings of one length, got lengths {sorted(lengths)}"
        )
    (length,) = lengths
    if length % out_type.size:
        raise InvalidArgumentError(
            None, None, f"{length} bytes are no whole number of {out_type.name}"
        )
    kind = out_type.np.newbyteorder("<" if little_endian else ">")
    numbers = np.frombuffer(b"".join(parts), kind).astype(out_type.np)
    return xp.asarray(numbers.reshape(*array.shape, length // out_type.size))


# ---- TensorFlow's functions


def decode_image(
    contents: Any, channels: int | None = None, dtype: Any = dtypes.uint8, name: str | None = None
) -> Tensor:
    """The pixels of a PNG, JPEG, BMP or GIF file (its first frame).

    Args:
      contents: the file's bytes, a string scalar.
      channels: 1, 3 or 4; None or 0: those of the file.
      dtype: uint8 or uint16.

    Returns:
      [height, width, channels].

    Raises:
      InvalidArgumentError: when run, it is no image.
    """
    return _decode(
        contents, channels=channels or 0, dtype=as_dtype(dtype), name=name or "decode_image"
    )


def decode_png(
    contents: Any, channels: int = 0, dtype: Any = dtypes.uint8, name: str | None = None
) -> Tensor:
    """The pixels of a PNG file; see `decode_image`."""
    return _decode(contents, channels=channels, dtype=as_dtype(dtype), name=name or "DecodePng")


def decode_jpeg(
    contents: Any,
    channels: int = 0,
    ratio: int = 1,
    fancy_upscaling: bool = True,
    try_recover_truncated: bool = False,
    acceptable_fraction: float = 1,
    dct_method: str = "",
    name: str | None = None,
) -> Tensor:
    """The pixels, uint8, of a JPEG file; see `decode_image`.

    Raises:
      ValueError: a ratio other than 1, by which TensorFlow scales down.
    """
    if ratio != 1:
        raise GraphError("decode_jpeg has ratio=1 only: use tf.image.resize_area")
    return _decode(contents, channels=channels, dtype=dtypes.uint8, name=name or "DecodeJpeg")


def encode_png(image: Any, compression: int = -1, name: str | None = None) -> Tensor:
    """The PNG file, a string scalar, of an image [height, width, 1 to 4], uint8."""
    return _encode_png(image, compression=compression, name=name)


def encode_jpeg(
    image: Any,
    format: str = "",
    quality: int = 95,
    progressive: bool = False,
    optimize_size: bool = False,
    name: str | None = None,
) -> Tensor:
    """The JPEG file, a string scalar, of an image [height, width, 1 or 3], uint8."""
    return _encode_jpeg(image, quality=quality, optimize=optimize_size, name=name)


def read_file(filename: Any, name: str | None = None) -> Tensor:
    """The bytes of a file, read when run.

    Raises:
      NotFoundError: when run, there is no such file.
    """
    return _read_file(filename, name=name)


def write_file(filename: Any, contents: Any, name: str | None = None) -> Operation:
    """An operation that writes bytes to a file when its run commits."""
    return _write_file(filename, contents, name=name)


def decode_raw(
    input_bytes: Any = None,
    out_type: Any = None,
    little_endian: bool = True,
    name: str | None = None,
    bytes: Any = None,
) -> Tensor:
    """The bytes of strings as numbers.

    Args:
      input_bytes: strings of one length; `bytes` is its old name.
      out_type: the dtype of the numbers.
      little_endian: the order of their bytes.

    Returns:
      [*shape of the strings, length / size of the dtype].
    """
    data = bytes if input_bytes is None else input_bytes
    return _decode_raw(data, out_type=as_dtype(out_type), little_endian=little_endian, name=name)

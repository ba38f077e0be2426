"""Programs of strings; see `record.py`."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.golden.programs import Programs

PROGRAMS = Programs()
program = PROGRAMS.register

LENGTHS = (0, 1, 3, 4, 7, 8, 16, 17, 32, 33, 63, 64, 65, 100, 127, 128, 129, 192, 193, 300)


@program
def hashes(tf: Any) -> list[Any]:
    texts = [("The quick brown fox; " * 20)[:n] for n in LENGTHS]
    return [tf.string_to_hash_bucket_fast(texts, 2**62), tf.string_to_hash_bucket_fast("abc", 7)]


@program
def strings(tf: Any) -> list[Any]:
    words = tf.constant([["aB c", "", "d-e f"], ["12", " x ", "zz top"]])
    row = tf.constant(["a b", "", " c,d  e"])
    found = [
        tf.string_join([words, "!", words], "_"),
        tf.substr(["abcde", "fgh"], 1, 2),
        tf.substr(["abcde", "fgh"], [-2, 0], [9, 1]),
        tf.regex_replace(words, "([a-z])[ -]", "<\\1>"),
        tf.regex_replace(words, "[a-z]", "<\\0>", replace_global=False),
        tf.strings.regex_full_match(words, "[a-z ]*"),
        tf.strings.length(words),
        tf.strings.lower(words),
        tf.strings.upper(words),
        tf.string_strip(words),
        tf.string_to_number(["1.5", "-2e3", "7"]),
        tf.string_to_number(["15", "-2"], tf.int64),
    ]
    for axis in (0, 1, [0, 1], [1, 0], None):
        found.append(tf.reduce_join(words, axis, separator="."))
    found.append(tf.reduce_join(words, 1, keep_dims=True))
    for sep, skip in ((" ", True), (" ", False), (" ,", True), ("", True)):
        parts = tf.string_split(row, sep, skip)
        found += [parts.indices, parts.values, parts.dense_shape]
    return found


@program
def numbers_as_text(tf: Any) -> list[Any]:
    x = np.array([1.5, -2.0, 1e10, 3.14159265], np.float32)
    return [
        tf.as_string(x),
        tf.as_string(x, precision=2),
        tf.as_string(x, scientific=True),
        tf.as_string(x, shortest=True),
        tf.as_string([1, -20, 300], width=5, fill="0"),
        tf.as_string([1, -20, 300], width=5),
        tf.as_string([True, False]),
        tf.as_string(np.array([1 + 2j])),
        tf.decode_raw(["abcd", "1234"], tf.uint8),
        tf.decode_raw(["abcd", "1234"], tf.int16, little_endian=False),
    ]

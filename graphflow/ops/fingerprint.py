"""Farmhash's 64-bit fingerprint, by which TensorFlow hashes strings.

Source: Pike, FarmHash, `farmhashna::Hash64`.
"""

from __future__ import annotations

from typing import Final

MASK: Final = 2**64 - 1
K0: Final = 0xC3A5C85C97CB3127
K1: Final = 0xB492B66FBE98F273
K2: Final = 0x9AE16A3B2F90404F


def _long(s: bytes, at: int) -> int:
    return int.from_bytes(s[at : at + 8], "little")


def _turn(value: int, by: int) -> int:
    value &= MASK
    return (value >> by | value << (64 - by)) & MASK


def _mix(value: int) -> int:
    value &= MASK
    return value ^ value >> 47


def _pair(u: int, v: int, factor: int) -> int:
    a = _mix((u ^ v) * factor)
    b = _mix(((v & MASK) ^ a) * factor)
    return b * factor & MASK


def fingerprint64(s: bytes) -> int:
    """The fingerprint of bytes, in [0, 2**64)."""
    n = len(s)
    if n <= 16:
        return _short(s, n)
    if n <= 32:
        return _medium(s, n)
    return _large(s, n) if n <= 64 else _huge(s, n)


def _short(s: bytes, n: int) -> int:
    if n >= 8:
        factor = K2 + 2 * n
        a, b = _long(s, 0) + K2, _long(s, n - 8)
        return _pair(
            (_turn(b, 37) * factor + a) & MASK, ((_turn(a, 25) + b) * factor) & MASK, factor
        )
    if n >= 4:
        first, last = (int.from_bytes(part, "little") for part in (s[:4], s[-4:]))
        return _pair(n + (first << 3), last, K2 + 2 * n)
    if n:
        y, z = s[0] + (s[n >> 1] << 8), n + (s[-1] << 2)
        return _mix((y * K2 & MASK) ^ (z * K0 & MASK)) * K2 & MASK
    return K2


def _medium(s: bytes, n: int) -> int:
    factor = K2 + 2 * n
    a, b = _long(s, 0) * K1 & MASK, _long(s, 8)
    c, d = _long(s, n - 8) * factor & MASK, _long(s, n - 16) * K2 & MASK
    u = (_turn(a + b, 43) + _turn(c, 30) + d) & MASK
    return _pair(u, (a + _turn(b + K2, 18) + c) & MASK, factor)


def _large(s: bytes, n: int) -> int:
    factor = K2 + 2 * n
    a, b = _long(s, 0) * K2 & MASK, _long(s, 8)
    c, d = _long(s, n - 8) * factor & MASK, _long(s, n - 16) * K2 & MASK
    y = (_turn(a + b, 43) + _turn(c, 30) + d) & MASK
    z = _pair(y, (a + _turn(b + K2, 18) + c) & MASK, factor)
    e, f = _long(s, 16) * factor & MASK, _long(s, 24)
    g = (y + _long(s, n - 32)) * factor & MASK
    h = (z + _long(s, n - 24)) * factor & MASK
    u = (_turn(e + f, 43) + _turn(g, 30) + h) & MASK
    return _pair(u, (e + _turn(f + a, 18) + g) & MASK, factor)


def _weak(s: bytes, at: int, a: int, b: int) -> tuple[int, int]:
    w, x, y, z = (_long(s, at + 8 * i) for i in range(4))
    a = (a + w) & MASK
    b = _turn(b + a + z, 21)
    start = a
    a = (a + x + y) & MASK
    return (a + z) & MASK, (b + _turn(a, 44) + start) & MASK


def _huge(s: bytes, n: int) -> int:
    x, y = 81, (81 * K1 + 113) & MASK
    z = _mix(y * K2 + 113) * K2 & MASK
    v, w = (0, 0), (0, 0)
    x = (x * K2 + _long(s, 0)) & MASK
    end = (n - 1) // 64 * 64
    for at in (*range(0, end, 64), end + ((n - 1) & 63) - 63):
        last = at == end + ((n - 1) & 63) - 63
        # the last round overlaps the one before, and mixes by another factor
        factor, nine = (K1 + 2 * (z & 0xFF), 9) if last else (K1, 1)
        if last:
            w = ((w[0] + ((n - 1) & 63)) & MASK, w[1])
            v = ((v[0] + w[0]) & MASK, v[1])
            w = ((w[0] + v[0]) & MASK, w[1])
        x = _turn(x + y + v[0] + _long(s, at + 8), 37) * factor & MASK
        y = _turn(y + v[1] + _long(s, at + 48), 42) * factor & MASK
        x ^= w[1] * nine & MASK
        y = (y + v[0] * nine + _long(s, at + 40)) & MASK
        z = _turn(z + w[0], 33) * factor & MASK
        v = _weak(s, at, v[1] * factor & MASK, x + w[0])
        w = _weak(s, at + 32, z + w[1], y + _long(s, at + 16))
        x, z = z, x
    left = (_pair(v[0], w[0], factor) + _mix(y) * K0 + z) & MASK
    return _pair(left, (_pair(v[1], w[1], factor) + x) & MASK, factor)

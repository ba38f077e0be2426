"""A certificate of a job's own, for TLS between its workers.

Each worker has it, by Ray, and trusts nothing else.  Python can use certificates but not make
them, so one is written here: X.509 (RFC 5280) in DER, with a key on the curve P-256 and signed by
ECDSA (FIPS 186-4).  It is made once per job; that it takes 20 ms, and not always as many, does not
matter where nobody can ask for it again and again.
"""

from __future__ import annotations

import base64
import hashlib
import secrets
import ssl
import tempfile
import textwrap
from datetime import UTC, datetime, timedelta

# P-256 (SEC 2): y^2 = x^3 - 3 x + b modulo p; G generates a group of n points.
_P = 2**256 - 2**224 + 2**192 + 2**96 - 1
_N = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
_G = (
    0x6B17D1F2E12C4247F8BCE6E563A440F277037D812DEB33A0F4A13945D898C296,
    0x4FE342E2FE1A7F9B8EE7EB4A7C0F9E162BCE33576B315ECECBB6406837BF51F5,
)

_ECDSA_SHA256 = "1.2.840.10045.4.3.2"
_PUBLIC_KEY = "1.2.840.10045.2.1"
_P256 = "1.2.840.10045.3.1.7"
_COMMON_NAME = "2.5.4.3"
_BASIC_CONSTRAINTS = "2.5.29.19"

Point = tuple[int, int] | None


def make(name: str, days: int = 365) -> tuple[str, str]:
    """A self-signed certificate and its private key, both in PEM."""
    private = secrets.randbelow(_N - 1) + 1
    public = _point(_multiply(private, _G))
    algorithm = _sequence(_oid(_ECDSA_SHA256))
    subject = _sequence(_set(_sequence(_oid(_COMMON_NAME), _der(0x0C, name.encode()))))
    now = datetime.now(UTC)
    # A day of grace for clocks that are behind.
    validity = _sequence(_time(now - timedelta(days=1)), _time(now + timedelta(days=days)))
    constraints = _sequence(_oid(_BASIC_CONSTRAINTS), _TRUE, _octets(_sequence(_TRUE)))
    body = _sequence(
        _der(0xA0, _integer(2)),  # version 3
        _integer(secrets.randbits(120)),
        algorithm,
        subject,
        validity,
        subject,
        _sequence(_sequence(_oid(_PUBLIC_KEY), _oid(_P256)), _bits(public)),
        _der(0xA3, _sequence(constraints)),
    )
    signature = _sequence(*[_integer(x) for x in _sign(private, body)])
    certificate = _sequence(body, algorithm, _bits(signature))
    key = _sequence(
        _integer(1),
        _octets(private.to_bytes(32, "big")),
        _der(0xA0, _oid(_P256)),
        _der(0xA1, _bits(public)),
    )
    return _pem("CERTIFICATE", certificate), _pem("EC PRIVATE KEY", key)


def contexts(certificate: str, private_key: str) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """For the connecting and the accepting end, both of which have to show this certificate."""
    client = _context(ssl.PROTOCOL_TLS_CLIENT, certificate)
    server = _context(ssl.PROTOCOL_TLS_SERVER, certificate)
    # OpenSSL reads a key from a file only: this one has no name, and is gone with its descriptor.
    with tempfile.TemporaryFile() as file:
        file.write((certificate + private_key).encode())
        file.flush()
        for each in (client, server):
            each.load_cert_chain(f"/proc/self/fd/{file.fileno()}")
    return client, server


def _context(protocol: int, certificate: str) -> ssl.SSLContext:
    tls = ssl.SSLContext(protocol)
    tls.minimum_version = ssl.TLSVersion.TLSv1_3
    tls.check_hostname = False  # the certificate is the job's, on whatever host
    tls.verify_mode = ssl.CERT_REQUIRED
    tls.load_verify_locations(cadata=certificate)
    return tls


# ---- ECDSA


def _add(a: Point, b: Point) -> Point:
    if a is None or b is None:
        return a or b
    if a[0] == b[0]:
        if (a[1] + b[1]) % _P == 0:
            return None
        slope = (3 * a[0] * a[0] - 3) * pow(2 * a[1], -1, _P)
    else:
        slope = (b[1] - a[1]) * pow(b[0] - a[0], -1, _P)
    x = (slope * slope - a[0] - b[0]) % _P
    return x, (slope * (a[0] - x) - a[1]) % _P


def _multiply(scalar: int, point: Point) -> tuple[int, int]:
    total: Point = None
    while scalar:
        if scalar & 1:
            total = _add(total, point)
        point = _add(point, point)
        scalar >>= 1
    assert total is not None
    return total


def _sign(private: int, message: bytes) -> tuple[int, int]:
    digest = int.from_bytes(hashlib.sha256(message).digest(), "big")
    while True:
        k = secrets.randbelow(_N - 1) + 1
        r = _multiply(k, _G)[0] % _N
        s = pow(k, -1, _N) * (digest + r * private) % _N
        if r and s:
            return r, s


def _point(point: tuple[int, int]) -> bytes:
    return b"\x04" + b"".join(x.to_bytes(32, "big") for x in point)


# ---- DER (X.690)


def _der(tag: int, content: bytes) -> bytes:
    length = len(content)
    if length < 0x80:
        return bytes([tag, length]) + content
    size = (length.bit_length() + 7) // 8
    return bytes([tag, 0x80 | size]) + length.to_bytes(size, "big") + content


def _sequence(*parts: bytes) -> bytes:
    return _der(0x30, b"".join(parts))


def _set(*parts: bytes) -> bytes:
    return _der(0x31, b"".join(parts))


def _integer(value: int) -> bytes:
    return _der(0x02, value.to_bytes(value.bit_length() // 8 + 1, "big"))


def _bits(content: bytes) -> bytes:
    return _der(0x03, b"\0" + content)


def _octets(content: bytes) -> bytes:
    return _der(0x04, content)


def _time(moment: datetime) -> bytes:
    return _der(0x18, moment.strftime("%Y%m%d%H%M%SZ").encode())


def _oid(dotted: str) -> bytes:
    first, second, *rest = map(int, dotted.split("."))
    content = bytearray([40 * first + second])
    for number in rest:
        groups = [number & 0x7F]
        while number := number >> 7:
            groups.append(0x80 | number & 0x7F)
        content += bytes(reversed(groups))
    return _der(0x06, bytes(content))


_TRUE = _der(0x01, b"\xff")


def _pem(label: str, der: bytes) -> str:
    lines = "\n".join(textwrap.wrap(base64.b64encode(der).decode(), 64))
    return f"-----BEGIN {label}-----\n{lines}\n-----END {label}-----\n"

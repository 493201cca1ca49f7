"""API keys: `ck_`, a letter for the kind, 22 base62 digits (131 random bits), 6 base62 digits of their CRC32.

A browser token has the same form with the letter `b`. It stands for an inference key for some minutes and is no
kind of key: no API that makes keys can be asked for one. A token of one of the operator's people, for their programs,
begins with `co_` and has no letter: it opens the operator's API and nothing of a tenant's.

The checksum lets a gateway refuse a mistyped key, and a leak scanner recognise a real one, without a look-up.
A key is stored as HMAC-SHA256 under a versioned pepper; several versions are valid at once, so that rotating
the pepper never kills a key.
"""

import hmac
import re
import zlib
from collections.abc import Callable
from enum import StrEnum
from hashlib import sha256
from secrets import token_bytes

from msgspec import Struct

_ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_RANDOM_DIGITS = 22
_CHECKSUM_DIGITS = 6
_SHAPE = re.compile(rf"ck_[imb][0-9A-Za-z]{{{_RANDOM_DIGITS + _CHECKSUM_DIGITS}}}", re.ASCII)
_OPERATOR_SHAPE = re.compile(rf"co_[0-9A-Za-z]{{{_RANDOM_DIGITS + _CHECKSUM_DIGITS}}}", re.ASCII)


class KeyKind(StrEnum):
    """What a key opens: the regional inference API, or the control plane's management API."""

    INFERENCE = "inference"
    MANAGEMENT = "management"


_LETTERS = {KeyKind.INFERENCE: "i", KeyKind.MANAGEMENT: "m"}
_BROWSER_LETTER = "b"
BROWSER_TOKEN_PREFIX = f"ck_{_BROWSER_LETTER}"
_BLOCK_BYTES = 64


class Pepper(Struct, frozen=True):
    """A secret of the operator's; `version` says under which one a digest was made."""

    version: int
    secret: bytes


def generate_key(kind: KeyKind) -> str:
    """A new secret. It is shown once and never stored."""
    return _generate(f"ck_{_LETTERS[kind]}")


def generate_browser_token() -> str:
    """A new secret for a browser, which keeps it in memory only."""
    return _generate(f"ck_{_BROWSER_LETTER}")


def generate_operator_token() -> str:
    """A new secret for a program of the operator's. It is shown once and never stored."""
    return _generate("co_")


def is_browser_token(key: str) -> bool:
    """Whether a well-formed secret is a browser token, and no key. The letter is under the checksum."""
    return key.startswith(BROWSER_TOKEN_PREFIX)


def is_well_formed(key: str) -> bool:
    """Whether shape and checksum are right, of a key or a browser token. Says nothing about whether it exists."""
    return _SHAPE.fullmatch(key) is not None and _has_its_checksum(key)


def is_operator_token(token: str) -> bool:
    """The same of an operator token, which is never taken for a key, nor a key for one."""
    return _OPERATOR_SHAPE.fullmatch(token) is not None and _has_its_checksum(token)


def digest_key(key: str, pepper: Pepper) -> bytes:
    """HMAC-SHA256 of the whole key, 32 bytes."""
    return hmac.digest(pepper.secret, key.encode(), "sha256")


def prepare_digest(pepper: Pepper) -> Callable[[bytes], bytes]:
    """`digest_key` for many keys under one pepper."""
    return prepare_hmac(pepper.secret)


def prepare_hmac(secret: bytes) -> Callable[[bytes], bytes]:
    """HMAC-SHA256 of many texts under one secret, at half its price: its two hashes (RFC 2104) are begun once."""
    secret = secret if len(secret) <= _BLOCK_BYTES else sha256(secret).digest()
    padded = secret.ljust(_BLOCK_BYTES, b"\0")
    inner_begun = sha256(bytes(byte ^ 0x36 for byte in padded))
    outer_begun = sha256(bytes(byte ^ 0x5C for byte in padded))

    def digest(text: bytes) -> bytes:
        inner, outer = inner_begun.copy(), outer_begun.copy()
        inner.update(text)
        outer.update(inner.digest())
        return outer.digest()

    return digest


def display_prefix(key: str) -> str:
    """The part that may be shown in lists: the kind and four digits."""
    return key[:8]


def _generate(beginning: str) -> str:
    number = int.from_bytes(token_bytes(17)) % 62**_RANDOM_DIGITS
    body = beginning + _base62(number, _RANDOM_DIGITS)
    return body + _checksum(body)


def _has_its_checksum(secret: str) -> bool:
    return hmac.compare_digest(_checksum(secret[:-_CHECKSUM_DIGITS]), secret[-_CHECKSUM_DIGITS:])


def _checksum(body: str) -> str:
    return _base62(zlib.crc32(body.encode()), _CHECKSUM_DIGITS)


def _base62(number: int, digits: int) -> str:
    out = []
    for _ in range(digits):
        number, rest = divmod(number, 62)
        out.append(_ALPHABET[rest])
    return "".join(reversed(out))

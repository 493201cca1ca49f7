"""The keys that sign checkpoints: Ed25519 (RFC 8032), in versions, so that a new one leaves old signatures valid."""

import base64
import binascii
from collections.abc import Callable
from typing import TypeVar

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from chappe_kernel.errors import Invalid
from chappe_store.audit_log.chain import Checkpoint, PublicKeys, signed_bytes

T = TypeVar("T")

_KEY_BYTES = 32


class SigningKeys:
    """The newest signs, all of them verify."""

    def __init__(self, keys: dict[int, Ed25519PrivateKey]) -> None:
        self._version = max(keys)
        self._newest = keys[self._version]
        self.public: PublicKeys = {version: key.public_key() for version, key in keys.items()}

    def sign(self, unsigned: Checkpoint) -> Checkpoint:
        """With the newest key, whatever version `unsigned` says."""
        named = msgspec.structs.replace(unsigned, key_version=self._version)
        return msgspec.structs.replace(named, signature=self._newest.sign(signed_bytes(named)).hex())


def parse_signing_keys(text: str) -> SigningKeys:
    """`1:<base64>,2:<base64>`, 32 secret bytes each. Raises `Invalid` without showing any of it."""
    return SigningKeys(_parse(text, Ed25519PrivateKey.from_private_bytes, "CHAPPE_AUDIT_KEYS"))


def parse_public_keys(text: str) -> PublicKeys:
    """`1:<base64>,2:<base64>`, as `format_public_keys` writes them. Raises `Invalid`."""
    return _parse(text, Ed25519PublicKey.from_public_bytes, "the public keys")


def format_public_keys(keys: PublicKeys) -> str:
    """For whoever verifies without being able to sign."""
    return ",".join(
        f"{version}:{base64.b64encode(key.public_bytes(Encoding.Raw, PublicFormat.Raw)).decode()}"
        for version, key in sorted(keys.items())
    )


def _parse(text: str, read: Callable[[bytes], T], name: str) -> dict[int, T]:
    parts = text.split(",")
    try:
        keys = dict(_parse_one(part, read) for part in parts)
    except (ValueError, binascii.Error):
        keys = {}
    if len(keys) != len(parts):
        message = f"{name} must be like 1:<base64>,2:<base64>: each version once, each key {_KEY_BYTES} bytes"
        raise Invalid(message, code="invalid_setting")
    return keys


def _parse_one(part: str, read: Callable[[bytes], T]) -> tuple[int, T]:
    version, _, encoded = part.strip().partition(":")
    return int(version), read(base64.b64decode(encoded, validate=True))

"""Keys of the content store: the region's wraps one for each tenant, and that one makes one for each object.

Whoever has the database without the region's key reads nothing; whoever loses a tenant's wrapped key has lost the
tenant's content for good, which is how it is shredded. Every sealed piece names its object and its place there, so
that none can be taken for another.
"""

import hmac
import os
from base64 import b64decode
from binascii import Error as Base64Error
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from chappe_kernel.errors import Invalid

_KEY_BYTES = 32
_NONCE_BYTES = 12
_TAG_BYTES = 16
OVERHEAD_BYTES = _NONCE_BYTES + _TAG_BYTES
"""How much longer what is sealed is than what was there before."""


class Unreadable(Exception):
    """Sealed under a key that this region does not have any more, or not by this region at all."""


def parse_keys(text: str) -> tuple[bytes, ...]:
    """Base64 of 32 bytes each, with commas between; the first seals, all open. Raises `Invalid`, which quotes none."""
    keys = []
    for number, entry in enumerate(filter(None, (part.strip() for part in text.split(","))), start=1):
        try:
            key = b64decode(entry, validate=True)
        except (Base64Error, ValueError):
            key = b""
        if len(key) != _KEY_BYTES:
            raise Invalid(f"content key {number} is not the base64 of {_KEY_BYTES} bytes", param="content_keys")
        keys.append(key)
    return tuple(keys)


class RegionSeal:
    """Wraps tenants' keys. Without keys of its own it derives one of the region's credential."""

    def __init__(self, keys: tuple[bytes, ...], region_credential: str, region: str) -> None:
        label = b"chappe content 1 " + region.encode()
        derived = hmac.digest(region_credential.encode(), label, "sha256")
        # The derived one still opens what was wrapped before there were others.
        self._ciphers = tuple(AESGCM(key) for key in (*keys, derived))

    def new_key(self, tenant_id: UUID) -> bytes:
        """A fresh key of a tenant's, wrapped."""
        return _seal(self._ciphers[0], os.urandom(_KEY_BYTES), tenant_id.bytes)

    def open_key(self, tenant_id: UUID, wrapped: bytes) -> "TenantSeal":
        """Raises `Unreadable`."""
        for cipher in self._ciphers:
            try:
                return TenantSeal(_open(cipher, wrapped, tenant_id.bytes))
            except Unreadable:
                continue
        raise Unreadable

    def wrap_again(self, tenant_id: UUID, wrapped: bytes) -> bytes | None:
        """The same key under the newest of the region's; None if it is already. Raises `Unreadable`."""
        try:
            _open(self._ciphers[0], wrapped, tenant_id.bytes)
        except Unreadable:
            key = self.open_key(tenant_id, wrapped).key
            return _seal(self._ciphers[0], key, tenant_id.bytes)
        return None


class TenantSeal:
    """Seals and opens one tenant's content."""

    def __init__(self, key: bytes) -> None:
        self.key = key

    def seal(self, object_id: UUID, place: str, plain: bytes) -> bytes:
        """`place` is which part of the object it is."""
        return _seal(self._cipher(object_id), plain, place.encode())

    def open(self, object_id: UUID, place: str, sealed: bytes) -> bytes:
        """Raises `Unreadable` for what was not sealed as this part of this object."""
        return _open(self._cipher(object_id), sealed, place.encode())

    def _cipher(self, object_id: UUID) -> AESGCM:
        # A key for each object: random nonces of 96 bits never come near their limit under one.
        return AESGCM(hmac.digest(self.key, b"object\0" + object_id.bytes, "sha256"))


def _seal(cipher: AESGCM, plain: bytes, said: bytes) -> bytes:
    nonce = os.urandom(_NONCE_BYTES)
    return nonce + cipher.encrypt(nonce, plain, said)


def _open(cipher: AESGCM, sealed: bytes, said: bytes) -> bytes:
    try:
        return cipher.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], said)
    except (InvalidTag, ValueError):
        raise Unreadable from None

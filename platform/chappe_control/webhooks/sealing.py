"""Endpoints' secrets as the database has them: sealed, so that a copy of it signs nothing."""

import secrets
from collections.abc import Sequence
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from chappe_kernel.api_keys import Pepper
from chappe_kernel.errors import Unavailable
from chappe_tenants.peppers import newest

_PURPOSE = b"chappe webhook secrets"
_NONCE_BYTES = 12
_VERSION_BYTES = 4


class SecretSeal:
    """Seals under the newest pepper, and opens what any of them sealed. What is sealed for one endpoint opens for no
    other."""

    def __init__(self, peppers: Sequence[Pepper]) -> None:
        self._keys = {pepper.version: AESGCM(_derive(pepper)) for pepper in peppers}
        self._newest = newest(tuple(peppers)).version

    def close(self, secret: bytes, endpoint_id: UUID) -> bytes:
        nonce = secrets.token_bytes(_NONCE_BYTES)
        sealed = self._keys[self._newest].encrypt(nonce, secret, _PURPOSE + endpoint_id.bytes)
        return self._newest.to_bytes(_VERSION_BYTES, "big") + nonce + sealed

    def open(self, sealed: bytes, endpoint_id: UUID) -> bytes:
        """Raises `Unavailable`: sealed under a pepper that is gone, or not by us."""
        version, rest = int.from_bytes(sealed[:_VERSION_BYTES], "big"), sealed[_VERSION_BYTES:]
        try:
            nonce, text = rest[:_NONCE_BYTES], rest[_NONCE_BYTES:]
            return self._keys[version].decrypt(nonce, text, _PURPOSE + endpoint_id.bytes)
        except (KeyError, ValueError, InvalidTag) as error:
            raise Unavailable("the endpoint's secret cannot be read", code="secret_unreadable") from error


def _derive(pepper: Pepper) -> bytes:
    return HKDF(hashes.SHA256(), 32, salt=None, info=_PURPOSE).derive(pepper.secret)

"""What is to be told to whom: sealed for as long as it waits in the database.

A letter holds a link that opens an account. Sealed under a key that only the control plane's processes have, it opens
nothing for whoever reads the database, a backup of it, or its log.
"""

import base64
import hmac
import secrets
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from chappe_kernel.api_keys import Pepper
from chappe_tenants.peppers import newest

_PURPOSE = b"mail that waits in the outbox"
_NONCE_BYTES = 12


class Order(msgspec.Struct, frozen=True):
    """`kind` names who writes the letter, `values` are what the writer needs to know, `to` is a clean address."""

    kind: str
    to: str
    language: str
    values: dict[str, str]


class Unreadable(Exception):
    """Not sealed by us, or under a pepper that is gone."""


class Seal:
    """Seals with a key derived from the newest pepper, and opens what any of them sealed."""

    def __init__(self, peppers: Sequence[Pepper]) -> None:
        self._keys = {pepper.version: AESGCM(_derive(pepper)) for pepper in peppers}
        self._newest = newest(tuple(peppers)).version

    def close(self, order: Order) -> dict[str, Any]:
        """The outbox's payload."""
        nonce = secrets.token_bytes(_NONCE_BYTES)
        sealed = self._keys[self._newest].encrypt(nonce, msgspec.json.encode(order), _PURPOSE)
        return {"pepper_version": self._newest, "sealed": base64.b64encode(nonce + sealed).decode()}

    def open(self, payload: Mapping[str, Any]) -> Order:
        """Raises `Unreadable`."""
        try:
            key = self._keys[payload["pepper_version"]]
            raw = base64.b64decode(payload["sealed"], validate=True)
            text = key.decrypt(raw[:_NONCE_BYTES], raw[_NONCE_BYTES:], _PURPOSE)
            return msgspec.json.decode(text, type=Order)
        except (KeyError, TypeError, ValueError, InvalidTag, msgspec.MsgspecError) as error:
            raise Unreadable from error


def _derive(pepper: Pepper) -> bytes:
    return hmac.digest(pepper.secret, _PURPOSE, "sha256")

"""Signatures after Standard Webhooks (standardwebhooks.com, 1.0.0): HMAC-SHA256 over id, time and body. Pure.

Their Python library would bring five packages for these lines; that it accepts what they make is tested by the vectors
that it is published with.
"""

import base64
import hmac
import secrets
from collections.abc import Sequence
from datetime import datetime

_PREFIX = "whsec_"
_BYTES = 32


def new_secret() -> bytes:
    return secrets.token_bytes(_BYTES)


def show_secret(secret: bytes) -> str:
    """As every library of theirs takes it."""
    return _PREFIX + base64.b64encode(secret).decode()


def read_secret(shown: str) -> bytes:
    """The inverse."""
    return base64.b64decode(shown.removeprefix(_PREFIX), validate=True)


def sign(secret: bytes, *, message_id: str, timestamp: int, body: bytes) -> str:
    """`v1,` and base64. `timestamp` is in seconds since 1970."""
    signed = f"{message_id}.{timestamp}.".encode() + body
    return "v1," + base64.b64encode(hmac.digest(secret, signed, "sha256")).decode()


def headers_of(keys: Sequence[bytes], *, message_id: str, now: datetime, body: bytes) -> dict[str, str]:
    """With a signature by each key, the newest first: while a secret is changed, whoever has either can verify."""
    timestamp = int(now.timestamp())
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": " ".join(sign(key, message_id=message_id, timestamp=timestamp, body=body) for key in keys),
    }

"""Secrets that whoever has them may use: in a session's cookie, in an invitation's link.

256 random bits, derived from nothing, so their digest needs no pepper. Rows hold the digest alone.
"""

import hashlib
import re
import secrets

_BYTES = 32
_SHAPE = re.compile(r"[A-Za-z0-9_-]{43}", re.ASCII)


def new_secret() -> str:
    """43 characters that a cookie and an address take as they are."""
    return secrets.token_urlsafe(_BYTES)


def is_well_formed(secret: str) -> bool:
    """Whether it can be one of ours: cookies and addresses are anybody's to send, and what cannot costs no look-up."""
    return _SHAPE.fullmatch(secret) is not None


def digest_secret(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()

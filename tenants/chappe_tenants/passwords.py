"""Passwords of people: Argon2id (RFC 9106), each hash with its own salt and parameters."""

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from chappe_kernel.errors import Invalid

MIN_LENGTH = 12
# Argon2 reads any length; the bound keeps one sign-in from costing more than another.
MAX_LENGTH = 256

_hasher = PasswordHasher()


def hash_password(password: str) -> str:
    """An encoded Argon2id hash. Takes about 50 ms and 64 MiB. Raises `Invalid` for a length out of bounds."""
    if not MIN_LENGTH <= len(password) <= MAX_LENGTH:
        raise Invalid(
            f"a password has {MIN_LENGTH} to {MAX_LENGTH} characters", code="invalid_password", param="password"
        )
    return _hasher.hash(password)


def verify_password(password_hash: str, password: str) -> bool:
    """Whether the password is the one that was hashed. A damaged hash fits no password."""
    try:
        return _hasher.verify(password_hash, password)
    except (VerificationError, InvalidHashError):
        return False

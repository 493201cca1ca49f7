"""Passwords of people: Argon2id (RFC 9106), each hash with its own salt and parameters."""

import asyncio
import functools
import itertools
import secrets
import unicodedata
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from chappe_kernel.errors import Invalid, Unavailable

MIN_LENGTH = 12
# Argon2 reads any length; the bound keeps one sign-in from costing more than another.
MAX_LENGTH = 256
# Each hash takes 64 MiB and four threads of its own for about 50 ms.
_AT_ONCE = 2
_WAITING = 64
# What is left of a password without these must still be something.
_COMMON = ("password", "passwort", "motdepasse", "qwerty", "azerty", "qwertz", "letmein", "welcome", "admin", "chappe")
_MIN_DISTINCT = 5
_MIN_KNOWN_LENGTH = 4

T = TypeVar("T")

_hasher = PasswordHasher()


class PasswordWork:
    """Hashes in threads, so that nobody else's request waits for one; at most two at once, whoever asks.

    A caller who goes away does not free a thread early: the pool's own size is the bound, and not a count of callers.
    """

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="password")
        self._waiting = 0
        # Made now: the first unknown address must not take longer than the second.
        self._nobodys_hash = _nobodys_hash()

    async def hash(self, password: str) -> str:
        """`hash_password`. Raises `Unavailable` when too many wait."""
        return await self._run(functools.partial(hash_password, password))

    async def verify(self, password_hash: str | None, password: str) -> bool:
        """`verify_password`. Without a hash it takes as long and is False: nobody has that address.

        Raises `Unavailable` when too many wait.
        """
        verified = await self._run(functools.partial(verify_password, password_hash or self._nobodys_hash, password))
        return verified and password_hash is not None

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)

    async def _run(self, work: Callable[[], T]) -> T:
        if self._waiting >= _WAITING:
            raise Unavailable("too many people sign in at this moment", code="too_many_sign_ins")
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, work)
        finally:
            self._waiting -= 1


def check_password(password: str, personal: Sequence[str] = ()) -> None:
    """Raises `Invalid` whose code says why, for a password that nobody should take. `personal` is what an attacker
    would try first: the own address, the organisation's name.

    Length is what makes a password strong (NIST SP 800-63B): there is no rule about kinds of characters.
    """
    _check_shape(password)
    text = unicodedata.normalize("NFKC", password).casefold()
    for known in (*personal, *_COMMON):
        if len(known) >= _MIN_KNOWN_LENGTH:
            text = text.replace(known.casefold(), "")
    if len(set(text)) < _MIN_DISTINCT or any(_steps_alike(text, step) for step in (-1, 0, 1)):
        raise Invalid("this password is easy to guess", code="password_guessable", param="password")


def hash_password(password: str) -> str:
    """An encoded Argon2id hash. Takes about 50 ms and 64 MiB. Raises `Invalid` for what cannot be a password."""
    _check_shape(password)
    return _hasher.hash(_encoded(password))


def verify_password(password_hash: str, password: str) -> bool:
    """Whether the password is the one that was hashed. A damaged hash fits no password."""
    if len(password) > MAX_LENGTH:
        return False
    try:
        return _hasher.verify(password_hash, _encoded(password))
    except (VerificationError, InvalidHashError):
        return False


def _check_shape(password: str) -> None:
    if len(password) < MIN_LENGTH:
        raise _no_password("password_too_short")
    if len(password) > MAX_LENGTH:
        raise _no_password("password_too_long")
    # Control characters and lone surrogates: no keyboard makes them, so nobody could type the password again.
    if any(unicodedata.category(char) in {"Cc", "Cs"} for char in password):
        raise _no_password("password_unreadable")


def _no_password(code: str) -> Invalid:
    return Invalid(
        f"a password has {MIN_LENGTH} to {MAX_LENGTH} characters that can be typed", code=code, param="password"
    )


def _steps_alike(text: str, step: int) -> bool:
    """Whether most of the text is like 123456, 654321 or aaaaaa."""
    steps = [ord(after) - ord(before) for before, after in itertools.pairwise(text)]
    return steps.count(step) * 2 > len(steps)


def _encoded(password: str) -> bytes:
    """One encoding for what looks the same: keyboards differ in how they compose an accent (NIST SP 800-63B, 3.1.1.2).

    A lone surrogate cannot be encoded. It becomes a question mark here; no hash was ever made of one.
    """
    return unicodedata.normalize("NFKC", password).encode("utf-8", "replace")


@functools.cache
def _nobodys_hash() -> str:
    return _hasher.hash(secrets.token_urlsafe())

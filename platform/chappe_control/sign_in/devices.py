"""Browsers in which somebody has signed in before: what an attacker does to the account does not slow them down.

A browser gets a cookie when it signs in, bound to that account and signed with a key derived from the peppers; nothing
is stored. It opens nothing: whoever steals one may only guess at that one account, as often as one address may.
"""

import hmac
import re
import secrets
from collections.abc import Sequence
from datetime import timedelta
from typing import Final

from litestar.datastructures import Cookie

from chappe_kernel.api_keys import Pepper
from chappe_kernel.clock import Clock
from chappe_tenants.peppers import newest

DEVICE_COOKIES: Final = {"portal": "__Host-chappe-device", "console": "__Host-chappe-console-device"}
LIFETIME: Final = timedelta(days=180)
_PURPOSE = b"browsers in which somebody has signed in before"
_SHAPE = re.compile(r"([A-Za-z0-9_-]{22})\.(\d{1,12})\.([0-9a-f]{64})", re.ASCII)
_NAME_BYTES = 16


class Devices:
    """Signs and recognises the cookies of one realm. Every pepper's are recognised; new ones bear the newest's."""

    def __init__(self, peppers: Sequence[Pepper], realm: str, clock: Clock) -> None:
        self._keys = [_derive(pepper) for pepper in peppers]
        self._newest = _derive(newest(tuple(peppers)))
        self._realm = realm
        self._clock = clock

    def sign(self, email: str) -> Cookie:
        """For a browser in which somebody has just signed in with this address."""
        name, since = secrets.token_urlsafe(_NAME_BYTES), str(int(self._clock.now().timestamp()))
        value = f"{name}.{since}.{self._mac(self._newest, name, since, email)}"
        return Cookie(
            key=DEVICE_COOKIES[self._realm],
            value=value,
            max_age=int(LIFETIME.total_seconds()),
            path="/",
            secure=True,
            httponly=True,
            samesite="lax",
        )

    def recognise(self, value: str | None, email: str) -> str | None:
        """The device's name, if somebody has signed in there with this address and not too long ago."""
        match = _SHAPE.fullmatch(value or "")
        if match is None:
            return None
        name, since, mac = match.groups()
        if self._clock.now().timestamp() - int(since) > LIFETIME.total_seconds():
            return None
        # Each key is tried, whichever fits: which pepper it was takes no time to tell.
        fits = [hmac.compare_digest(mac, self._mac(key, name, since, email)) for key in self._keys]
        return name if any(fits) else None

    def _mac(self, key: bytes, name: str, since: str, email: str) -> str:
        return hmac.digest(key, f"{self._realm}\n{name}\n{since}\n{email}".encode(), "sha256").hex()


def _derive(pepper: Pepper) -> bytes:
    return hmac.digest(pepper.secret, _PURPOSE, "sha256")

"""How often somebody may be wrong about a password.

The rule, in each minute and apart for portal and console:

1. An address (of IPv6 the /64) may be wrong `sign_in_failures_per_minute` times, whatever the account.
2. Once an account has seen `account_failures_per_minute` failures from anywhere, each address may be wrong about it
   once.
3. A browser in which somebody has signed in to the account before (`devices.py`) is counted by itself: it may be wrong
   `sign_in_failures_per_minute` times, whatever was tried elsewhere, at its own address too.

So guessing is slow from one address and from many, and nobody is locked out by others: a right password opens from
every address that has not itself been wrong too often in this minute, and from a known browser behind an address that
others abuse. An attempt counts before its password is looked at, so that a hundred at once are not a hundred guesses;
a success is taken back.
"""

from enum import StrEnum
from hashlib import sha256

from chappe_control.settings import ControlSettings
from chappe_control.throttle import Noted, Throttle


class Realm(StrEnum):
    PORTAL = "portal"
    CONSOLE = "console"


class Attempts:
    """The attempts of one realm."""

    def __init__(self, throttle: Throttle, settings: ControlSettings, realm: Realm) -> None:
        self._throttle = throttle
        self._settings = settings
        self._realm = realm

    async def begin(self, email: str, address: str, device: str | None = None) -> tuple[Noted, ...]:
        """`device` names a browser that is known to the account. Raises `LimitExceeded`. What it returns is for
        `succeed`."""
        if device is not None:
            from_device = await self._note("device", device)
            if from_device.seen <= self._settings.sign_in_failures_per_minute:
                return (from_device,)
        # The store of counters holds no address of a person.
        account = sha256(email.encode()).hexdigest()
        from_here = await self._note("address", address)
        if from_here.seen > self._settings.sign_in_failures_per_minute:
            raise self._throttle.refusal()
        on_account = await self._note("account", account)
        from_here_on_account = await self._note("account-address", f"{account}:{address}")
        if on_account.seen > self._settings.account_failures_per_minute and from_here_on_account.seen > 1:
            raise self._throttle.refusal()
        return from_here, on_account, from_here_on_account

    async def succeed(self, noted: tuple[Noted, ...]) -> None:
        """The password was right: none of it counts."""
        for one in noted:
            await self._throttle.take_back(one)

    async def _note(self, kind: str, name: str) -> Noted:
        return await self._throttle.note(f"sign-in-{kind}", f"{self._realm}:{name}")

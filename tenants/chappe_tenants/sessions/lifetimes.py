"""How long sessions last. The database's clock decides."""

from datetime import timedelta

from msgspec import Struct


class Lifetime(Struct, frozen=True):
    """A session ends `idle` after it was last seen, and at the latest `absolute` after the sign-in."""

    idle: timedelta
    absolute: timedelta


PORTAL = Lifetime(idle=timedelta(hours=24), absolute=timedelta(days=14))
# The console shows every tenant: an unlocked screen must not stay open over night.
CONSOLE = Lifetime(idle=timedelta(hours=1), absolute=timedelta(hours=12))

REST = timedelta(minutes=1)
"""`seen_at` is written at most this often: a page that refreshes itself must not write a row each time."""

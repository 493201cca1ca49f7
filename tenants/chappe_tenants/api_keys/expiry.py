"""When a key ends by itself. Pure: the present time, the database's, is an argument."""

from datetime import datetime, timedelta

from chappe_kernel.errors import Invalid

MAX_OVERLAP = timedelta(days=30)
MAX_LIFETIME = timedelta(days=3660)


def check_expiry(expires_at: datetime | None, now: datetime) -> None:
    """Raises `Invalid` for an end that is past, or so far away that somebody must have meant none."""
    if expires_at is not None and not now < expires_at <= now + MAX_LIFETIME:
        raise Invalid(
            f"expires_at must be in the future, at most {MAX_LIFETIME.days} days away; null is no end",
            code="invalid_expiry",
            param="expires_at",
        )


def successors_expiry(created_at: datetime, expires_at: datetime | None, now: datetime) -> datetime | None:
    """As long from now as the key that it replaces was meant to live; no end if that one had none."""
    return None if expires_at is None else now + (expires_at - created_at)

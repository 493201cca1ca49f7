"""The control plane drops usage that is older than what is to be kept."""

import structlog

from chappe_billing.retention.service import retain
from chappe_store.session import Database

_log = structlog.get_logger()


async def retain_usage(database: Database, months: int, minute_days: int) -> int:
    """How many months went, and sums by minute. Any number of processes may do so side by side."""
    done = await retain(database, keep_months=months, keep_minute_days=minute_days)
    _log.info(
        "usage_retained",
        minutes=done.minutes,
        months=[f"{month:%Y-%m}" for month in done.months],
        hindrance=done.hindrance,
    )
    return len(done.months) + done.minutes

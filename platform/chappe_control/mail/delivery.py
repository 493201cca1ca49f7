"""The worker that sends mail for as long as the control plane runs."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import structlog
from sqlalchemy.exc import SQLAlchemyError

from chappe_control.mail.service import Mail
from chappe_kernel.errors import Unavailable

# What other processes ordered, and what is to be tried again, is found within this time.
_LOOK_EVERY_S = 2.0

_log = structlog.get_logger()


@asynccontextmanager
async def delivering(mail: Mail) -> AsyncIterator[None]:
    """Send what is due while the block runs. What is being sent at its end is due again later."""
    if not mail.is_open:
        _log.warning("mail_off", reason="CHAPPE_SMTP_URL is not set: nobody can sign up or choose a new password")
        yield
        return
    task = asyncio.create_task(_deliver_for_ever(mail))
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def _deliver_for_ever(mail: Mail) -> None:
    while True:
        try:
            tried = await mail.send_due()
        except (Unavailable, SQLAlchemyError, OSError) as error:
            _log.warning("mail_not_read", error=type(error).__name__)
            tried = 0
        if not tried:
            await mail.until_ordered(_LOOK_EVERY_S)

"""The workers that watch limits, ask for what is overdue, mail invoices, and tell, while the control plane runs."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Final

import structlog
from sqlalchemy.exc import SQLAlchemyError

from chappe_billing.alerts.service import check_alerts
from chappe_billing.dunning.service import dun_all
from chappe_control.invoice_mail.service import mail_documents
from chappe_control.notices.service import Office, tell_waiting
from chappe_control.webhooks.delivery import Courier
from chappe_kernel.errors import ChappeError
from chappe_store.session import Database

_TELL_EVERY_S: Final = 2.0
_MAIL_EVERY_S: Final = 15.0
_WATCH_EVERY_S: Final = 60.0
_TIDY_EVERY_S: Final = 3600.0
_REST: Final = 3
"""So many times as long as a round took nothing is done before the next, if more waits."""

_log = structlog.get_logger()

Work = Callable[[], Awaitable[int]]


@asynccontextmanager
async def telling(database: Database, office: Office, courier: Courier) -> AsyncIterator[None]:
    """Any number of processes may do so side by side."""
    try:
        async with AsyncExitStack() as stack:
            for name, work, every_s in (
                ("notices", lambda: tell_waiting(database, office), _TELL_EVERY_S),
                ("webhooks", courier.deliver_due, _TELL_EVERY_S),
                ("invoice_letters", lambda: mail_documents(database, office), _MAIL_EVERY_S),
                ("alerts", lambda: check_alerts(database), _WATCH_EVERY_S),
                ("dunning", lambda: dun_all(database), _WATCH_EVERY_S),
                ("webhook_log", courier.drop_old, _TIDY_EVERY_S),
            ):
                await stack.enter_async_context(_repeating(name, work, every_s))
            yield
    finally:
        courier.close()


@asynccontextmanager
async def _repeating(name: str, work: Work, every_s: float) -> AsyncIterator[None]:
    task = asyncio.create_task(_repeat(name, work, every_s))
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def _repeat(name: str, work: Work, every_s: float) -> None:
    while True:
        done, began = 0, time.monotonic()
        try:
            done = await work()
        except (ChappeError, SQLAlchemyError, OSError, ValueError, KeyError) as error:
            # Nothing is lost: what was not done is found again, and other work goes on.
            _log.warning("telling_failed", work=name, error=type(error).__name__)
        # While there is more to do there is nothing to wait for, but that pages are answered beside it.
        rest_s = _REST * (time.monotonic() - began)
        await asyncio.sleep(min(rest_s, every_s) if done and every_s == _TELL_EVERY_S else every_s)

"""What the control plane posts and makes by itself: what was charged too much under reverted prices, months' ends,
invoices and their documents."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress

import structlog
from sqlalchemy.exc import DBAPIError

from chappe_billing.advances.service import document_all
from chappe_billing.cut_off.service import cut_off_all
from chappe_billing.documents.service import render_all
from chappe_billing.invoice_runs.service import run_due
from chappe_billing.price_corrections.service import correct_all
from chappe_kernel.errors import Conflict, Unavailable
from chappe_store.session import Database

_log = structlog.get_logger()
# A wrong price is reverted within a minute, and that includes what it cost.
CORRECT_EVERY_S = 10.0
CUT_OFF_EVERY_S = 60.0
DOCUMENT_EVERY_S = 10.0
INVOICE_EVERY_S = 60.0
RENDER_EVERY_S = 15.0

Work = Callable[[Database], Awaitable[int]]


@asynccontextmanager
async def keeping_books(database: Database) -> AsyncIterator[None]:
    """Look for such work regularly while the block runs. Any number of processes may do so side by side."""
    async with AsyncExitStack() as stack:
        for name, work, every_s in (
            ("price_corrections", correct_all, CORRECT_EVERY_S),
            ("cut_offs", cut_off_all, CUT_OFF_EVERY_S),
            ("advances", document_all, DOCUMENT_EVERY_S),
            ("invoices", run_due, INVOICE_EVERY_S),
            ("invoice_documents", render_all, RENDER_EVERY_S),
        ):
            await stack.enter_async_context(_repeating(name, work, database, every_s))
        yield


@asynccontextmanager
async def _repeating(name: str, work: Work, database: Database, every_s: float) -> AsyncIterator[None]:
    task = asyncio.create_task(_repeat(name, work, database, every_s))
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def _repeat(name: str, work: Work, database: Database, every_s: float) -> None:
    while True:
        try:
            done = await work(database)
        except (Conflict, Unavailable, DBAPIError, OSError) as error:
            # Nothing is lost: what was not done is found again. Another process may have been there first.
            _log.warning("book_keeping_failed", work=name, error=type(error).__name__)
        else:
            if done:
                _log.info("book_keeping_done", work=name, transactions=done)
        await asyncio.sleep(every_s)

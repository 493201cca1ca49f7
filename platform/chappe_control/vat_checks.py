"""The control plane asks VIES about tenants' VAT numbers, if the operator has said where it is."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import structlog
from sqlalchemy.exc import DBAPIError

from chappe_billing.tax.checking import check_due, note_new_numbers
from chappe_billing.tax.vies import Vies
from chappe_kernel.errors import Conflict, Unavailable
from chappe_store.session import Database

_log = structlog.get_logger()
_EVERY_S = 5.0


@asynccontextmanager
async def checking_vat_numbers(database: Database, vies_url: str, recheck_days: int) -> AsyncIterator[None]:
    """While the block runs. Without a URL nobody is asked, and new numbers only wait for the operator."""
    vies = Vies(vies_url) if vies_url else None
    task = asyncio.create_task(_check_for_ever(database, vies, recheck_days))
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        if vies is not None:
            await vies.close()


async def _check_for_ever(database: Database, vies: Vies | None, recheck_days: int) -> None:
    while True:
        try:
            if vies is None:
                await note_new_numbers(database)
            else:
                await check_due(database, vies, recheck_days=recheck_days)
        except (Conflict, Unavailable, DBAPIError, OSError) as error:
            # What was claimed is due again soon.
            _log.warning("vat_numbers_not_checked", error=type(error).__name__)
        await asyncio.sleep(_EVERY_S)

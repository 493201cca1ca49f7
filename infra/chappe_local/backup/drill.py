"""A rehearsal: what was restored nowhere may be no backup."""

import asyncio
import tempfile
from pathlib import Path

from sqlalchemy.engine import URL

from chappe_billing.audit.queries import count_totals
from chappe_billing.audit.service import verify_ledger
from chappe_kernel.errors import Conflict
from chappe_local import postgres
from chappe_local.backup.folder import BackupFolder
from chappe_local.backup.restoring import Order, recovered, unpack
from chappe_store.session import Database


async def rehearse(folder: BackupFolder, order: Order) -> str:
    """Restore into a temporary folder beside the backups, verify the ledger there, and say what it holds.

    Raises `Conflict` when the ledger of the restored database is not intact.
    """
    with tempfile.TemporaryDirectory(prefix="chappe-restore-") as name:
        workplace = Path(name)
        data_dir = folder.path / f"{order.backup.name}.rehearsal"
        await asyncio.to_thread(postgres.remove_data, data_dir)
        try:
            await asyncio.to_thread(unpack, folder, order, data_dir, workplace)
            async with recovered(data_dir, workplace, order.until) as (_, socket_dir):
                return await _verify(socket_dir, order)
        finally:
            await asyncio.to_thread(postgres.remove_data, data_dir)


async def _verify(socket_dir: Path, order: Order) -> str:
    url = URL.create("postgresql+asyncpg", order.login, database=order.database, query={"host": str(socket_dir)})
    database = Database(url.render_as_string(hide_password=False), pool_size=1)
    try:
        async with database.audit() as session:
            totals, difference = await count_totals(session), await verify_ledger(session)
    finally:
        await database.close()
    if difference is not None:
        raise Conflict(f"the restored ledger is not intact: {difference.rule}, {difference.subject}")
    return f"restored and intact: {totals.transactions} transactions, {totals.events} usage events"

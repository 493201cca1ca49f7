"""Notices that the database is another than before: restored by other means than `chappe restore`, or a standby that
was promoted. Until it has its new epoch it lends nothing, and acknowledges nothing."""

from typing import Final

import structlog

from chappe_billing.restoring.service import mark_if_restored
from chappe_kernel.errors import Unavailable
from chappe_store.audit_log.origin import command_origin
from chappe_store.queries import is_same_server
from chappe_store.session import Database

_log = structlog.get_logger()
RESTORES_EVERY_S: Final = 1.0


async def notice_restore(database: Database) -> int:
    """Give the database a new epoch, if it needs one; 1 if it did. One that is away is looked at again."""
    try:
        async with database.operator() as session:
            if await is_same_server(session):
                return 0
        async with database.operator(command_origin()) as session:
            return int(await mark_if_restored(session) is not None)
    except Unavailable:
        _log.info("database_not_looked_at")
        return 0

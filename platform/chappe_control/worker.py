"""The control plane's work in a process of its own, without HTTP: nobody's page waits for it."""

import asyncio
from pathlib import Path
from typing import Final

import structlog

from chappe_control.letters import WRITERS
from chappe_control.mail.orders import Seal
from chappe_control.mail.service import open_mail
from chappe_control.payments.office import open_payments
from chappe_control.restores import RESTORES_EVERY_S, notice_restore
from chappe_control.settings import WorkerSettings
from chappe_control.webhooks.sealing import SecretSeal
from chappe_control.working import Work, working
from chappe_control.works import Workshop, doing_everything
from chappe_kernel.clock import Clock
from chappe_store.audit_log.signing import parse_signing_keys
from chappe_store.queries import read_epoch
from chappe_store.session import Database
from chappe_tenants.peppers import parse_peppers

GRACE_S: Final = 5.0
_BEAT_EVERY_S: Final = 2.0
_log = structlog.get_logger()


async def run_worker(settings: WorkerSettings, clock: Clock, over: asyncio.Event) -> None:
    """Do everything until it is over; what was begun then has `GRACE_S` to end. Raises `Invalid` for settings that
    cannot work."""
    database = Database(settings.database_url)
    peppers = parse_peppers(settings.key_peppers)
    mail = open_mail(settings, database, Seal(peppers), WRITERS, clock)
    payments = open_payments(settings, database, clock)
    keys = parse_signing_keys(settings.audit_keys)
    shop = Workshop(settings, database, mail, payments, SecretSeal(peppers), keys, clock)
    own = [Work("restores", lambda: notice_restore(database), RESTORES_EVERY_S)]
    if settings.heartbeat_file:
        file = Path(settings.heartbeat_file)
        own.append(Work("heartbeat", lambda: _beat(database, file), _BEAT_EVERY_S))
    try:
        # Before anything is written: it may be another database than before.
        await notice_restore(database)
        async with working(own), doing_everything(shop, grace_s=GRACE_S):
            _log.info("worker_started")
            await over.wait()
            _log.info("worker_ending")
    finally:
        await payments.close()
        await database.close()


async def _beat(database: Database, file: Path) -> int:
    async with database.ingest() as session:
        await read_epoch(session)
    await asyncio.to_thread(file.touch)
    return 0

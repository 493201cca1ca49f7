"""How long a month's invoices take, and what is left of them after kills: `python -m tests.bench.invoice_bench`.

A PostgreSQL of its own with fsync on, 10,000 tenants with 10 million events of last month, made by the database itself:
what the run reads (ledger, events, budgets), without the hot path's rollups, which it does not. Workers issue the
invoices; with `--kills` one after the other is ended with SIGKILL in the middle. At the end every transaction must be
invoiced once, the lines must be what was posted to the nano, and no number may be missing.
"""

import argparse
import asyncio
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from datetime import date
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import msgspec
from sqlalchemy import text

from chappe_billing.invoice_runs.service import begin_run
from chappe_billing.ledger.postings import Account, AccountKind
from chappe_catalogue.manifest import read_manifest
from chappe_control.catalogue.service import apply_catalogue
from chappe_kernel.ids import LegalEntityId, TenantId, new_id
from chappe_local import postgres as embedded
from chappe_store.audit_log.origin import ActorKind, Origin
from chappe_store.migrate import migrate
from chappe_store.session import Database
from chappe_tenants.legal_entities.models import DEFAULT_LEGAL_ENTITY_ID
from tests.bench.million import MANIFEST
from tests.bench.server import database_server

BENCH = Origin(ActorKind.COMMAND, "bench", None, new_id())
_EVENTS_PER_TRANSACTION = 25

WORKER = """
import asyncio, sys
from chappe_billing.invoice_runs.queries import open_runs
from chappe_billing.invoice_runs.service import work_on
from chappe_store.audit_log.origin import command_origin
from chappe_store.session import Database

async def main():
    database = Database(sys.argv[1], origin=command_origin())
    async with database.audit() as session:
        runs = [(run.id, run.cut_off_at) for run in await open_runs(session)]
    for run_id, cut_off_at in runs:
        await work_on(database, run_id, cut_off_at)
    await database.close()

asyncio.run(main())
"""

# Every statement under `session_replication_role = replica`: no trigger, no check, no audit.
_ESTATE = (
    """
    DO $$
    DECLARE starts timestamptz := date_trunc('month', now()) - interval '1 month';
            name text := to_char(starts, '"usage_event_"YYYY_MM');
    BEGIN
        SET LOCAL timezone = 'UTC';
        IF to_regclass(name) IS NULL THEN
            EXECUTE format('CREATE TABLE %I PARTITION OF usage_event FOR VALUES FROM (%L) TO (%L)', name,
                           first_request_id(starts), first_request_id(starts + interval '1 month'));
            PERFORM prepare_usage_partition(name);
        END IF;
    END $$
    """,
    "UPDATE legal_entity SET country = 'FR', postal_code = '75007', city = 'Paris', vat_number = 'FR40303265045'",
    """
    CREATE TEMPORARY TABLE customer AS
    SELECT i, ('01000000-0000-7000-8000-' || lpad(to_hex(i), 12, '0'))::uuid AS id,
           ('02000000-0000-7000-8000-' || lpad(to_hex(i), 12, '0'))::uuid AS project_id,
           ('03000000-0000-7000-8000-' || lpad(to_hex(i), 12, '0'))::uuid AS account_id
    FROM generate_series(1, {tenants}) i
    """,
    """
    INSERT INTO tenant (id, name, state, currency, allowed_regions, requests_per_minute, country, postal_code)
    SELECT id, 'Customer ' || i, 'active', 'EUR', '{{FR}}', 600, 'FR', '69001' FROM customer
    """,
    "INSERT INTO project (tenant_id, id, name) SELECT id, project_id, 'default' FROM customer",
    # By the app's own rule an account's id follows from what it is; `uuid5` of the same name.
    """
    INSERT INTO ledger_account (id, kind, currency, tenant_id)
    SELECT a.id, 'tenant_funds', 'EUR', c.id FROM customer c JOIN funds_account a ON a.tenant_id = c.id
    """,
    """
    CREATE TEMPORARY TABLE price AS
    SELECT row_number() OVER (ORDER BY v.id) - 1 AS number, count(*) OVER () AS prices, v.*
    FROM price_version v
    """,
    """
    CREATE TEMPORARY TABLE staged AS
    SELECT n, c.id AS tenant_id, c.project_id, n / {tenants} / {batch} AS batch,
           date_trunc('month', now()) - interval '1 month' + make_interval(secs => 2400000.0 * n / {events}) AS at,
           50 * (20 + n % 977) AS prompt, CASE WHEN n % 4 = 0 THEN 25 * (20 + n % 977) ELSE 0 END AS cached,
           50 * (4 + n % 311) AS completion, n / {tenants} % (SELECT max(prices) FROM price) AS price_number, c.i
    FROM generate_series(0, {events} - 1) n JOIN customer c ON c.i = n % {tenants} + 1
    """,
    """
    CREATE TEMPORARY TABLE batch AS
    SELECT tenant_id, batch, min(i) AS i, max(at) AS at,
           (lpad(to_hex((extract(epoch FROM max(at)) * 1000)::bigint), 12, '0') || '7'
            || substr(md5('t' || batch), 1, 3) || '8' || lpad(to_hex(min(i)), 15, '0'))::uuid AS id
    FROM staged GROUP BY 1, 2
    """,
    """
    INSERT INTO usage_event (
        request_id, tenant_id, project_id, key_id, grant_id, region, gateway, listing_id, price_version_id, outcome,
        prompt_tokens, cached_tokens, completion_tokens, amount_nano, granted_nano, written_off_nano, hold_nano,
        started_at, finished_at, transaction_id, posted_at
    )
    SELECT (lpad(to_hex((extract(epoch FROM s.at) * 1000)::bigint), 12, '0') || '7'
            || substr(md5('x' || n), 1, 3) || '8' || lpad(to_hex(n), 15, '0'))::uuid,
           s.tenant_id, s.project_id, s.project_id, s.project_id, p.region, 'gw-1', p.listing_id, p.id, 'completed',
           prompt, cached, completion,
           (prompt - cached) * p.input_nano_per_token + cached * p.cached_input_nano_per_token
               + completion * p.output_nano_per_token + p.request_nano,
           0, 0, 10 ^ 9, s.at, s.at, b.id, b.at
    FROM staged s JOIN batch b USING (tenant_id, batch) JOIN price p ON p.number = s.price_number
    """,
    """
    INSERT INTO ledger_transaction (id, kind, tenant_id, currency, created_at)
    SELECT id, 'usage', tenant_id, 'EUR', at FROM batch
    """,
    """
    CREATE TEMPORARY TABLE charged AS
    SELECT tenant_id, transaction_id, sum(amount_nano)::bigint AS amount FROM usage_event GROUP BY 1, 2
    """,
    """
    INSERT INTO ledger_entry (transaction_id, line, account_id, tenant_id, currency, amount_nano)
    SELECT c.transaction_id, 1, a.id, c.tenant_id, 'EUR', -c.amount
    FROM charged c JOIN funds_account a ON a.tenant_id = c.tenant_id
    UNION ALL
    SELECT c.transaction_id, 2, (SELECT id FROM ledger_account WHERE kind = 'revenue'), NULL, 'EUR', c.amount
    FROM charged c
    """,
    """
    INSERT INTO budget (tenant_id, currency, posted_nano, credit_limit_nano)
    SELECT tenant_id, 'EUR', sum(amount)::bigint, 10 ^ 15 FROM charged GROUP BY 1
    """,
    "ANALYZE",
)

_CHECKS = {
    "charges that no invoice has": """
        SELECT count(*) FROM ledger_transaction t WHERE t.kind = 'usage'
        AND NOT EXISTS (SELECT FROM invoice_transaction x WHERE x.transaction_id = t.id)
    """,
    "nanos between lines and postings": """
        SELECT (SELECT sum(charged_nano) FROM invoice_part)
             - (SELECT sum(amount_nano - written_off_nano) FROM usage_event)
    """,
    "nanos between invoices and receivables": """
        SELECT (SELECT sum(gross_minor) * 10000000 FROM invoice) + (
            SELECT sum(e.amount_nano) FROM ledger_entry e JOIN ledger_account a ON a.id = e.account_id
            WHERE a.kind = 'receivable'
        )
    """,
    "missing numbers": "SELECT max(ordinal) - count(*) FROM invoice",
    "tenants without their invoice": "SELECT (SELECT count(*) FROM budget) - (SELECT count(*) FROM invoice)",
    "tenants who are not decided about": "SELECT count(*) FROM invoice_run_tenant WHERE outcome <> 'issued'",
}


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tenants", type=int, default=10_000)
    parser.add_argument("--events", type=int, default=10_000_000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--kills", type=int, default=0, help="So many workers are killed before the last ones end.")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="chappe-invoices-") as root, database_server(Path(root)) as (sock, keys):
        await embedded.prepare_roles(sock, keys)
        owner, app, superuser = (
            embedded.database_url(sock, *who)
            for who in (
                (embedded.OWNER, keys.owner),
                (embedded.LOGIN, keys.control),
                (embedded.SUPERUSER, keys.superuser),
            )
        )
        await migrate(owner, app)
        database = Database(app, origin=BENCH)
        async with database.operator() as session:
            await apply_catalogue(session, read_manifest(msgspec.json.encode(MANIFEST)), {})
        started = time.monotonic()
        await _build(superuser, given.tenants, given.events)
        _tell(f"estate: {given.tenants} tenants, {given.events} events, {time.monotonic() - started:.0f} s")
        await _begin(database)
        load = os.getloadavg()
        started = time.monotonic()
        killed = _work(app, given.workers, given.kills)
        took = time.monotonic() - started
        spent = resource.getrusage(resource.RUSAGE_CHILDREN)
        _tell(
            f"run: {took:.1f} s, {given.tenants / took:.0f} invoices/s, {given.workers} workers, {killed} killed, "
            f"{spent.ru_utime + spent.ru_stime:.0f} s of the workers' processor time; "
            f"load before {load[0]:.1f}, after {os.getloadavg()[0]:.1f}"
        )
        await _check(database)
        await database.close()


async def _build(superuser: str, tenants: int, events: int) -> None:
    connection: asyncpg.Connection[Any] = await asyncpg.connect(superuser.replace("+asyncpg", ""))
    try:
        await connection.execute("SET session_replication_role = replica; SET timezone = 'UTC'; SET work_mem = '1GB'")
        await connection.execute(
            "INSERT INTO ledger_account (id, kind, currency) VALUES (uuidv7(), 'revenue', 'EUR');"
            "CREATE TEMPORARY TABLE funds_account (tenant_id uuid, id uuid)"
        )
        await connection.copy_records_to_table("funds_account", records=_accounts(tenants))
        for statement in _ESTATE:
            values = {"tenants": tenants, "events": events, "batch": _EVENTS_PER_TRANSACTION}
            await connection.execute(statement.format(**values))
    finally:
        await connection.close()


def _accounts(tenants: int) -> list[tuple[Any, Any]]:
    ids = [UUID(f"01000000-0000-7000-8000-{number:012x}") for number in range(1, tenants + 1)]
    entity = LegalEntityId(DEFAULT_LEGAL_ENTITY_ID)
    return [(one, Account(AccountKind.TENANT_FUNDS, "EUR", entity, tenant_id=TenantId(one)).id) for one in ids]


async def _begin(database: Database) -> None:
    async with database.operator() as session:
        first: date = (
            await session.execute(text("SELECT (date_trunc('month', now()) - interval '1 month')::date"))
        ).scalar_one()
        await begin_run(session, DEFAULT_LEGAL_ENTITY_ID, first)


def _work(url: str, workers: int, kills: int) -> int:
    """Until all have ended by themselves, but for those that are killed; how many those were."""

    def start() -> subprocess.Popen[bytes]:
        return subprocess.Popen([sys.executable, "-c", WORKER, url])

    running = [start() for _ in range(workers)]
    killed = 0
    while killed < kills:
        time.sleep(random.uniform(1, 5))  # noqa: S311  # a moment, and no secret
        if all(process.poll() is not None for process in running):
            break
        victim = running.pop(0)
        victim.kill()
        victim.wait()
        killed += 1
        running.append(start())
    for process in running:
        if process.wait():
            raise SystemExit("a worker failed")
    return killed


async def _check(database: Database) -> None:
    async with database.audit() as session:
        await session.execute(text("SET LOCAL statement_timeout = '600s'"))
        outcomes = await session.execute(
            text("SELECT outcome, code, count(*) FROM invoice_run_tenant GROUP BY 1, 2 ORDER BY 1, 2")
        )
        for outcome in outcomes:
            _tell(" ".join(str(part) for part in outcome if part is not None))
        for name, statement in _CHECKS.items():
            found = (await session.execute(text(statement))).scalar_one()
            _tell(f"{name}: {found}")
            if found:
                raise SystemExit(1)


def _tell(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(main())

"""`chappe ledger verify` finds every kind of tampering, and nothing where there is none."""

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

from chappe_billing.audit.queries import RULES
from chappe_billing.audit.service import verify_ledger
from chappe_billing.discrepancies.queries import list_discrepancies
from chappe_billing.discrepancies.service import resolve_discrepancy
from chappe_kernel.ids import new_id
from chappe_kernel.rating import Counts
from tests.billing.conftest import Customer, MakeCustomer, Market
from tests.conftest import DatabaseUrls, PostgresServer

TAMPERING = {
    "an entry is raised": "UPDATE ledger_entry SET amount_nano = amount_nano + 1 WHERE amount_nano > 0",
    "an entry is gone": "DELETE FROM ledger_entry WHERE line = 2",
    "a transaction is gone": "DELETE FROM ledger_transaction WHERE kind = 'usage'",
    "both sides are raised": "UPDATE ledger_entry SET amount_nano = amount_nano * 2",
    "an entry is moved to nobody": "UPDATE ledger_entry SET tenant_id = NULL WHERE tenant_id IS NOT NULL",
    "funds appear": "UPDATE budget SET funds_nano = funds_nano + 1",
    "usage is forgiven": "UPDATE budget SET posted_nano = posted_nano - 1",
    "pending money vanishes": "UPDATE budget SET pending_nano = 0",
    "a grant forgets": "UPDATE budget_grant SET posted_nano = 0",
    "a grant is closed": "UPDATE budget_grant SET released_at = now()",
    "a grant moves": "UPDATE budget_grant SET region = 'de-fra'",
    "an event is cheaper": "UPDATE usage_event SET amount_nano = 1, granted_nano = 0, written_off_nano = 0",
    "an event has fewer tokens": "UPDATE usage_event SET completion_tokens = completion_tokens - 1",
    "an event is gone": "DELETE FROM usage_event WHERE request_id = (SELECT request_id FROM usage_event LIMIT 1)",
    "all events are gone": "DELETE FROM usage_event",
    "an event is written off": "UPDATE usage_event SET written_off_nano = amount_nano, granted_nano = 0",
    "an event changes its key": "UPDATE usage_event SET key_id = uuidv7()",
    "an event changes its hour": "UPDATE usage_event SET posted_at = posted_at - interval '2 hours'",
    "an event loses its posting": "UPDATE usage_event SET transaction_id = uuidv7()",
    "a price is changed": "UPDATE price_version SET output_nano_per_token = 1",
    "a price is gone": "DELETE FROM price_version",
    "a rollup is off": "UPDATE usage_hour SET requests = requests + 1",
    "a rollup is gone": "DELETE FROM usage_hour",
    "a month is off": "UPDATE usage_month SET written_off_nano = written_off_nano - 1",
    "a key's spending is off": "UPDATE usage_spending SET paid_nano = paid_nano - 1",
    "a key's spending is gone": "DELETE FROM usage_spending",
    "a month is gone": "DELETE FROM usage_month",
    "a day's rollup is off": "UPDATE usage_day SET amount_nano = amount_nano + 1",
    "a day's rollup is gone": "DELETE FROM usage_day",
    "a correction is raised": "UPDATE usage_discrepancy SET corrected_nano = corrected_nano + 1",
    "a correction has no discrepancy": "DELETE FROM usage_discrepancy",
    "a correction goes to another": "UPDATE usage_discrepancy SET tenant_id = uuidv7()",
}


@pytest.fixture
async def used(market: Market, make_customer: MakeCustomer) -> Market:
    """Two customers with usage inside and outside of grants, a write-off, and something in quarantine."""
    rich, poor = await make_customer(), await make_customer(1_000)
    grant = await market.ask(rich, 1_000_000)
    await market.ingest(*(market.event(rich, grant.grant_id) for _ in range(3)), market.event(poor, new_id()))
    await market.ingest(market.event(rich, grant.grant_id, amount_nano=1))
    disputed = market.event(rich, grant.grant_id)
    await market.ingest(disputed)
    await market.ingest(market.event(rich, grant.grant_id, request_id=disputed.request_id, counts=Counts(100, 20, 10)))
    async with market.database.operator() as session:
        (found,) = await list_discrepancies(session, resolved=False, limit=10)
        await resolve_discrepancy(session, found.id, reason="the engine made fewer", correct=True)
    return market


def verify(urls: DatabaseUrls) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).with_name("chappe")), "ledger", "verify"]
    environ = {"CHAPPE_DATABASE_URL": urls.app}
    return subprocess.run(command, env=environ, capture_output=True, text=True, check=False)


async def test_an_intact_ledger_passes(used: Market, database_urls: DatabaseUrls) -> None:
    assert used.prices
    done = await asyncio.to_thread(verify, database_urls)
    assert (done.returncode, done.stdout) == (0, "intact: 6 transactions, 5 usage events, 1 quarantined\n"), done.stderr


async def test_an_empty_ledger_passes(database_urls: DatabaseUrls) -> None:
    assert (await asyncio.to_thread(verify, database_urls)).returncode == 0


async def test_a_database_that_is_away_fails_without_its_password(database_urls: DatabaseUrls) -> None:
    gone = DatabaseUrls(database_urls.owner, database_urls.app + "x", database_urls.superuser, "x")
    done = await asyncio.to_thread(verify, gone)
    assert done.returncode == 1
    assert database_urls.app.split(":")[2].split("@")[0] not in done.stdout + done.stderr


@pytest.mark.parametrize("tampering", TAMPERING)
async def test_tampering_is_found(
    used: Market, postgres: PostgresServer, database_urls: DatabaseUrls, tampering: str
) -> None:
    connection = await postgres.superuser(database_urls.name)
    try:
        # Triggers and foreign keys off: what somebody with the server's highest rights can do.
        await connection.execute("SET session_replication_role = replica")
        assert not (await connection.execute(TAMPERING[tampering])).endswith(" 0")
    finally:
        await connection.close()
    async with used.database.audit() as session:
        assert await verify_ledger(session) is not None


async def test_the_command_names_the_first_difference_and_exits_1(
    used: Market, postgres: PostgresServer, database_urls: DatabaseUrls
) -> None:
    assert used.prices
    connection = await postgres.superuser(database_urls.name)
    await connection.execute("UPDATE usage_hour SET requests = requests + 1")
    await connection.close()
    done = await asyncio.to_thread(verify, database_urls)
    assert done.returncode == 1
    assert "NOT INTACT: an hour's rollup is the sum of the events posted in it" in done.stderr


def test_rules_have_different_names() -> None:
    assert len({rule.name for rule in RULES}) == len(RULES)


async def test_expired_and_not_yet_freed_grants_are_no_difference(
    market: Market, customer: Customer, postgres: PostgresServer, database_urls: DatabaseUrls
) -> None:
    await market.ask(customer, 1_000)
    connection = await postgres.superuser(database_urls.name)
    await connection.execute("UPDATE budget_grant SET release_at = now() - interval '1 second'")
    await connection.close()
    async with market.database.audit() as session:
        assert await verify_ledger(session) is None

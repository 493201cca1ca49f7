"""`chappe ledger explain` shows how a price came about, and every row that the request touched."""

import asyncio
import subprocess
import sys
from pathlib import Path
from uuid import UUID

import msgspec
import pytest

from chappe_billing.discrepancies.queries import list_discrepancies
from chappe_billing.discrepancies.service import resolve_discrepancy
from chappe_billing.explaining.queries import Row
from chappe_billing.explaining.service import explain
from chappe_kernel.errors import NotFound
from chappe_kernel.ids import LEDGER_TRANSACTION, REQUEST, RequestId, encode_id, new_id
from chappe_kernel.rating import Counts
from tests.billing.conftest import Customer, MakeCustomer, Market
from tests.conftest import DatabaseUrls, PostgresServer
from tests.ledger.conftest import move, take_back
from tests.ledger.test_suspense import assign, receive

TOUCHED = {
    *("usage_event", "tenant", "api_key", "listing", "price_version", "budget_grant", "budget"),
    *("ledger_transaction", "ledger_entry", "outbox", "rated_usage_waiting"),
    *("usage_minute", "usage_price_day", "usage_hour", "usage_day", "usage_month", "usage_spending"),
}


def told(urls: DatabaseUrls, request: str, *options: str) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).with_name("chappe")), "ledger", "explain", request, *options]
    environ = {"CHAPPE_DATABASE_URL": urls.app}
    return subprocess.run(command, env=environ, capture_output=True, text=True, check=False)


async def posted(market: Market, customer: Customer) -> UUID:
    grant = await market.ask(customer, 1_000_000)
    event = market.event(customer, grant.grant_id)
    # In one batch with another of the same tenant's.
    await market.ingest(event, market.event(customer, grant.grant_id))
    return event.request_id


async def test_every_row_of_a_request_is_there(market: Market, customer: Customer) -> None:
    request_id = await posted(market, customer)
    async with market.database.audit() as session:
        found = await explain(session, RequestId(request_id))
    assert {row.table for row in found.rows} == TOUCHED
    event = found.row("usage_event")
    assert event is not None and event["request_id"] == str(request_id)
    assert found.rated_nano == event["amount_nano"] > 0
    entries = [row.columns for row in found.rows if row.table == "ledger_entry"]
    assert sum(entry["amount_nano"] for entry in entries) == 0
    assert {entry["transaction_id"] for entry in entries} == {event["transaction_id"]}
    (message,) = [row.columns for row in found.rows if row.table == "outbox"]
    assert message["payload"]["transaction_id"] == event["transaction_id"]


async def test_nobody_elses_rows_are_shown(market: Market, make_customer: MakeCustomer) -> None:
    mine, theirs = await make_customer(), await make_customer()
    request_id = await posted(market, mine)
    await posted(market, theirs)
    async with market.database.audit() as session:
        found = await explain(session, RequestId(request_id))
    assert str(theirs.tenant_id) not in msgspec.json.encode(found.rows).decode()


async def test_a_correction_is_followed(market: Market, customer: Customer, used_up: UUID) -> None:
    async with market.database.audit() as session:
        found = await explain(session, RequestId(used_up))
    kinds = [row.columns["kind"] for row in found.rows if row.table == "ledger_transaction"]
    assert kinds == ["usage", "usage_correction"]
    assert found.row("usage_discrepancy") is not None


@pytest.fixture
async def used_up(market: Market, customer: Customer) -> UUID:
    """A request of which the other witness told a cheaper story, and which was corrected."""
    grant = await market.ask(customer, 1_000_000)
    event = market.event(customer, grant.grant_id)
    await market.ingest(event)
    await market.ingest(market.event(customer, grant.grant_id, request_id=event.request_id, counts=Counts(100, 20, 10)))
    async with market.database.operator() as session:
        (found,) = await list_discrepancies(session, resolved=False, limit=10)
        await resolve_discrepancy(session, found.id, reason="the engine made fewer", correct=True)
    return event.request_id


async def test_the_command_tells_the_price_line_by_line(
    market: Market, customer: Customer, database_urls: DatabaseUrls
) -> None:
    request = encode_id(REQUEST, await posted(market, customer))
    done = await asyncio.to_thread(told, database_urls, request)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == request
    said = [line.split() for line in lines]
    assert ["input", "80", "x", "60", "nano", "0.000004800", "EUR"] in said
    assert ["amount", "0.000011407", "EUR"] in said
    assert "DIFFERENT" not in done.stdout
    rows = await asyncio.to_thread(told, database_urls, request, "--json")
    assert {msgspec.json.decode(line, type=Row).table for line in rows.stdout.splitlines()} == TOUCHED


async def test_a_price_that_the_book_does_not_say_is_marked(
    market: Market, customer: Customer, postgres: PostgresServer, database_urls: DatabaseUrls
) -> None:
    request = encode_id(REQUEST, await posted(market, customer))
    connection = await postgres.superuser(database_urls.name)
    await connection.execute("SET session_replication_role = replica")
    await connection.execute("UPDATE price_version SET output_nano_per_token = output_nano_per_token + 1")
    await connection.close()
    assert "DIFFERENT" in (await asyncio.to_thread(told, database_urls, request)).stdout


async def test_what_is_in_quarantine_is_shown_as_such(
    market: Market, customer: Customer, database_urls: DatabaseUrls
) -> None:
    grant = await market.ask(customer, 1_000_000)
    event = market.event(customer, grant.grant_id, amount_nano=1)
    await market.ingest(event)
    done = await asyncio.to_thread(told, database_urls, encode_id(REQUEST, event.request_id))
    assert done.returncode == 0 and "not posted" in done.stdout and "usage_quarantine" in done.stdout


async def test_what_nobody_knows_says_where_it_may_be(market: Market, database_urls: DatabaseUrls) -> None:
    async with market.database.audit() as session:
        with pytest.raises(NotFound, match="spool"):
            await explain(session, RequestId(new_id()))
    for wrong in ("req_x", "ten_01kbn0gq4we6vtn1x0kf6ccmnq"):
        done = await asyncio.to_thread(told, database_urls, wrong)
        assert done.returncode == 1 and len(done.stderr.splitlines()) == 1


async def test_a_transaction_is_told_with_all_that_it_is_linked_with(
    market: Market, make_customer: MakeCustomer, database_urls: DatabaseUrls
) -> None:
    """A payment in suspense, the top-up that it became, and the top-up's reversal: whichever of them is asked for."""
    customer, other = await make_customer(0), await make_customer(0)
    await move(market, other, "top_up", 9, "bank 2")
    payment = await receive(market)
    assigned = await assign(market, payment.transaction_id, customer, 5_000, "ticket 1")
    taken = await take_back(market, customer, assigned.transaction_id)
    names = [encode_id(LEDGER_TRANSACTION, one.transaction_id) for one in (payment, assigned, taken)]
    stories = {(await asyncio.to_thread(told, database_urls, name)).stdout.partition("rows")[0] for name in names}
    (story,) = stories
    lines = story.splitlines()
    assert [line.split()[:2] for line in lines if line.startswith("txn_")] == [
        [names[0], "suspense,"],
        [names[1], "top_up,"],
        [names[2], "reversal,"],
    ]
    assert f"  takes back {names[0]}" in lines and f"  takes back {names[1]}" in lines
    assert "  reason the payer called" in lines
    assert ["suspense", "-0.000005000", "EUR"] in [line.split() for line in lines]
    unknown = await asyncio.to_thread(told, database_urls, encode_id(LEDGER_TRANSACTION, new_id()))
    assert unknown.returncode == 1 and "no books" in unknown.stderr

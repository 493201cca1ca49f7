"""A tenant's money and usage are its own: nobody else's query sees a row, however the connection was left."""

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from chappe_billing.balance.queries import read_balance
from chappe_billing.usage.queries import list_events, summarise
from chappe_kernel.errors import NotFound
from chappe_kernel.ids import TenantId, new_id
from chappe_store.session import Database, TenantScope
from tests.billing.conftest import NOW, Customer, MakeCustomer, Market
from tests.conftest import DatabaseUrls

READABLE = (
    *("tenant", "project", "budget", "budget_grant", "usage_event", "usage_hour", "usage_day"),
    *("ledger_transaction", "ledger_entry"),
)
CLOSED = ("ledger_account", "usage_quarantine", "outbox", "usage_event_default")
_FROM_THE_START = {"tenant", "project", "budget", "ledger_transaction", "ledger_entry"}
"""Every customer has rows here before it used anything: it was given welcome credit."""


@pytest.fixture
async def busy(market: Market, make_customer: MakeCustomer) -> Customer:
    """A customer with a row in every table."""
    customer = await make_customer()
    grant = await market.ask(customer, 1_000_000)
    await market.ingest(market.event(customer, grant.grant_id), market.event(customer, new_id(), amount_nano=1))
    return customer


@pytest.mark.parametrize("table", READABLE)
async def test_the_own_rows_are_seen_and_nobody_elses(
    market: Market, busy: Customer, make_customer: MakeCustomer, table: str
) -> None:
    other = await make_customer()
    column = "id" if table == "tenant" else "tenant_id"
    for customer in (busy, other):
        async with market.database.tenant(customer.scope) as session:
            owners = set((await session.execute(text(f"SELECT {column} FROM {table}"))).scalars())
        expected = {customer.tenant_id} if customer is busy or table in _FROM_THE_START else set()
        assert owners == expected


@pytest.mark.parametrize("table", READABLE)
async def test_without_a_tenant_there_are_no_rows(
    market: Market, busy: Customer, database_urls: DatabaseUrls, table: str
) -> None:
    assert (await market.balance(busy)).pending_nano
    database = Database(database_urls.app, pool_size=1)
    try:
        async with database._engine.begin() as connection:
            await connection.execute(text("SET LOCAL ROLE chappe_app"))
            assert (await connection.execute(text(f"SELECT count(*) FROM {table}"))).scalar_one() == 0
    finally:
        await database.close()


@pytest.mark.parametrize("table", READABLE)
async def test_a_setting_that_leaked_into_a_pooled_connection_shows_nothing(
    market: Market, busy: Customer, make_customer: MakeCustomer, database_urls: DatabaseUrls, table: str
) -> None:
    """The pool's one connection was left as the tenants' role with `busy` set, outside of any transaction."""
    assert market.prices
    other = await make_customer()
    database = Database(database_urls.app, pool_size=1)
    column = "id" if table == "tenant" else "tenant_id"
    try:
        async with database._engine.connect() as connection:
            await connection.execute(text(f"SET chappe.tenant_id = '{busy.tenant_id}'"))
            await connection.execute(text("SET ROLE chappe_app"))
            await connection.commit()
        async with database.tenant(other.scope) as session:
            owners = set((await session.execute(text(f"SELECT {column} FROM {table}"))).scalars())
        assert busy.tenant_id not in owners
        async with database.ingest() as session:
            assert (await session.execute(text("SELECT current_setting('chappe.tenant_id')"))).scalar_one() == ""
    finally:
        await database.close()


@pytest.mark.parametrize("table", CLOSED)
async def test_tenants_read_no_table_of_the_operators(market: Market, busy: Customer, table: str) -> None:
    with pytest.raises(DBAPIError, match="permission denied"):
        async with market.database.tenant(busy.scope) as session:
            await session.execute(text(f"SELECT * FROM {table}"))


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE budget SET funds_nano = funds_nano + 1",
        "UPDATE budget SET credit_limit_nano = 1000000",
        "INSERT INTO budget (tenant_id, currency) VALUES (gen_random_uuid(), 'EUR')",
        "UPDATE budget_grant SET returned_nano = amount_nano",
        "DELETE FROM usage_event",
        "UPDATE usage_hour SET amount_nano = 0",
        "INSERT INTO price_version SELECT * FROM price_version",
    ],
)
async def test_tenants_write_nothing_about_money(market: Market, busy: Customer, statement: str) -> None:
    with pytest.raises(DBAPIError, match="permission denied"):
        async with market.database.tenant(busy.scope) as session:
            await session.execute(text(statement))


@pytest.mark.parametrize("statement", ["UPDATE budget SET funds_nano = 1", "DELETE FROM budget_grant"])
async def test_regions_cannot_give_money(market: Market, busy: Customer, statement: str) -> None:
    assert (await market.balance(busy)).pending_nano
    with pytest.raises(DBAPIError, match="permission denied"):
        async with market.database.ingest() as session:
            await session.execute(text(statement))


async def test_the_database_refuses_an_overdraft_that_no_code_asked_for(market: Market, busy: Customer) -> None:
    with pytest.raises(DBAPIError, match="would be exceeded"):
        async with market.database.ingest() as session:
            await session.execute(
                text("UPDATE budget SET pending_nano = 20000000000 WHERE tenant_id = :t"), {"t": busy.tenant_id}
            )


async def test_a_scope_that_is_not_the_sessions_finds_nothing(
    market: Market, busy: Customer, make_customer: MakeCustomer
) -> None:
    """The second lock: a mistake that mixes scopes up still shows no row."""
    other = await make_customer()
    async with market.database.tenant(other.scope) as session:
        assert await list_events(session, busy.scope, limit=10) == []
        assert await summarise(session, busy.scope, since=NOW.replace(year=2020), until=NOW.replace(year=2100)) == []
        with pytest.raises(NotFound):
            await read_balance(session, busy.scope)
    async with market.database.tenant(TenantScope(TenantId(new_id()))) as session:
        with pytest.raises(NotFound):
            await read_balance(session, busy.scope)

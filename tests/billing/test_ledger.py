"""The database itself refuses a ledger that does not balance, and any change of one that does."""

from functools import partial

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from chappe_billing.ledger.postings import Account, AccountKind, Line, Posting, TransactionKind
from chappe_billing.ledger.service import new_transaction_id, post
from chappe_kernel.ids import LegalEntityId, new_id
from chappe_store.session import Database
from chappe_tenants.legal_entities.models import DEFAULT_LEGAL_ENTITY_ID, LegalEntity
from tests.billing.conftest import Customer, Market
from tests.conftest import DatabaseUrls, PostgresServer

REVENUE = Account(AccountKind.REVENUE, "EUR", DEFAULT_LEGAL_ENTITY_ID, region="fr-par")
WRITE_OFF = Account(AccountKind.WRITE_OFF, "EUR", DEFAULT_LEGAL_ENTITY_ID)


def posting(customer: Customer, *lines: Line) -> Posting:
    return Posting(new_transaction_id(), TransactionKind.USAGE, customer.tenant_id, "EUR", lines)


@pytest.mark.parametrize(
    "amounts", [(5, -4), (1,), (1, 1), (2**62, -(2**62) + 1)], ids=["off by one", "one-sided", "same side", "large"]
)
async def test_an_unbalanced_transaction_is_refused_at_commit(
    database: Database, customer: Customer, amounts: tuple[int, ...]
) -> None:
    accounts = (REVENUE, WRITE_OFF)
    lines = [Line(account, amount) for account, amount in zip(accounts, amounts, strict=False)]
    with pytest.raises(DBAPIError, match="does not balance"):
        async with database.ingest() as session:
            await post(session, [posting(customer, *lines)])


async def test_a_transaction_without_entries_is_refused(database: Database, customer: Customer) -> None:
    statement = "INSERT INTO ledger_transaction (id, kind, tenant_id, currency) VALUES (uuidv7(), 'usage', :t, 'EUR')"
    with pytest.raises(DBAPIError, match="does not balance"):
        async with database.ingest() as session:
            await session.execute(text(statement), {"t": customer.tenant_id})


async def test_balance_is_per_transaction_and_not_over_all(database: Database, customer: Customer) -> None:
    with pytest.raises(DBAPIError, match="does not balance"):
        async with database.ingest() as session:
            await post(
                session,
                [
                    posting(customer, Line(REVENUE, 5), Line(WRITE_OFF, -4)),
                    posting(customer, Line(REVENUE, 4), Line(WRITE_OFF, -5)),
                ],
            )


async def test_nothing_joins_a_committed_transaction_even_balanced(database: Database, customer: Customer) -> None:
    committed = posting(customer, Line(REVENUE, 5), Line(WRITE_OFF, -5))
    async with database.ingest() as session:
        await post(session, [committed])
    statement = """
        INSERT INTO ledger_entry (transaction_id, line, account_id, currency, amount_nano)
        VALUES (:t, 3, :a, 'EUR', 7), (:t, 4, :b, 'EUR', -7)
    """
    with pytest.raises(DBAPIError, match="is closed"):
        async with database.ingest() as session:
            await session.execute(text(statement), {"t": committed.id, "a": REVENUE.id, "b": WRITE_OFF.id})


async def test_an_entry_in_another_currency_is_refused(database: Database, customer: Customer) -> None:
    american = await make_entity(database, "USD")
    dollars = Account(AccountKind.WRITE_OFF, "USD", american)
    with pytest.raises(DBAPIError, match="fk_ledger_entry_account_id_currency"):
        async with database.ingest() as session:
            await post(session, [posting(customer, Line(REVENUE, 5), Line(dollars, -5))])


async def test_an_account_in_another_currency_than_its_entitys_is_refused(
    database: Database, customer: Customer
) -> None:
    dollars = Account(AccountKind.WRITE_OFF, "USD", DEFAULT_LEGAL_ENTITY_ID)
    with pytest.raises(DBAPIError, match="fk_ledger_account_legal_entity_id_currency"):
        async with database.ingest() as session:
            await post(session, [posting(customer, Line(REVENUE, 5), Line(dollars, -5))])


async def test_money_does_not_pass_between_two_entities_books(database: Database, customer: Customer) -> None:
    other = Account(AccountKind.WRITE_OFF, "EUR", await make_entity(database, "EUR"))
    for lines in ((Line(REVENUE, 5), Line(other, -5)), (Line(other, -5), Line(REVENUE, 5))):
        with pytest.raises(DBAPIError, match="is of two legal entities"):
            async with database.ingest() as session:
                await post(session, [posting(customer, *lines)])


async def make_entity(database: Database, currency: str) -> LegalEntityId:
    entity_id = LegalEntityId(new_id())
    async with database.operator() as session:
        session.add(LegalEntity(id=entity_id, name=f"Chappe {currency}", currency=currency))
    return entity_id


TABLES = ("ledger_account", "ledger_transaction", "ledger_entry", "usage_event", "usage_quarantine", "price_version")
CHANGES = ("UPDATE {} SET region = region", "DELETE FROM {}", "TRUNCATE {} CASCADE")


@pytest.fixture
async def used(market: Market, customer: Customer) -> Market:
    """Every append-only table has a row."""
    grant = await market.ask(customer, 1_000_000)
    event = market.event(customer, grant.grant_id)
    await market.ingest(event, market.event(customer, grant.grant_id, amount_nano=1))
    return market


@pytest.mark.parametrize("table", TABLES)
async def test_no_role_may_change_what_is_written(used: Market, customer: Customer, table: str) -> None:
    for transaction in (used.database.operator, used.database.ingest, partial(used.database.tenant, customer.scope)):
        for change in CHANGES:
            # Any column does: the privilege is checked before the statement looks at a row.
            column = "currency" if table in {"ledger_transaction", "ledger_entry"} else "region"
            with pytest.raises(DBAPIError, match="permission denied"):
                async with transaction() as session:
                    await session.execute(text(change.format(table).replace("region", column)))


@pytest.mark.parametrize("table", TABLES)
async def test_owner_and_superuser_run_into_the_triggers(
    used: Market, postgres: PostgresServer, database_urls: DatabaseUrls, table: str
) -> None:
    assert used.prices
    column = "currency" if table in {"ledger_transaction", "ledger_entry"} else "region"
    connection = await postgres.superuser(database_urls.name)
    try:
        for change in CHANGES:
            with pytest.raises(Exception, match="is append-only"):
                await connection.execute(change.format(table).replace("region", column))
        # The owner sees no row of a table with forced row-level security, but what it may truncate raises too.
        await connection.execute("SET ROLE chappe_owner")
        with pytest.raises(Exception, match="is append-only"):
            await connection.execute(f"TRUNCATE {table} CASCADE")
    finally:
        await connection.close()

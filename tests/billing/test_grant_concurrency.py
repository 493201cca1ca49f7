"""Nobody spends what they don't have, however many ask at once, and nobody is refused falsely."""

import asyncio
import random
from collections.abc import AsyncIterator, Coroutine, Iterable
from typing import Any, TypeVar

import pytest

from chappe_billing.audit.service import verify_ledger
from chappe_billing.grants.errors import BudgetLent
from chappe_billing.grants.service import return_grant
from chappe_kernel.errors import InsufficientFunds
from chappe_kernel.wire.control import Grant
from chappe_store.session import Database
from tests.billing.conftest import Customer, MakeCustomer, Market
from tests.conftest import TESTS, DatabaseUrls

T = TypeVar("T")

CONNECTIONS = 24


@pytest.fixture
async def database(database_urls: DatabaseUrls) -> AsyncIterator[Database]:
    """One connection for each that asks."""
    opened = Database(database_urls.app, pool_size=CONNECTIONS, origin=TESTS)
    yield opened
    await opened.close()


async def try_ask(market: Market, customer: Customer, wanted: int, minimum: int) -> Grant | Exception:
    try:
        return await market.ask(customer, wanted, minimum)
    except (BudgetLent, InsufficientFunds) as error:
        return error


async def at_once(works: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """As many at once as there are connections. The others wait here: a pool's patience ends after ten seconds, which
    on a busy machine are too few for hundreds."""
    turns = asyncio.Semaphore(CONNECTIONS)

    async def take_turn(work: Coroutine[Any, Any, T]) -> T:
        async with turns:
            return await work

    return await asyncio.gather(*map(take_turn, works))


async def test_500_at_once_on_money_for_10(market: Market, make_customer: MakeCustomer) -> None:
    customer = await make_customer(10 * 777)
    answers = await at_once(try_ask(market, customer, 777, 777) for _ in range(500))
    granted = [answer for answer in answers if isinstance(answer, Grant)]
    assert len(granted) == 10
    # All of it could come back: a refusal for good would be false.
    assert not [answer for answer in answers if isinstance(answer, InsufficientFunds)]
    assert (await market.balance(customer)).pending_nano == 10 * 777


async def test_what_is_returned_can_be_lent_again_to_the_nano(market: Market, make_customer: MakeCustomer) -> None:
    funds, dice = 1_000_000, random.Random(7)  # noqa: S311 -- a test's dice, the same each time
    customer = await make_customer(funds)

    async def borrow(wanted: int) -> None:
        answer = await try_ask(market, customer, wanted, wanted // 2)
        assert not isinstance(answer, InsufficientFunds)
        pending = (await market.balance(customer)).pending_nano
        assert pending <= funds
        if isinstance(answer, Grant):
            async with market.database.ingest() as session:
                await return_grant(session, region="fr-par", grant_id=answer.grant_id, returned_nano=answer.amount_nano)

    await at_once(borrow(dice.randrange(1, funds)) for _ in range(200))
    assert (await market.ask(customer, funds, funds)).amount_nano == funds


async def test_asks_returns_and_usage_at_once_keep_every_sum(market: Market, make_customer: MakeCustomer) -> None:
    customers = [await make_customer(400_000) for _ in range(3)]
    dice = random.Random(11)  # noqa: S311 -- a test's dice, the same each time

    async def work(customer: Customer) -> int:
        answer = await try_ask(market, customer, 60_000, 1)
        if isinstance(answer, Exception):
            return 0
        event = market.event(customer, answer.grant_id)
        await market.ingest(event, event)
        async with market.database.ingest() as session:
            await return_grant(session, region="fr-par", grant_id=answer.grant_id, returned_nano=dice.randrange(70_000))
        return event.amount_nano

    spent = await at_once(work(customers[number % 3]) for number in range(90))
    left = sum([(await market.balance(customer)).available_nano for customer in customers])
    written_off = await market.scalar("SELECT coalesce(sum(written_off_nano), 0) FROM usage_event")
    assert 3 * 400_000 - left + written_off == sum(spent)
    assert min([(await market.balance(customer)).available_nano for customer in customers]) >= 0
    async with market.database.audit() as session:
        assert await verify_ledger(session) is None


async def test_the_same_id_asked_at_once_lends_once(market: Market, customer: Customer) -> None:
    first = await market.ask(customer, 1)
    grants = await at_once(market.ask(customer, 100, grant_id=first.grant_id) for _ in range(20))
    assert {grant.amount_nano for grant in grants} == {1}

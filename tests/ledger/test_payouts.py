"""A publisher is paid what it earned, once for each reference and never more; a month's statement adds up."""

import asyncio
from datetime import UTC, date, datetime
from uuid import UUID

import pytest

from chappe_billing.funds.once import Moved
from chappe_billing.ledger.postings import Rail
from chappe_billing.payouts import queries, service
from chappe_billing.payouts.queries import Owed, Payout
from chappe_billing.payouts.service import AskedPayout, PublisherStatement
from chappe_kernel.errors import Conflict, Invalid, NotFound
from chappe_kernel.ids import new_id
from chappe_kernel.wire.control import UsageEvent
from chappe_tenants.legal_entities.models import DEFAULT_LEGAL_ENTITY_ID
from tests.billing.conftest import Customer, Market
from tests.ledger.conftest import account, assert_intact
from tests.ledger.test_shares import correct_down, share


async def publisher_of(market: Market) -> UUID:
    found = await market.scalar("SELECT id FROM publisher")
    assert isinstance(found, UUID)
    return found


async def use(market: Market, customer: Customer, region: str = "fr-par") -> UsageEvent:
    grant = await market.ask(customer, 1_000_000, region=region)
    event = market.event(customer, grant.grant_id, price_version=market.prices[region])
    await market.ingest(event, region=region)
    return event


async def earn(market: Market, customer: Customer, *regions: str) -> int:
    """What the publisher has earned of one request in each region."""
    before = await account(market, "publisher_payable")
    for region in regions or ("fr-par",):
        await use(market, customer, region)
    return await account(market, "publisher_payable") - before


async def pay(market: Market, amount_nano: int, reference: str = "sepa 1", **more: object) -> Moved:
    values = {"legal_entity_id": DEFAULT_LEGAL_ENTITY_ID, "rail": Rail.BANK_TRANSFER} | more
    asked = AskedPayout(amount_nano=amount_nano, reference=reference, **values)  # type: ignore[arg-type]  # a test may change any field
    publisher = await publisher_of(market)
    async with market.database.operator() as session:
        return await service.record_payout(session, publisher, asked)


async def take_payout_back(market: Market, payout_id: UUID, reference: str = "bounced 1") -> Moved:
    publisher = await publisher_of(market)
    async with market.database.operator() as session:
        return await service.take_payout_back(session, publisher, payout_id, reference=reference, reason="bounced")


async def owed(market: Market) -> list[Owed]:
    publisher = await publisher_of(market)
    async with market.database.audit() as session:
        return await service.owed_to(session, publisher)


async def payouts(market: Market) -> list[Payout]:
    publisher = await publisher_of(market)
    async with market.database.audit() as session:
        return await queries.list_payouts(session, publisher, limit=100)


async def statement(market: Market, month: date) -> PublisherStatement:
    publisher = await publisher_of(market)
    async with market.database.audit() as session:
        return await service.read_statement(session, publisher, DEFAULT_LEGAL_ENTITY_ID, month)


def this_month() -> date:
    return datetime.now(UTC).date().replace(day=1)


async def test_a_publisher_is_owed_what_it_earned_wherever(market: Market, customer: Customer) -> None:
    await share(market, 7_000)
    earned = await earn(market, customer, "fr-par", "de-fra")
    (one,) = await owed(market)
    assert (one.payable_nano, one.currency, one.legal_entity_id) == (earned, "EUR", DEFAULT_LEGAL_ENTITY_ID)


async def test_a_payout_is_booked_once_for_its_reference(market: Market, customer: Customer) -> None:
    await share(market, 7_000)
    earned = await earn(market, customer, "fr-par", "de-fra")
    first, again = [await pay(market, earned, note="November") for _ in range(2)]
    assert (first.transaction_id, first.repeated, again.repeated) == (again.transaction_id, False, True)
    assert [one.payable_nano for one in await owed(market)] == [0]
    assert await account(market, "payment_clearing") == earned
    (payout,) = await payouts(market)
    assert (payout.id, payout.amount_nano, payout.note) == (first.transaction_id, earned, "November")
    with pytest.raises(Conflict) as refused:
        await pay(market, earned - 1)
    assert refused.value.code == "reference_taken"
    await assert_intact(market)


async def test_no_more_is_paid_than_is_payable_by_however_many_at_once(market: Market, customer: Customer) -> None:
    await share(market, 7_000)
    earned = await earn(market, customer)
    with pytest.raises(Invalid) as refused:
        await pay(market, earned + 1)
    assert (refused.value.code, refused.value.param) == ("amount_too_large", "amount")
    part = earned // 3
    paid = await asyncio.gather(*(pay(market, part, f"sepa {n}") for n in range(6)), return_exceptions=True)
    assert sum(isinstance(one, Moved) for one in paid) == 3
    assert [one.payable_nano for one in await owed(market)] == [earned - 3 * part]
    await assert_intact(market)


async def test_a_payout_that_bounced_is_owed_again(market: Market, customer: Customer) -> None:
    await share(market, 7_000)
    earned = await earn(market, customer)
    payout = (await pay(market, earned)).transaction_id
    await take_payout_back(market, payout)
    assert (await take_payout_back(market, payout)).repeated
    with pytest.raises(Conflict) as refused:
        await take_payout_back(market, payout, "bounced 2")
    assert refused.value.code == "already_reversed"
    assert [one.taken_back for one in await payouts(market)] == [True]
    await pay(market, earned, "sepa 2")
    with pytest.raises(NotFound):
        await take_payout_back(market, new_id())
    await assert_intact(market)


async def test_what_is_corrected_after_it_was_paid_is_held_against_the_next(market: Market, customer: Customer) -> None:
    await share(market, 7_000)
    event = await use(market, customer)
    await pay(market, event.amount_nano * 7_000 // 10_000)
    await correct_down(market, event)
    taken = -(await owed(market))[0].payable_nano
    assert taken > 0
    with pytest.raises(Invalid):
        await pay(market, 1, "sepa 2")
    more = await earn(market, customer)
    await pay(market, more - taken, "sepa 2")
    await assert_intact(market)


async def test_a_months_statement_adds_up(market: Market, customer: Customer) -> None:
    await share(market, 7_000)
    earned = await earn(market, customer, "fr-par", "de-fra")
    await share(market, 5_000)
    event = await use(market, customer)
    earned += event.amount_nano // 2
    bounced = await pay(market, 2, "sepa 1")
    await pay(market, 3, "sepa 2")
    await take_payout_back(market, bounced.transaction_id)
    await correct_down(market, event)
    found = await statement(market, this_month())
    assert (found.opening_nano, found.earned_nano, found.paid_nano) == (0, earned, 3)
    assert found.taken_back_nano < 0
    assert found.opening_nano + found.earned_nano + found.taken_back_nano - found.paid_nano == found.closing_nano
    assert sum(one.share_nano for one in found.shares) == found.earned_nano + found.taken_back_nano
    assert {(one.region, one.share_bp) for one in found.shares} == {
        ("fr-par", 7_000),
        ("de-fra", 7_000),
        ("fr-par", 5_000),
    }
    later = await statement(market, date(2099, 1, 1))
    assert (later.opening_nano, later.closing_nano, later.shares) == (found.closing_nano, found.closing_nano, [])


@pytest.mark.parametrize("amount_nano", [0, -5, 10**18 + 1])
async def test_an_impossible_amount_is_refused(market: Market, customer: Customer, amount_nano: int) -> None:
    with pytest.raises(Invalid):
        await pay(market, amount_nano)
    with pytest.raises(NotFound):
        await pay(market, 1, legal_entity_id=new_id())

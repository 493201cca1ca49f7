"""A publisher earns its part of what tenants pay, to the nano, by the terms of that moment."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import text

from chappe_billing.discrepancies.queries import list_discrepancies
from chappe_billing.discrepancies.service import resolve_discrepancy
from chappe_billing.ledger.postings import AccountKind, Share
from chappe_billing.ledger.sharing import GivenBack, ShareTerms, correction_lines, taken_by
from chappe_kernel.ids import PublisherId, TenantId, new_id
from chappe_kernel.rating import Counts, charge
from chappe_kernel.wire.control import UsageEvent
from chappe_tenants.legal_entities.models import DEFAULT_LEGAL_ENTITY_ID
from tests.billing.conftest import PRICE, Customer, MakeCustomer, Market
from tests.ledger.conftest import account, assert_intact

amounts = st.integers(1, 10**18)
basis_points = st.integers(1, 10_000)


async def share(market: Market, basis: int) -> None:
    async with market.database.operator() as session:
        await session.execute(text("UPDATE listing SET publisher_share_bp = :basis"), {"basis": basis})


async def test_the_share_is_posted_with_the_usage(market: Market, customer: Customer) -> None:
    await share(market, 7_000)
    grant = await market.ask(customer, 1_000_000)
    events = [market.event(customer, grant.grant_id) for _ in range(3)]
    await market.ingest(*events)
    paid = sum(event.amount_nano for event in events)
    assert await account(market, "publisher_payable") == paid * 7_000 // 10_000
    assert await account(market, "revenue") == paid - paid * 7_000 // 10_000
    await assert_intact(market)


async def test_later_terms_change_nothing_that_is_posted(market: Market, customer: Customer) -> None:
    grant = await market.ask(customer, 1_000_000)
    await market.ingest(market.event(customer, grant.grant_id))
    await share(market, 5_000)
    await market.ingest(market.event(customer, grant.grant_id))
    await share(market, 10_000)
    earned = market.event(customer, grant.grant_id).amount_nano // 2
    assert await account(market, "publisher_payable") == earned
    await assert_intact(market)


async def test_nothing_is_earned_of_what_nobody_pays(market: Market, make_customer: MakeCustomer) -> None:
    await share(market, 10_000)
    poor = await make_customer(1_000)
    await market.ingest(market.event(poor, new_id()))
    assert await account(market, "publisher_payable") == 1_000
    assert await account(market, "revenue") == -await account(market, "write_off") > 0
    await assert_intact(market)


async def correct_down(market: Market, event: UsageEvent, output_tokens: int = 10) -> int:
    """The engine tells of fewer tokens of a posted request; what the tenant is given back."""
    counts = Counts(100, 20, output_tokens)
    amount_nano = charge(PRICE, event.outcome, counts)
    await market.ingest(msgspec.structs.replace(event, counts=counts, amount_nano=amount_nano))
    async with market.database.operator() as session:
        (found,) = await list_discrepancies(session, resolved=False, limit=10)
        return await resolve_discrepancy(session, found.id, reason="the engine made fewer", correct=True)


async def test_a_correction_takes_its_part_back_by_the_terms_of_then(market: Market, customer: Customer) -> None:
    await share(market, 3_333)
    grant = await market.ask(customer, 1_000_000)
    event = market.event(customer, grant.grant_id)
    await market.ingest(event)
    await share(market, 9_999)
    given_back = await correct_down(market, event)
    assert given_back == event.amount_nano - charge(PRICE, event.outcome, Counts(100, 20, 10))
    earned = event.amount_nano * 3_333 // 10_000 - given_back * 3_333 // 10_000
    assert await account(market, "publisher_payable") == earned
    named = await market.scalar("SELECT reverses FROM ledger_transaction WHERE kind = 'usage_correction'")
    assert named == await market.scalar("SELECT transaction_id FROM usage_event")
    await assert_intact(market)


@given(amounts, amounts, basis_points)
def test_nobody_loses_a_nano_by_taking_back_in_parts(base: int, part: int, basis: int) -> None:
    """However a payment is given back, the publisher keeps its part of the rest, and at most a nano more a time."""
    given = sorted((part % base, base - part % base))
    shares = [Share(new_id(), PublisherId(new_id()), "fr-par", basis, amount) for amount in (base, -given[0])]
    kept = sum(one.share_nano for one in shares)
    exact = (base - given[0]) * basis
    assert exact <= kept * 10_000 + 10_000 - 1
    assert kept * 10_000 <= exact + 10_000 - 1


@given(
    st.lists(
        st.tuples(st.sampled_from(["fr-par", "de-fra"]), amounts, st.one_of(st.none(), basis_points), st.integers(-5)),
        min_size=1,
    )
)
def test_lines_of_a_correction_sum_to_zero(parts: list[tuple[str, int, int | None, int]]) -> None:
    publisher, listing = PublisherId(new_id()), new_id()
    given = [
        GivenBack(listing, region, amount, taken_by(terms, listing, region, amount))
        for region, amount, terms in (
            (region, amount, None if basis is None else ShareTerms(publisher, basis, left_nano=left))
            for region, amount, basis, left in parts
        )
    ]
    lines = correction_lines(given, "EUR", DEFAULT_LEGAL_ENTITY_ID, TenantId(new_id()))
    assert sum(line.amount_nano for line in lines) == 0
    assert all(line.amount_nano for line in lines)
    (funds,) = (line.amount_nano for line in lines if line.account.kind is AccountKind.TENANT_FUNDS)
    assert funds == sum(amount for _, amount, _, _ in parts)
    assert all(line.amount_nano < 0 for line in lines if line.account.kind is not AccountKind.TENANT_FUNDS)


@pytest.mark.parametrize("basis", [-1, 10_001])
async def test_an_impossible_share_is_refused(market: Market, basis: int) -> None:
    with pytest.raises(Exception, match="ck_listing_publisher_share_bp"):
        await share(market, basis)

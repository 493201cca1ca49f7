"""What last month would have cost is what each of its requests would have cost, to the nano, from sums alone."""

from datetime import date
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chappe_billing.cut_off.months import next_month
from chappe_billing.price_drafts.service import Draft
from chappe_billing.price_simulations.reckoning import Sums, Used, reckon
from chappe_billing.price_simulations.service import Simulation, simulate
from chappe_kernel.ids import new_id
from chappe_kernel.rating import Counts, Outcome, Price, Total
from tests.billing.conftest import Customer, MakeCustomer, Market
from tests.prices.conftest import Operator

NEW = Price(100, 10, 1000, 50, 3, 9)
USES = (
    (Outcome.COMPLETED, Counts(100, 20, 30)),
    (Outcome.COMPLETED, Counts(7, 0, 0)),
    (Outcome.DISCONNECTED, Counts(50, 50, 11)),
    (Outcome.FAILED, Counts(40, 0, 5)),
    (Outcome.FAILED, Counts(0, 0, 0)),
    (Outcome.FAILED, Counts(9, 0, 0)),
)


def exactly(price: Price, outcome: Outcome, counts: Counts) -> Fraction:
    """One request by hand."""
    if counts.prompt_tokens + counts.completion_tokens == 0 or (
        outcome is Outcome.FAILED and counts.completion_tokens == 0
    ):
        return Fraction(0)
    cached, fresh = Fraction(counts.cached_tokens), Fraction(counts.prompt_tokens - counts.cached_tokens)
    return (
        fresh * price.input_nano_per_token
        + cached * price.cached_input_nano_per_token
        + Fraction(counts.completion_tokens) * price.output_nano_per_token
        + price.request_nano
    )


async def use(market: Market, customer: Customer, **changes: object) -> None:
    grant = await market.ask(customer, 1_000_000)
    events = [
        market.event(customer, grant.grant_id, outcome=outcome, counts=counts, **changes) for outcome, counts in USES
    ]
    receipt = await market.ingest(*events)
    assert receipt.posted == len(USES)


async def run(operator: Operator, draft: Draft, month: date | None = None) -> Simulation:
    async with operator.market.database.operator() as session:
        return await simulate(session, draft, month)


async def test_last_month_is_reckoned_request_by_request(
    operator: Operator, market: Market, customer: Customer, make_customer: MakeCustomer
) -> None:
    other = await make_customer()
    for one in (customer, other):
        await use(market, one)
    await operator.move_history(months=1)
    await use(market, customer)
    found = await run(operator, await operator.draft(operator.line(NEW)))
    one_customer = sum(exactly(NEW, outcome, counts) for outcome, counts in USES)
    charged = await market.scalar(
        "SELECT sum(amount_nano) FROM usage_event WHERE posted_at < now() - interval '9 days'"
    )
    assert found.reckoned.total == Sums(requests=8, before_nano=charged, after_nano=int(2 * one_customer))
    assert {tenant: sums.after_nano for tenant, sums in found.reckoned.tenants.items()} == {
        customer.tenant_id: one_customer,
        other.tenant_id: one_customer,
    }


async def test_another_month_has_its_own_usage(operator: Operator, market: Market, customer: Customer) -> None:
    await use(market, customer)
    draft = await operator.draft(operator.line(NEW))
    today = await market.scalar("SELECT (now() AT TIME ZONE 'UTC')::date")
    assert (await run(operator, draft)).reckoned.total == Sums()
    assert (await run(operator, draft, today.replace(day=1))).reckoned.total.requests == 4


async def test_a_tenants_draft_is_about_its_own_usage(
    operator: Operator, market: Market, customer: Customer, make_customer: MakeCustomer
) -> None:
    await use(market, customer)
    await use(market, await make_customer())
    today = await market.scalar("SELECT (now() AT TIME ZONE 'UTC')::date")
    draft = await operator.draft(operator.line(discount=5000), tenant_id=customer.tenant_id)
    found = await run(operator, draft, today.replace(day=1))
    assert list(found.reckoned.tenants) == [customer.tenant_id]
    half = Price(30, 8, 105, 4)
    assert found.reckoned.total.after_nano == sum(exactly(half, outcome, counts) for outcome, counts in USES)


TOTALS = st.builds(
    Total, st.integers(0, 10**6), st.builds(Counts, st.just(10**6), st.integers(0, 10**6), st.integers(0, 10**9))
)


@given(TOTALS, st.none() | st.integers(0, 10_000), st.booleans())
def test_a_list_price_is_everybodys_but_those_with_a_fixed_one(
    total: Total, basis_points: int | None, is_own: bool
) -> None:
    tenant_id, listing_id = new_id(), new_id()
    used = Used(tenant_id, listing_id, "fr-par", is_own, basis_points if is_own else None, total, 5)
    found = reckon([used], {(listing_id, "fr-par"): NEW}, None)
    is_fixed = is_own and basis_points is None
    assert (found.total == Sums()) == is_fixed
    mine = reckon([used], {(listing_id, "fr-par"): NEW}, tenant_id)
    assert mine.total.before_nano == 5
    assert mine.total.requests == total.requests


@pytest.mark.parametrize(
    ("month", "following"), [((2026, 12), (2027, 1)), ((2024, 2), (2024, 3)), ((2026, 1), (2026, 2))]
)
def test_months_follow_each_other(month: tuple[int, int], following: tuple[int, int]) -> None:
    assert next_month(date(*month, 1)) == date(*following, 1)

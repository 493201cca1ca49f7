"""Usage is posted under a price that was its tenant's to pay, as far as clocks tell, and is quarantined otherwise."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from chappe_kernel.ids import new_id
from chappe_kernel.rating import Counts, Outcome, Price, charge
from tests.billing.conftest import PRICE, Customer, MakeCustomer, Market
from tests.prices.conftest import Operator

OWN = Price(10, 5, 20, 1)
COUNTS = Counts(100, 20, 30)


async def post(market: Market, customer: Customer, version_id: UUID, price: Price, **changes: object) -> str:
    """`posted`, or why not."""
    grant = await market.ask(customer, 1_000_000)
    amount = charge(price, Outcome.COMPLETED, COUNTS)
    event = market.event(
        customer, grant.grant_id, price_version=version_id, counts=COUNTS, amount_nano=amount, **changes
    )
    receipt = await market.ingest(event)
    if receipt.posted:
        return "posted"
    found: str = await market.scalar("SELECT code FROM usage_quarantine WHERE request_id = :id", id=event.request_id)
    return found


async def test_a_contracts_price_is_its_tenants(
    operator: Operator, market: Market, customer: Customer, make_customer: MakeCustomer
) -> None:
    (own,) = await operator.publish(operator.line(OWN), tenant_id=customer.tenant_id)
    assert await post(market, customer, own, OWN) == "posted"
    assert await post(market, await make_customer(), own, OWN) == "price_mismatch"


@pytest.mark.parametrize(("days", "code"), [(0, "posted"), (1, "price_not_in_force")])
async def test_a_price_that_was_over_long_ago_is_refused(
    operator: Operator, market: Market, customer: Customer, days: int, code: str
) -> None:
    """And one that has just ended is not: a gateway may have heard of it late."""
    await operator.list_price(OWN)
    await operator.move_history(days=days)
    assert await post(market, customer, market.prices["fr-par"], PRICE) == code


async def test_everybodys_price_is_over_for_a_tenant_with_one_of_its_own(
    operator: Operator, market: Market, customer: Customer, make_customer: MakeCustomer
) -> None:
    await operator.publish(operator.line(OWN), tenant_id=customer.tenant_id)
    await operator.move_history(days=1)
    assert await post(market, customer, market.prices["fr-par"], PRICE) == "price_not_in_force"
    assert await post(market, await make_customer(), market.prices["fr-par"], PRICE) == "posted"


async def test_a_price_that_has_not_started_is_refused(operator: Operator, market: Market, customer: Customer) -> None:
    scheduled = await operator.list_price(OWN, datetime.now(UTC) + timedelta(days=1))
    assert await post(market, customer, scheduled, OWN) == "price_not_in_force"


async def test_an_old_request_that_comes_late_is_posted_under_the_price_of_then(
    operator: Operator, market: Market, customer: Customer
) -> None:
    late = new_id()
    await operator.list_price(OWN)
    await operator.move_history(days=1)
    days_ago = UUID(int=late.int - (2 * 86_400_000 << 80))
    assert await post(market, customer, market.prices["fr-par"], PRICE, request_id=days_ago) == "posted"

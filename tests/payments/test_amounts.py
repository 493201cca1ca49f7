"""What is asked for is what is owed, in the unit in which the service counts, or nobody is asked."""

import pytest

from chappe_billing.payments import collecting
from chappe_billing.payments.amounts import can_be_charged, is_offered, nano_per_minor
from chappe_billing.payments.service import Bounds, TopUp, start_top_up
from chappe_kernel.errors import Conflict, Invalid
from chappe_kernel.money import NANO_PER_UNIT
from tests.invoices.conftest import CENT
from tests.payments.collecting import GROSS_MINOR, GROSS_NANO, Collector
from tests.payments.test_withdrawing import requests, settle
from tests.payments.world import PORTAL_URL, PaymentWorld


@pytest.mark.parametrize(
    ("currency", "unit"), [("EUR", 10**7), ("JPY", 10**9), ("BIF", 10**9), ("VUV", 10**9), ("KWD", 10**6)]
)
def test_each_currency_has_its_smallest_unit(currency: str, unit: int) -> None:
    assert nano_per_minor(currency) == unit


def test_what_the_service_counts_otherwise_is_not_offered() -> None:
    """It takes crowns of Iceland and shillings of Uganda in hundredths that they lack, and rounds thousandths."""
    assert not any(is_offered(currency) for currency in ("ISK", "UGX", "MGA", "KWD", "TND"))
    assert all(is_offered(currency) for currency in ("EUR", "USD", "CHF", "JPY", "HUF"))


@pytest.mark.parametrize(
    ("minor", "currency", "can_be"),
    [(49, "EUR", False), (50, "EUR", True), (99_999_999, "EUR", True), (100_000_000, "EUR", False), (49, "JPY", False)],
)
def test_bounds_of_what_can_be_charged(minor: int, currency: str, can_be: bool) -> None:
    assert can_be_charged(minor, currency) is can_be


async def test_less_than_the_service_takes_is_not_asked_for(collector: Collector) -> None:
    """It would be a call that can never work, and an invoice that is being paid for ever."""
    _, invoice_id = await collector.with_card()
    await settle(collector, invoice_id, amount_nano=GROSS_NANO - 49 * CENT)
    assert await collector.collect() == 0
    async with collector.world.database.operator() as session:
        assert not await collecting.begin(session, invoice_id)
    assert (await collector.open_nano(invoice_id), await collector.states()) == (49 * CENT, [])


async def test_what_is_left_of_a_request_and_too_little_is_withdrawn_and_left_open(collector: Collector) -> None:
    _, invoice_id = await collector.invoiced()
    await collector.collect()
    await settle(collector, invoice_id, amount_nano=GROSS_NANO - CENT)
    assert await collector.world.office.withdraw_all() == 1
    await collector.world.work()
    assert await collector.collect() == 0
    assert (await collector.open_nano(invoice_id), await requests(collector)) == (CENT, [("void", GROSS_MINOR)])


async def test_nobody_tops_up_in_a_currency_that_is_not_offered(world: PaymentWorld) -> None:
    scope = await world.buyer()
    await world.sql(
        "DO $$ BEGIN SET LOCAL session_replication_role = replica; UPDATE legal_entity SET currency = 'ISK'; END $$"
    )
    with pytest.raises(Conflict, match="ISK"):
        async with world.database.tenant(scope) as session:
            await start_top_up(
                session, scope, TopUp(net_nano=100 * NANO_PER_UNIT), bounds=Bounds(), portal_url=PORTAL_URL
            )


async def test_a_top_up_that_the_service_does_not_take_is_refused_at_once(world: PaymentWorld) -> None:
    scope = await world.buyer()
    for units in (0, 900_000):
        asked = TopUp(net_nano=units * NANO_PER_UNIT + 10**8)
        with pytest.raises(Invalid, match="takes no such amount"):
            async with world.database.tenant(scope) as session:
                bounds = Bounds(0, 10**6 * NANO_PER_UNIT)
                await start_top_up(session, scope, asked, bounds=bounds, portal_url=PORTAL_URL)

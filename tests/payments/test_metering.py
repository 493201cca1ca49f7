"""Stripe is told of each tenant's day of usage once, after it is over, by those alone who want that."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from chappe_billing.payments.service import Bounds
from chappe_billing.payments.stripe_service import StripeSettings
from chappe_control.payments.office import PaymentOffice
from tests.invoices.conftest import EURO
from tests.payments.collecting import Collector
from tests.payments.world import PaymentWorld

_METER = "tokens_charged"
_COST_NANO = 2 * (210_000_000 + 67)


@pytest.fixture
async def telling(world: PaymentWorld) -> AsyncIterator[PaymentOffice]:
    stripe = StripeSettings(world.stripe.api_key, world.stripe.webhook_secret, world.stripe.url)
    office = PaymentOffice(stripe, world.database, world.clock, Bounds(), meter=_METER)
    await (await world.client()).v1.billing.meters.create_async(
        {"display_name": "Tokens", "event_name": _METER, "default_aggregation": {"formula": "sum"}}
    )
    yield office
    await office.close()


async def _days_pass(collector: Collector, days: int) -> None:
    """Whatever was used so far was used so many days earlier."""
    await collector.world.sql(f"UPDATE usage_day SET day = day - {days}")


async def _calls(collector: Collector) -> list[tuple[str, str]]:
    rows = await collector.world.sql(
        "SELECT parameters ->> 'value', state FROM payment_call WHERE kind = 'usage' ORDER BY parameters ->> 'at'"
    )
    return [(value, state) for value, state in rows]


async def _summed(collector: Collector, customer: str) -> int:
    client = await collector.world.client()
    [meter] = (await client.v1.billing.meters.list_async()).data
    [(now,)] = await collector.world.sql("SELECT extract(epoch FROM now())::bigint / 86400 * 86400")
    found = await client.v1.billing.meters.event_summaries.list_async(
        meter.id, {"customer": customer, "start_time": now - 40 * 86_400, "end_time": now + 86_400}
    )
    return int(sum(one.aggregated_value for one in found.data))


async def test_a_day_is_told_once_when_it_is_over(collector: Collector, telling: PaymentOffice) -> None:
    customer = await collector.make_buyer(credit_nano=1000 * EURO)
    await collector.office.use(customer, times=2)
    assert await telling.report_usage() == 0, "the day is not over"
    await _days_pass(collector, 2)
    assert sum(await asyncio.gather(*(telling.report_usage() for _ in range(4)))) == 1
    # The answer is lost, and the event counts once all the same.
    await collector.world.stripe.switch("fault", path="/v1/billing/meter_events", do="close", after_commit=True)
    await collector.world.work()
    collector.world.clock.advance(60)
    await collector.world.work()
    assert (await telling.report_usage(), await _calls(collector)) == (0, [(str(_COST_NANO), "done")])
    await collector.office.use(customer, times=2)
    await collector.world.sql("UPDATE usage_day SET day = day - 3 WHERE day >= CAST(now() AS date)")
    assert await telling.report_usage() == 1
    await collector.world.work()
    assert await _calls(collector) == [(str(_COST_NANO), "done")] * 2
    assert await _summed(collector, await collector.world.customer(customer.scope)) == 2 * _COST_NANO


async def test_nothing_is_told_that_stripe_would_not_take(collector: Collector, telling: PaymentOffice) -> None:
    await collector.office.use(await collector.make_buyer(credit_nano=1000 * EURO))
    await _days_pass(collector, 34)
    assert await telling.report_usage() == 0


async def test_nobody_is_told_of_by_who_does_not_want_it(collector: Collector, telling: PaymentOffice) -> None:
    await collector.office.use(await collector.make_buyer(credit_nano=1000 * EURO))
    await _days_pass(collector, 2)
    assert await collector.world.office.report_usage() == 0, "there is no meter"
    await collector.collects_by("none")
    assert await telling.report_usage() == 0
    assert await _calls(collector) == []

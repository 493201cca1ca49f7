"""A key makes a repeat the same call, as Stripe says: same answer, also a refusal; other parameters are a conflict."""

import asyncio
from typing import Any

import pytest
from stripe import CardError, IdempotencyError, InvalidRequestError, StripeClient, StripeError

from tests.stripe_server import LocalStripe
from tests.stripe_stand_in import doing

CHARGE: Any = {
    "amount": 1000,
    "currency": "eur",
    "payment_method": "pm_card_visa",
    "confirm": True,
    **doing.NO_REDIRECTS,
}


def key() -> Any:
    return {"idempotency_key": "order-1"}


def _with(**values: Any) -> Any:
    return {**CHARGE, **values}


async def intents(client: StripeClient) -> int:
    return len((await client.v1.payment_intents.list_async({"limit": 100})).data)


async def test_a_repeat_gets_the_same_answer_and_does_nothing(client: StripeClient) -> None:
    first = await client.v1.payment_intents.create_async(CHARGE, key())
    again = await client.v1.payment_intents.create_async(CHARGE, key())
    assert first.to_dict() == again.to_dict()
    assert again.last_response is not None
    assert again.last_response.headers["idempotent-replayed"] == "true"
    assert await intents(client) == 1


async def test_a_decline_is_repeated_too(client: StripeClient) -> None:
    declined = _with(payment_method="pm_card_chargeDeclined")
    errors = []
    for _ in range(2):
        with pytest.raises(CardError) as caught:
            await client.v1.payment_intents.create_async(declined, key())
        errors.append(caught.value.json_body)
    assert errors[0] == errors[1]
    assert await intents(client) == 1


async def test_other_parameters_under_a_key_are_refused(client: StripeClient) -> None:
    await client.v1.payment_intents.create_async(CHARGE, key())
    with pytest.raises(IdempotencyError) as caught:
        await client.v1.payment_intents.create_async(_with(amount=2000), key())
    assert caught.value.http_status == 400
    with pytest.raises(IdempotencyError):
        await client.v1.customers.create_async({}, key())
    assert await intents(client) == 1


async def test_what_was_not_begun_is_not_kept(client: StripeClient) -> None:
    with pytest.raises(InvalidRequestError):
        await client.v1.payment_intents.create_async(_with(amount="many"), key())
    assert (await client.v1.payment_intents.create_async(CHARGE, key())).status == "succeeded"


async def test_a_key_is_forgotten_after_a_day(stripe: LocalStripe, client: StripeClient) -> None:
    first = await client.v1.payment_intents.create_async(CHARGE, key())
    await stripe.switch("clock", advance_s=23 * 3600)
    assert (await client.v1.payment_intents.create_async(CHARGE, key())).id == first.id
    await stripe.switch("clock", advance_s=2 * 3600)
    assert (await client.v1.payment_intents.create_async(CHARGE, key())).id != first.id


async def test_a_key_in_use_is_a_conflict(stripe: LocalStripe, client: StripeClient) -> None:
    await stripe.switch("fault", path="/v1/payment_intents", do="slow", delay_s=1.5)
    slow = asyncio.create_task(client.v1.payment_intents.create_async(CHARGE, key()))
    async with asyncio.timeout(5):
        while not stripe.application._running_keys:  # noqa: ASYNC110 -- nobody is told when a call begins
            await asyncio.sleep(0)
    with pytest.raises(StripeError) as caught:
        await stripe.client().v1.payment_intents.create_async(CHARGE, key())
    assert caught.value.http_status == 409
    assert caught.value.json_body["error"]["code"] == "idempotency_key_in_use"  # type: ignore[index]  # a refusal has a body
    assert (await slow).status == "succeeded"
    assert await intents(client) == 1


@pytest.mark.parametrize("fault", ["500", "close", "hang"])
async def test_lost_after_the_commit_a_repeat_finds_it(stripe: LocalStripe, client: StripeClient, fault: str) -> None:
    await stripe.switch("fault", path="/v1/payment_intents", do=fault, after_commit=True)
    with pytest.raises(StripeError):
        await stripe.client(timeout_s=0.8).v1.payment_intents.create_async(CHARGE, key())
    assert await intents(client) == 1
    assert (await client.v1.payment_intents.create_async(CHARGE, key())).status == "succeeded"
    assert await intents(client) == 1


@pytest.mark.parametrize("fault", ["429", "500", "close", "hang"])
async def test_lost_before_the_commit_nothing_happened(stripe: LocalStripe, client: StripeClient, fault: str) -> None:
    await stripe.switch("fault", path="/v1/payment_intents", do=fault)
    with pytest.raises(StripeError) as caught:
        await stripe.client(timeout_s=0.8).v1.payment_intents.create_async(CHARGE, key())
    assert caught.value.http_status == (int(fault) if fault.isdigit() else None)
    assert await intents(client) == 0
    assert (await client.v1.payment_intents.create_async(CHARGE, key())).status == "succeeded"


async def test_the_sdks_own_retries_charge_once(stripe: LocalStripe, client: StripeClient) -> None:
    await stripe.switch("fault", path="/v1/payment_intents", do="close", after_commit=True)
    assert (await stripe.client(retries=2).v1.payment_intents.create_async(CHARGE)).status == "succeeded"
    assert await intents(client) == 1


async def test_away_is_away_until_it_is_back(stripe: LocalStripe, client: StripeClient) -> None:
    await stripe.switch("away", away=True)
    with pytest.raises(StripeError) as caught:
        await client.v1.customers.list_async()
    assert caught.value.http_status is None
    await stripe.switch("away", away=False)
    assert (await client.v1.customers.list_async()).data == []

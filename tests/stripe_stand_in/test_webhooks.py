"""Webhooks are signed, sent until somebody takes them, and as badly as a test wants."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from stripe import SignatureVerificationError, Webhook

from chappe_local.stripe_stand_in.deliveries import back_off_s, signature
from tests.stripe_server import LocalStripe, local_stripe
from tests.stripe_stand_in import doing
from tests.stripe_stand_in.receiver import SECRET, Receiver, receiving


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with receiving() as found:
        yield found


@pytest.fixture
async def stripe(tmp_path: Path, receiver: Receiver) -> AsyncIterator[LocalStripe]:
    async with local_stripe(tmp_path, webhooks_to=[receiver.url], webhook_secret=SECRET) as running:
        yield running


async def until(holds: Callable[[], bool], within_s: float = 5.0) -> None:
    async with asyncio.timeout(within_s):
        while not holds():  # noqa: ASYNC110 -- the receiver is another program
            await asyncio.sleep(0.005)


async def drained(stripe: LocalStripe) -> None:
    """Until nothing waits to be sent."""
    async with asyncio.timeout(5):
        while any(one["state"] == "waiting" for one in (await stripe.state())["deliveries"]):  # noqa: ASYNC110 -- as above
            await asyncio.sleep(0.005)


async def test_every_event_is_signed_and_delivered_once(stripe: LocalStripe, receiver: Receiver) -> None:
    client = stripe.client()
    await doing.paid(client)
    await drained(stripe)
    listed = await client.v1.events.list_async({"limit": 100})
    assert sorted(receiver.types) == sorted(event.type for event in listed.data)
    assert len({event["id"] for event in receiver.events}) == len(receiver.events) == 3
    assert all(event.pending_webhooks == 0 for event in listed.data)


def test_a_signature_is_of_its_body_time_and_secret() -> None:
    body = b'{"object": "event"}'
    Webhook.construct_event(body, signature(body, SECRET, int(time.time())), SECRET, api_key="sk_test_x")
    for header in (signature(body, "other", 1), signature(b"{}", SECRET, 1), signature(body, SECRET, 1)):
        with pytest.raises(SignatureVerificationError):
            Webhook.construct_event(body, header, SECRET)


async def test_who_refuses_is_asked_again_until_it_takes(stripe: LocalStripe, receiver: Receiver) -> None:
    receiver.answer = lambda calls: 500 if calls < 3 else 200
    await doing.customer(stripe.client())
    await until(lambda: receiver.calls == 1)
    for calls in (2, 3):
        await stripe.switch("release")
        await until(lambda wanted=calls: receiver.calls == wanted)  # type: ignore[misc]  # bound at once
    await drained(stripe)
    assert receiver.types == ["customer.created"]
    (delivery,) = (await stripe.state())["deliveries"]
    assert (delivery["attempts"], delivery["state"], delivery["status"]) == (3, "delivered", 200)


def test_the_pauses_between_attempts_grow_to_a_minute() -> None:
    assert [back_off_s(attempts) for attempts in (1, 2, 3, 7, 100)] == [1, 2, 4, 60, 60]


async def test_copies_and_order(stripe: LocalStripe, receiver: Receiver) -> None:
    await stripe.switch("webhooks", copies=3, reorder=True)
    client = stripe.client()
    await doing.paid(client)
    await drained(stripe)
    written = await doing.event_types(client)
    assert receiver.types == [kind for kind in reversed(written) for _ in range(3)]
    assert len({event["id"] for event in receiver.events}) == len(written)


async def test_held_events_come_when_they_are_released(stripe: LocalStripe, receiver: Receiver) -> None:
    await stripe.switch("webhooks", hold=True)
    client = stripe.client()
    await doing.customer(client)
    listed = await client.v1.events.list_async()
    assert (receiver.calls, listed.data[0].pending_webhooks) == (0, 1)
    await stripe.switch("release")
    await drained(stripe)
    assert receiver.types == ["customer.created"]


async def test_a_dropped_event_is_listed_all_the_same(stripe: LocalStripe, receiver: Receiver) -> None:
    await stripe.switch("webhooks", drop=1)
    client = stripe.client()
    await doing.customer(client)
    await doing.customer(client)
    await drained(stripe)
    assert len(receiver.events) == 1
    assert await doing.event_types(client) == ["customer.created"] * 2


async def test_a_delayed_event_waits_for_its_time(stripe: LocalStripe, receiver: Receiver) -> None:
    await stripe.switch("webhooks", delay_s=3600)
    await doing.customer(stripe.client())
    assert [one["state"] for one in (await stripe.state())["deliveries"]] == ["waiting"]
    await stripe.switch("clock", advance_s=3600)
    await drained(stripe)
    assert receiver.types == ["customer.created"]


async def test_an_endpoint_made_by_the_api_gets_what_it_asked_for(stripe: LocalStripe, receiver: Receiver) -> None:
    client = stripe.client()
    made = await client.v1.webhook_endpoints.create_async({"url": receiver.url, "enabled_events": ["customer.deleted"]})
    assert made.secret and made.secret.startswith("whsec_")
    shown = await client.v1.webhook_endpoints.retrieve_async(made.id)
    assert getattr(shown, "secret", None) is None
    await doing.customer(client)
    deliveries = (await stripe.state())["deliveries"]
    assert made.id not in {one["endpoint"] for one in deliveries}
    await client.v1.webhook_endpoints.delete_async(made.id)
    assert [one.url for one in (await client.v1.webhook_endpoints.list_async()).data] == [receiver.url]

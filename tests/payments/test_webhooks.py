"""Who may tell of payments: whoever signs with the secret, now, and nobody else. What they tell is looked up."""

import time

import msgspec
import pytest

from chappe_billing.payments.port import NotGenuine, TryLater
from chappe_billing.payments.service import Bounds
from chappe_billing.payments.stripe_service import StripeSettings
from chappe_control.payments.office import PaymentOffice
from chappe_kernel.errors import NotFound
from tests.payments.world import PaymentWorld

_EUR = 10**9


async def test_a_forged_or_stale_webhook_credits_nothing(world: PaymentWorld) -> None:
    """Row 14 of the faults."""
    scope = await world.buyer()
    await world.pay(scope)
    body = (await world.events())[-1]
    tampered = body.replace(b'"livemode":false', b'"livemode":false ')
    now = int(time.time())
    forged = [
        (body, world.sign(body, secret="whsec_another")),
        (tampered, world.sign(body)),
        (body, world.sign(body, timestamp=now - 301)),
        (body, world.sign(body).replace("v1=", "v0=")),
        (body, "t=,v1="),
        (body, ""),
        (body, None),
        (b"\xff\xfe", world.sign(b"{}")),
        (b"[]", world.sign(b"[]")),
        (b"{}", world.sign(b"{}")),
    ]
    for raw, signature in forged:
        with pytest.raises(NotGenuine):
            await world.office.hear(raw, signature)
    assert await world.balance_nano(scope) == 0
    assert await world.sql("SELECT count(*) FROM payment_event") == [(0,)]
    assert await world.hear(body) != ["repeated"]


@pytest.mark.parametrize("secret", ["", " ", "\t"])
async def test_without_a_secret_every_webhook_is_refused(world: PaymentWorld, secret: str) -> None:
    settings = StripeSettings(world.stripe.api_key, secret, world.stripe.url)
    office = PaymentOffice(settings, world.database, world.clock, Bounds())
    await world.pay(await world.buyer())
    for body in await world.events():
        for signature in (world.sign(body), world.sign(body, secret="x").replace("x", secret), None):
            with pytest.raises(NotGenuine):
                await office.hear(body, signature)
    await office.close()


async def test_an_event_of_the_other_mode_or_account_is_refused(world: PaymentWorld) -> None:
    await world.pay(await world.buyer())
    event = msgspec.json.decode((await world.events())[-1])
    live = msgspec.json.encode({**event, "livemode": True})
    with pytest.raises(NotGenuine, match="mode"):
        await world.hear(live)
    settings = StripeSettings(world.stripe.api_key, world.stripe.webhook_secret, world.stripe.url, "acct_ours")
    office = PaymentOffice(settings, world.database, world.clock, Bounds())
    other = msgspec.json.encode({**event, "account": "acct_theirs"})
    with pytest.raises(NotGenuine, match="account"):
        await office.hear(other, world.sign(other))
    await office.close()


async def test_what_an_event_claims_is_never_believed(world: PaymentWorld) -> None:
    """Even one that is signed: its object says paid, and Stripe says not."""
    scope = await world.buyer()
    payment_id = await world.ask(scope)
    await world.page_of(scope, payment_id)
    [session] = (await (await world.client()).v1.checkout.sessions.list_async()).data
    claimed = {**session.to_dict(), "status": "complete", "payment_status": "paid"}
    event = {
        "id": "evt_claimed",
        "object": "event",
        "type": "checkout.session.completed",
        "created": int(time.time()),
        "livemode": False,
        "data": {"object": claimed},
    }
    await world.hear(msgspec.json.encode(event))
    assert (await world.payment(scope, payment_id)).state == "open"
    assert await world.balance_nano(scope) == 0


async def test_an_event_of_an_unknown_kind_is_taken_and_ignored(world: PaymentWorld) -> None:
    event = {"id": "evt_new", "type": "some.day.invented", "created": 1, "livemode": False}
    body = msgspec.json.encode({**event, "data": {"object": {"id": "x_1"}}})
    assert await world.hear(body, body) == ["ignored", "repeated"]


async def test_an_event_that_cannot_be_looked_up_now_is_refused_and_comes_again(world: PaymentWorld) -> None:
    scope = await world.buyer()
    await world.pay(scope)
    bodies = await world.events()
    await world.stripe.switch("away", away=True)
    paid = [body for body in bodies if b'"payment_intent.succeeded"' in body]
    with pytest.raises(TryLater):
        await world.hear(*paid)
    await world.stripe.switch("away", away=False)
    assert await world.hear(*paid) == ["succeeded"]


async def test_lost_webhooks_are_found_in_stripes_own_list(world: PaymentWorld) -> None:
    scope = await world.buyer()
    await world.pay(scope)
    assert await world.office.catch_up() > 0
    assert await world.balance_nano(scope) == 100 * _EUR
    assert await world.office.catch_up() == 0
    assert set(await world.hear_all()) == {"repeated"}


async def test_a_payment_of_which_nobody_hears_is_asked_about(world: PaymentWorld) -> None:
    scope = await world.buyer()
    await world.pay(scope)
    await world.sql("UPDATE payment SET looked_at = now() - interval '2 minutes'")
    assert await world.office.look_after() == 1
    assert await world.balance_nano(scope) == 100 * _EUR


@pytest.mark.parametrize("mode", ["external", "none"])
async def test_where_nobody_collects_by_stripe_nothing_of_it_is_built_or_called(world: PaymentWorld, mode: str) -> None:
    await world.pay(await world.buyer())
    bodies = await world.events()
    await world.sql("UPDATE legal_entity SET payments = :mode", mode=mode)
    office = PaymentOffice(
        StripeSettings(world.stripe.api_key, world.stripe.webhook_secret, "http://127.0.0.1:9"),
        world.database,
        world.clock,
        Bounds(),
    )
    with pytest.raises(NotFound):
        await office.hear(bodies[0], world.sign(bodies[0]))
    done = [await office.carry_out_due(), await office.catch_up(), await office.look_after()]
    assert [*done, await office.top_up_all(), await office.collect_all()] == [0] * 5
    assert office._service is None


def test_no_secret_is_in_what_is_shown() -> None:
    settings = StripeSettings("sk_test_hidden", "whsec_hidden", "http://127.0.0.1:9")
    assert "hidden" not in f"{settings!r} {settings} {[settings]}"

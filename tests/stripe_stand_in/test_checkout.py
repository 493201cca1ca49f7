"""The hosted page: paid once however often the button is pressed, refusals shown, a way back, and an end."""

import asyncio
import re
from typing import Any

import pytest
from stripe import InvalidRequestError, StripeClient

from tests.stripe_server import LocalStripe
from tests.stripe_stand_in import doing

PAID = doing.card("4242 4242 4242 4242")


async def test_pressing_pay_twice_charges_once(stripe: LocalStripe, client: StripeClient) -> None:
    page = await doing.session(client, 1999, client_reference_id="top-up-1", metadata={"a": "b"})
    assert (page.payment_intent, page.payment_status, page.ui_mode) == (None, "unpaid", "hosted_page")
    answers = await asyncio.gather(*(stripe.submit(str(page.url), **PAID) for _ in range(5)))
    back = f"http://localhost:1/paid?session={page.id}"
    assert [(one.status_code, one.headers.get("location")) for one in answers] == [(303, back)] * 5
    done = await client.v1.checkout.sessions.retrieve_async(page.id, {"expand": ["payment_intent"]})
    intent: Any = done.payment_intent
    assert (done.status, done.payment_status, done.client_reference_id) == ("complete", "paid", "top-up-1")
    assert (intent.status, intent.amount_received) == ("succeeded", 1999)
    assert len((await client.v1.charges.list_async()).data) == 1
    assert (await doing.event_types(client)).count("checkout.session.completed") == 1


async def test_a_paid_page_says_that_it_is_paid(stripe: LocalStripe, client: StripeClient) -> None:
    page = await doing.session(client)
    url = str(page.url).replace("localhost", "127.0.0.1")
    assert "Pay 5.00 EUR" in (await stripe.http.get(url)).text
    await stripe.submit(url, **PAID)
    shown = (await stripe.http.get(url)).text
    assert "This is paid" in shown
    assert "<form" not in shown


async def test_a_refusal_is_shown_and_another_card_pays(stripe: LocalStripe, client: StripeClient) -> None:
    page = await doing.session(client)
    refused = await stripe.submit(str(page.url), **doing.card("4000000000009995"))
    assert refused.status_code == 402
    assert 'role="alert">Your card has insufficient funds.' in refused.text
    mistyped = await stripe.submit(str(page.url), **{**PAID, "expiry": "13/30"})
    assert "expiration month is invalid" in mistyped.text
    foreign = await stripe.submit(str(page.url), **doing.account("DE89370400440532013000") | {"iban": "DE00"})
    assert "only test IBANs" in foreign.text
    assert (await stripe.submit(str(page.url), **PAID)).status_code == 303
    done = await client.v1.checkout.sessions.retrieve_async(page.id, {"expand": ["payment_intent"]})
    intent: Any = done.payment_intent
    charges = await client.v1.charges.list_async({"payment_intent": intent.id})
    assert [charge.status for charge in charges.data] == ["succeeded", "failed"]


async def test_whoever_goes_back_has_paid_nothing(stripe: LocalStripe, client: StripeClient) -> None:
    page = await doing.session(client)
    shown = await stripe.http.get(str(page.url).replace("localhost", "127.0.0.1"))
    assert f'href="{doing.CANCEL_URL}"' in shown.text
    assert (await client.v1.checkout.sessions.retrieve_async(page.id)).status == "open"
    assert (await client.v1.payment_intents.list_async()).data == []


async def test_an_expired_page_takes_nothing(stripe: LocalStripe, client: StripeClient) -> None:
    by_hand = await doing.session(client)
    await client.v1.checkout.sessions.expire_async(by_hand.id)
    by_time = await doing.session(client, expires_at=by_hand.created + 1800)
    await stripe.switch("clock", advance_s=1801)
    for page in (by_hand, by_time):
        answer = await stripe.submit(str(page.url), **PAID)
        assert "has expired" in answer.text
        seen = await client.v1.checkout.sessions.retrieve_async(page.id)
        assert (seen.status, seen.url) == ("expired", None)
    assert (await doing.event_types(client)).count("checkout.session.expired") == 2
    with pytest.raises(InvalidRequestError):
        await client.v1.checkout.sessions.expire_async(by_hand.id)


async def test_a_debit_completes_the_page_before_it_is_paid(stripe: LocalStripe, client: StripeClient) -> None:
    who = await doing.customer(client)
    seen = []
    for iban in ("DE89370400440532013000", "DE62370400440532013001"):
        page = await doing.session(client, customer=who.id)
        assert (await stripe.submit(str(page.url), **doing.account(iban))).status_code == 303
        await stripe.switch("clock", advance_s=1)
        done = await client.v1.checkout.sessions.retrieve_async(page.id)
        seen.append((done.status, done.payment_status))
    assert seen == [("complete", "paid"), ("complete", "unpaid")]
    kinds = [kind for kind in await doing.event_types(client) if kind.startswith("checkout")]
    assert kinds == [
        *("checkout.session.completed", "checkout.session.async_payment_succeeded"),
        *("checkout.session.completed", "checkout.session.async_payment_failed"),
    ]


@pytest.mark.parametrize("answer", ["pass", "fail"])
async def test_the_banks_page_leads_back_to_the_shop_or_the_page(
    stripe: LocalStripe, client: StripeClient, answer: str
) -> None:
    page = await doing.session(client)
    bank = await stripe.submit(str(page.url), **doing.card("4000002500003155"))
    assert bank.status_code == 303
    assert "Authenticate" in (await stripe.http.get(bank.headers["location"])).text
    back = (await stripe.submit(bank.headers["location"], answer=answer)).headers["location"]
    if answer == "pass":
        assert back == f"http://localhost:1/paid?session={page.id}"
    else:
        assert back == page.url
        assert "failed authentication" in (await stripe.http.get(back)).text


async def test_setup_saves_a_method_and_charges_nothing(stripe: LocalStripe, client: StripeClient) -> None:
    who = await doing.customer(client)
    page = await doing.setup_session(client, who.id, "card")
    assert (page.payment_status, page.amount_total) == ("no_payment_required", None)
    assert (await stripe.submit(str(page.url), **PAID)).status_code == 303
    done = await client.v1.checkout.sessions.retrieve_async(page.id, {"expand": ["setup_intent"]})
    setup: Any = done.setup_intent
    methods = await client.v1.customers.payment_methods.list_async(who.id)
    assert (setup.status, [method.id for method in methods.data]) == ("succeeded", [setup.payment_method])
    assert (await client.v1.charges.list_async()).data == []


async def test_pages_are_plain_private_and_without_scripts(stripe: LocalStripe, client: StripeClient) -> None:
    who = await doing.customer(client)
    portal = await client.v1.billing_portal.sessions.create_async({"customer": who.id})
    page = await doing.session(client, allowed_payment_method_types=["card", "sepa_debit"])
    for url in (str(page.url), portal.url):
        shown = await stripe.http.get(url)
        assert "It takes no money" in shown.text
        assert "<script" not in shown.text and "style=" not in shown.text
        assert "default-src 'none'" in shown.headers["content-security-policy"]
        assert shown.headers["cache-control"] == "no-store"
        # Every field that is seen has its label.
        for field in re.findall(r'<input type="(?:text|email)" id="(\w+)"', shown.text):
            assert f'<label for="{field}">' in shown.text
        assert (await stripe.http.get(url, headers={"host": "evil.example"})).status_code == 403


async def test_what_is_typed_is_never_markup(stripe: LocalStripe, client: StripeClient) -> None:
    page = await doing.session(client)
    evil = '"><script>alert(1)</script>'
    shown = await stripe.submit(str(page.url), **{**PAID, "number": evil, "card_name": evil})
    assert "<script>" not in shown.text

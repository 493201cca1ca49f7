"""Everything that the stand-in can answer looks like Stripe's: by the SDK's annotations, and by Stripe's fixtures."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from stripe import CardError, StripeClient

from tests.stripe_server import LocalStripe, local_stripe
from tests.stripe_stand_in import doing
from tests.stripe_stand_in.shapes import needs_fixtures, unlike_the_fixture, unlike_the_sdk

KINDS = {
    *("balance", "balance_transaction", "billing.meter", "billing.meter_event", "billing_portal.session"),
    *("cash_balance", "charge", "checkout.session", "customer", "customer_cash_balance_transaction"),
    *("deleted_customer", "deleted_invoice", "deleted_invoiceitem", "dispute", "event", "funding_instructions"),
    *("invoice", "invoice_payment", "invoiceitem", "item", "line_item", "mandate", "payment_intent"),
    *("payment_method", "refund", "setup_intent", "webhook_endpoint"),
}
"""What has a fixture; each must be seen at least once."""


@pytest.fixture(scope="module")
async def everything(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[list[dict[str, Any]]]:
    """Objects in all their states: as answers, and as events told of them."""
    folder: Path = tmp_path_factory.mktemp("stripe")
    async with local_stripe(folder, webhooks_to=["http://127.0.0.1:9/"]) as stripe:
        await stripe.switch("webhooks", hold=True)
        yield [_plain(one) for one in await _live_a_while(stripe)]


def _plain(one: Any) -> dict[str, Any]:
    found: dict[str, Any] = one.to_dict() if hasattr(one, "to_dict") else one
    return found


async def _live_a_while(stripe: LocalStripe) -> list[Any]:
    client = stripe.client()
    v1 = client.v1
    who = await doing.customer(client, address={"line1": "1 rue", "country": "FR"})
    seen: list[Any] = [who, *await _pay_by_card(stripe, client, who.id), *await _pay_by_bank(stripe, client, who.id)]
    seen += await _invoices(client, who.id)
    meter = await v1.billing.meters.create_async(
        {"display_name": "Tokens", "event_name": "tokens", "default_aggregation": {"formula": "sum"}}
    )
    payload = {"stripe_customer_id": who.id, "value": "25"}
    seen += [meter, await v1.billing.meter_events.create_async({"event_name": "tokens", "payload": payload})]
    seen.append(await v1.billing_portal.sessions.create_async({"customer": who.id, "return_url": "http://x/"}))
    seen += [await v1.balance.retrieve_async(), *(await v1.webhook_endpoints.list_async()).data]
    seen += (await v1.balance_transactions.list_async({"limit": 100})).data
    gone = await doing.customer(client)
    seen.append(await v1.customers.delete_async(gone.id))
    events = (await v1.events.list_async({"limit": 100})).data
    return [*seen, *events, *(event.data.object for event in events)]


async def _pay_by_card(stripe: LocalStripe, client: StripeClient, who: str) -> list[Any]:
    v1 = client.v1
    page = await doing.session(client, customer=who, metadata={"order": "1"})
    await stripe.submit(str(page.url), **doing.card("4000002500003155"))
    asked = await v1.checkout.sessions.retrieve_async(page.id, {"expand": ["payment_intent", "line_items"]})
    assert not isinstance(asked.payment_intent, str) and asked.payment_intent and asked.line_items
    with pytest.raises(CardError):
        await doing.paid(client, card="pm_card_chargeDeclined")
    intent = await doing.paid(client, customer=who, setup_future_usage="off_session", return_url="http://x/")
    refund = await v1.refunds.create_async({"payment_intent": intent.id, "amount": 100})
    dispute = await stripe.switch("open-dispute", payment_intent=intent.id)
    await stripe.switch("decide-dispute", dispute=dispute["id"], outcome="won")
    charge = await v1.charges.retrieve_async(str(intent.latest_charge), {"expand": ["refunds"]})
    asking: Any = {"payment_method": "pm_card_authenticationRequired", "confirm": True, **doing.NO_REDIRECTS}
    setup = await v1.setup_intents.create_async(asking)
    return [page, asked, asked.payment_intent, *asked.line_items.data, intent, refund, dispute, charge, setup]


async def _pay_by_bank(stripe: LocalStripe, client: StripeClient, who: str) -> list[Any]:
    v1 = client.v1
    method = await doing.saved_account(stripe, client, who, "DE08370400440532013003")
    debit = await doing.paid(client, card=method, customer=who, allowed_payment_method_types=["sepa_debit"])
    setup = (await v1.setup_intents.list_async({"payment_method": method})).data[0]
    mandate = await v1.mandates.retrieve_async(str(setup.mandate))
    transfer: Any = {"allowed_payment_method_types": ["customer_balance"], "payment_method_options": doing.TRANSFER}
    page = await doing.session(client, customer=who, **transfer)
    await stripe.submit(str(page.url), type="customer_balance")
    waiting = await v1.payment_intents.list_async({"customer": who, "limit": 1})
    where = await v1.customers.funding_instructions.create_async(
        who,
        {
            "currency": "eur",
            "funding_type": "bank_transfer",
            "bank_transfer": {"type": "eu_bank_transfer", "eu_bank_transfer": {"country": "FR"}},
        },
    )
    arrived = await v1.test_helpers.customers.fund_cash_balance_async(who, {"amount": 900, "currency": "eur"})
    cash = await v1.customers.cash_balance.retrieve_async(who)
    return [
        debit,
        setup,
        mandate,
        waiting.data[0],
        where,
        arrived,
        cash,
        await v1.payment_methods.retrieve_async(method),
    ]


async def _invoices(client: StripeClient, who: str) -> list[Any]:
    v1 = client.v1
    settings: Any = {"payment_method_types": ["card", "customer_balance"], "payment_method_options": doing.TRANSFER}
    sent = await doing.invoice(
        client, who, collection_method="send_invoice", days_until_due=30, payment_settings=settings
    )
    sent = await v1.invoices.send_invoice_async(sent.id, {"expand": ["payments"]})
    assert sent.payments is not None
    draft = await doing.invoice(client, who)
    item = await v1.invoice_items.create_async({"customer": who, "amount": 5, "currency": "eur"})
    card = await doing.saved_card(client, who)
    paid = await doing.invoice(client, who)
    paid = await v1.invoices.pay_async(paid.id, {"payment_method": card})
    gone = [await v1.invoice_items.delete_async(item.id), await v1.invoices.delete_async(draft.id)]
    return [sent, *sent.lines.data, *sent.payments.data, draft, item, paid, *gone]


def test_objects_are_what_the_sdk_expects(everything: list[dict[str, Any]]) -> None:
    problems = {problem for one in everything if not _is_tombstone(one) for problem in unlike_the_sdk(one)}
    assert not problems, "\n".join(sorted(problems))


@needs_fixtures
def test_objects_have_what_the_fixtures_have(everything: list[dict[str, Any]]) -> None:
    problems = {problem for one in everything for problem in unlike_the_fixture(one, _name(one))}
    assert not problems, "\n".join(sorted(problems))
    assert KINDS - {_name(one) for one in everything} == set()


def _name(one: dict[str, Any]) -> str:
    return f"deleted_{one['object']}" if _is_tombstone(one) else str(one["object"])


def _is_tombstone(one: dict[str, Any]) -> bool:
    return set(one) == {"id", "object", "deleted"}

"""What several tests do with the stand-in, through the real SDK."""

from typing import Any

from stripe import Customer, PaymentIntent, StripeClient
from stripe.checkout import Session

from tests.stripe_server import LocalStripe

SUCCESS_URL = "http://localhost:1/paid?session={CHECKOUT_SESSION_ID}"
CANCEL_URL = "http://localhost:1/cancelled"
NO_REDIRECTS: dict[str, Any] = {"automatic_payment_methods": {"enabled": True, "allow_redirects": "never"}}
TRANSFER = {
    "customer_balance": {
        "funding_type": "bank_transfer",
        "bank_transfer": {"type": "eu_bank_transfer", "eu_bank_transfer": {"country": "DE"}},
    }
}


async def customer(client: StripeClient, **values: Any) -> Customer:
    given: Any = {"name": "Ada", "email": "ada@example.eu", **values}
    return await client.v1.customers.create_async(given)


async def paid(client: StripeClient, amount: int = 1000, card: str = "pm_card_visa", **values: Any) -> PaymentIntent:
    """A payment intent, confirmed with a test card."""
    given: Any = {
        "amount": amount,
        "currency": "eur",
        "payment_method": card,
        "confirm": True,
        **NO_REDIRECTS,
        **values,
    }
    return await client.v1.payment_intents.create_async(given)


async def session(client: StripeClient, amount: int = 500, **values: Any) -> Session:
    line = {"price_data": {"currency": "eur", "unit_amount": amount, "product_data": {"name": "Top-up"}}, "quantity": 1}
    given: Any = {
        "mode": "payment",
        "line_items": [line],
        "success_url": SUCCESS_URL,
        "cancel_url": CANCEL_URL,
        **values,
    }
    return await client.v1.checkout.sessions.create_async(given)


async def setup_session(client: StripeClient, customer_id: str, *types: Any) -> Session:
    return await client.v1.checkout.sessions.create_async(
        {"mode": "setup", "customer": customer_id, "success_url": SUCCESS_URL, "allowed_payment_method_types": [*types]}
    )


def card(number: str) -> dict[str, str]:
    """What somebody types on the page."""
    return {"type": "card", "number": number, "expiry": "12/30", "cvc": "123", "card_name": "Ada"}


def account(iban: str) -> dict[str, str]:
    return {"type": "sepa_debit", "iban": iban, "account_name": "Ada", "email": "ada@example.eu"}


async def saved_account(stripe: LocalStripe, client: StripeClient, customer_id: str, iban: str) -> str:
    """A SEPA account that its holder has saved; the payment method's id."""
    page = await setup_session(client, customer_id, "sepa_debit")
    answer = await stripe.submit(str(page.url), **account(iban))
    assert answer.status_code == 303, answer.text
    methods = await client.v1.customers.payment_methods.list_async(customer_id, {"limit": 1})
    return methods.data[0].id


async def saved_card(client: StripeClient, customer_id: str, name: str = "pm_card_visa") -> str:
    method = await client.v1.payment_methods.attach_async(name, {"customer": customer_id})
    return method.id


async def invoice(client: StripeClient, customer_id: str, amount: int = 700, **values: Any) -> Any:
    """A draft with one item."""
    given: Any = {"customer": customer_id, "currency": "eur", **values}
    draft = await client.v1.invoices.create_async(given)
    await client.v1.invoice_items.create_async(
        {"customer": customer_id, "invoice": draft.id, "amount": amount, "currency": "eur", "description": "Usage"}
    )
    return draft


async def event_types(client: StripeClient, *kinds: str) -> list[str]:
    """Oldest first; of all events or of some types."""
    given: Any = {"limit": 100, **({"types": [*kinds]} if kinds else {})}
    found = await client.v1.events.list_async(given)
    return [event.type for event in reversed(found.data)]

"""Bank transfers: where to send money, the customer's cash balance, and what arrives."""

import hashlib
from typing import Final

from chappe_local.stripe_stand_in.errors import Json, invalid
from chappe_local.stripe_stand_in.listing import page
from chappe_local.stripe_stand_in.parameters import PAGE, Spec, amount, currency, fields, items, one_of, text
from chappe_local.stripe_stand_in.resources import charges
from chappe_local.stripe_stand_in.routing import Route
from chappe_local.stripe_stand_in.world import World, new_id

COUNTRIES: Final = ("BE", "DE", "ES", "FR", "IE", "NL")
"""Where the accounts are that are shown."""
_IBAN_DIGITS: Final = 18
BANK_TRANSFER: Final = fields(
    ("type",),
    type=one_of("eu_bank_transfer"),
    eu_bank_transfer=fields(("country",), country=one_of(*COUNTRIES)),
    requested_address_types=items(one_of("iban", "sepa")),
)


def instructions(world: World, params: Json, customer_id: str) -> Json:
    """The account that only this customer pays into; the same each time."""
    customer = world.get("customer", customer_id)
    if params["currency"] != "eur":
        raise invalid("Bank transfers here are in eur.", param="currency")
    country = (params["bank_transfer"].get("eu_bank_transfer") or {}).get("country", "DE")
    return {
        "object": "funding_instructions",
        "bank_transfer": {
            "country": country,
            "financial_addresses": [_address(customer, country)],
            "type": "eu_bank_transfer",
        },
        "currency": "eur",
        "funding_type": "bank_transfer",
        "livemode": False,
    }


def apply_or_wait(world: World, intent: Json, method: Json) -> Json:
    """Pay the intent out of the customer's cash balance, or say where to send what is missing."""
    customer = world.get("customer", intent["customer"]) if intent["customer"] else None
    if customer is None:
        raise invalid("A customer is needed to pay by bank transfer.", param="customer", code="parameter_missing")
    intent["_applied"] = intent.get("_applied", 0)
    available = _balance(customer, intent["currency"])
    taken = min(available, intent["amount"] - intent["_applied"])
    if taken:
        _move(world, customer, intent["currency"], -taken, applied_to_payment={"payment_intent": intent["id"]})
        intent["_applied"] += taken
    if intent["_applied"] == intent["amount"]:
        charge = charges.make(world, intent, method)
        world.save(charge)
        charges.succeed(world, charge)
        charges.finish(world, intent, charge)
        return intent
    was = intent["status"]
    intent |= {"status": "requires_action", "next_action": _where_to_send(world, intent, customer)}
    world.save(intent)
    if taken:
        world.announce("payment_intent.partially_funded", intent)
    elif was != "requires_action":
        world.announce("payment_intent.requires_action", intent)
    return intent


def arrive(world: World, customer_id: str, arrived: int, of_currency: str, reference: str | None) -> Json:
    """Money of a customer's has come. It pays what waits for it, the oldest first, and the rest is kept."""
    customer = world.get("customer", customer_id)
    funded = {
        "bank_transfer": {
            "eu_bank_transfer": {
                "bic": "BANKDEAAXXX",
                "iban_last4": "7089",
                "sender_name": customer["name"] or "Sender",
            },
            "reference": reference,
            "type": "eu_bank_transfer",
        }
    }
    transaction = _move(world, customer, of_currency, arrived, funded=funded)
    world.announce("cash_balance.funds_available", cash_balance_of(world.get("customer", customer_id)))
    waiting = world.store.select(
        "payment_intent", [("customer", "=", customer_id), ("status", "=", "requires_action")], oldest_first=True
    )
    for intent in waiting:
        method = world.optional("payment_method", intent["payment_method"])
        if method is not None and method["type"] == "customer_balance" and intent["currency"] == of_currency:
            apply_or_wait(world, intent, method)
    return transaction


def give_back(world: World, intent: Json) -> None:
    """What a canceled intent had taken is the customer's cash again."""
    if intent.get("_applied"):
        customer = world.get("customer", intent["customer"])
        details = {"payment_intent": intent["id"]}
        _move(world, customer, intent["currency"], intent["_applied"], unapplied_from_payment=details)
        intent["_applied"] = 0


def return_to_balance(world: World, intent: Json, returned: int, refund_id: str) -> None:
    """A refund of a transfer goes back to the customer's cash balance."""
    customer = world.get("customer", intent["customer"])
    _move(world, customer, intent["currency"], returned, refunded_from_payment={"refund": refund_id})


def cash_balance_of(customer: Json) -> Json:
    return {
        "object": "cash_balance",
        "available": customer.get("_cash") or None,
        "customer": customer["id"],
        "customer_account": None,
        "livemode": False,
        "settings": {"reconciliation_mode": "automatic", "using_merchant_default": True},
    }


def create_instructions(world: World, params: Json, customer_id: str) -> Json:
    return instructions(world, params, customer_id)


def retrieve(world: World, _params: Json, customer_id: str) -> Json:
    return cash_balance_of(world.get("customer", customer_id))


def list_transactions(world: World, params: Json, customer_id: str) -> Json:
    world.get("customer", customer_id)
    url = f"/v1/customers/{customer_id}/cash_balance_transactions"
    return page(world, "customer_cash_balance_transaction", url, params, {"customer": customer_id})


def retrieve_transaction(world: World, _params: Json, _customer_id: str, transaction_id: str) -> Json:
    return world.get("customer_cash_balance_transaction", transaction_id)


def fund(world: World, params: Json, customer_id: str) -> Json:
    """Stripe's own test helper for money that arrives."""
    return arrive(world, customer_id, params["amount"], params["currency"], params.get("reference"))


def _balance(customer: Json, of_currency: str) -> int:
    return int(customer.get("_cash", {}).get(of_currency, 0))


def _move(world: World, customer: Json, of_currency: str, net: int, **what: Json) -> Json:
    """`what` is the kind of movement and its details."""
    ((kind, details),) = what.items()
    balances = customer.setdefault("_cash", {})
    balances[of_currency] = balances.get(of_currency, 0) + net
    world.save(customer)
    transaction = world.save(
        {
            "id": new_id("ccsbtxn"),
            "object": "customer_cash_balance_transaction",
            "created": world.now,
            "currency": of_currency,
            "customer": customer["id"],
            "customer_account": None,
            "ending_balance": balances[of_currency],
            "livemode": False,
            "net_amount": net,
            "type": kind,
            kind: details,
        }
    )
    world.announce("customer_cash_balance_transaction.created", transaction)
    return transaction


def _where_to_send(world: World, intent: Json, customer: Json) -> Json:
    transfer = (intent["payment_method_options"].get("customer_balance") or {}).get("bank_transfer") or {}
    country = (transfer.get("eu_bank_transfer") or {}).get("country", "DE")
    return {
        "display_bank_transfer_instructions": {
            "amount_remaining": intent["amount"] - intent["_applied"],
            "currency": intent["currency"],
            "financial_addresses": [_address(customer, country)],
            "hosted_instructions_url": f"{world.public_url}/transfer/{intent['id']}/{intent['client_secret']}",
            "reference": reference_of(intent),
            "type": "eu_bank_transfer",
        },
        "type": "display_bank_transfer_instructions",
    }


def reference_of(intent: Json) -> str:
    """What the sender is asked to write."""
    return str(intent["id"])[-12:].upper()


def _address(customer: Json, country: str) -> Json:
    holder = {
        "city": "Dublin",
        "country": "IE",
        "line1": "1 Stand-in Street",
        "line2": None,
        "postal_code": "D01",
        "state": None,
    }
    iban = {
        "account_holder_address": holder,
        "account_holder_name": "Stand-in, no real account",
        "bank_address": holder,
        "bic": "BANKDEAAXXX",
        "country": country,
        "iban": _iban(customer["id"], country),
    }
    return {"iban": iban, "supported_networks": ["sepa"], "type": "iban"}


def _iban(customer_id: str, country: str) -> str:
    """With the right check digits, and of no bank."""
    number = int.from_bytes(hashlib.sha256(customer_id.encode()).digest()[:8]) % 10**_IBAN_DIGITS
    account = f"{number:0{_IBAN_DIGITS}}"
    letters = "".join(str(int(letter, 36)) for letter in country)
    return f"{country}{98 - int(f'{account}{letters}00') % 97:02}{account}"


_FUNDING: Final[dict[str, Spec]] = {
    "bank_transfer": BANK_TRANSFER,
    "currency": currency,
    "funding_type": one_of("bank_transfer"),
}
ROUTES: Final = (
    Route("POST", "/v1/customers/{id}/funding_instructions", create_instructions, _FUNDING, required=tuple(_FUNDING)),
    Route("GET", "/v1/customers/{id}/cash_balance", retrieve),
    Route("GET", "/v1/customers/{id}/cash_balance_transactions", list_transactions, PAGE),
    Route("GET", "/v1/customers/{id}/cash_balance_transactions/{transaction}", retrieve_transaction),
    Route(
        "POST",
        "/v1/test_helpers/customers/{id}/fund_cash_balance",
        fund,
        {"amount": amount, "currency": currency, "reference": text},
        required=("amount", "currency"),
    ),
)

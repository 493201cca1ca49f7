"""The account's money: balance transactions, and what they add up to."""

from typing import Final, Literal

from chappe_local.stripe_stand_in.errors import Json
from chappe_local.stripe_stand_in.listing import page
from chappe_local.stripe_stand_in.parameters import PAGE, created_range, name
from chappe_local.stripe_stand_in.routing import Route
from chappe_local.stripe_stand_in.world import World, new_id

_AVAILABLE_AFTER_S: Final = 2 * 86_400
_CARD_FEE_BP: Final = 150
_CARD_FEE_FIXED: Final = 25
_DEBIT_FEE: Final = 35
_TRANSFER_FEE_BP: Final = 50
_MOST_TRANSFER_FEE: Final = 500
DISPUTE_FEE: Final = 2000
"""Minor units, whoever wins."""

Kind = Literal[
    "charge", "payment", "refund", "payment_refund", "adjustment", "payment_failure_refund", "refund_failure"
]
_CATEGORIES: Final[dict[Kind, str]] = {
    "charge": "charge",
    "payment": "charge",
    "refund": "refund",
    "payment_refund": "refund",
    "adjustment": "dispute",
    "payment_failure_refund": "charge_failure",
    "refund_failure": "refund_failure",
}


def post(
    world: World, kind: Kind, amount: int, source: Json, *, fee: int = 0, category: str | None = None, about: str = ""
) -> Json:
    """A movement of the balance: `amount` and `fee` in minor units of the source's currency, out of it if negative."""
    fees = [
        {"amount": fee, "application": None, "currency": source["currency"], "description": "Fee", "type": "stripe_fee"}
    ]
    return world.save(
        {
            "id": new_id("txn"),
            "object": "balance_transaction",
            "amount": amount,
            "available_on": world.now + (_AVAILABLE_AFTER_S if amount > 0 else 0),
            "balance_type": "payments",
            "created": world.now,
            "currency": source["currency"],
            "description": about or source.get("description"),
            "exchange_rate": None,
            "fee": fee,
            "fee_details": fees if fee else [],
            "net": amount - fee,
            "reporting_category": category or _CATEGORIES[kind],
            "source": source["id"],
            "status": "pending" if amount > 0 else "available",
            "type": kind,
        }
    )


def fee_of(method_type: str, amount: int) -> int:
    """What is kept of a payment, in minor units: roughly the list price for European methods, rounded half up."""
    if method_type == "card":
        return _CARD_FEE_FIXED + (amount * _CARD_FEE_BP + 5000) // 10_000
    if method_type == "sepa_debit":
        return _DEBIT_FEE
    return min(_MOST_TRANSFER_FEE, (amount * _TRANSFER_FEE_BP + 5000) // 10_000)


def retrieve(world: World, _params: Json, transaction_id: str) -> Json:
    return _now_available(world, world.get("balance_transaction", transaction_id))


def list_all(world: World, params: Json) -> Json:
    filters = {field: params.get(field) for field in ("type", "source", "currency")}
    found = page(world, "balance_transaction", "/v1/balance_transactions", params, filters)
    return {**found, "data": [_now_available(world, one) for one in found["data"]]}


def balance(world: World, _params: Json) -> Json:
    sums: dict[str, dict[str, int]] = {"available": {}, "pending": {}}
    for one in world.store.select("balance_transaction"):
        part = sums[_now_available(world, one)["status"]]
        part[one["currency"]] = part.get(one["currency"], 0) + one["net"]
    parts = {
        name: [
            {"amount": amount, "currency": currency, "source_types": {"card": amount}}
            for currency, amount in sorted(part.items())
        ]
        for name, part in sums.items()
    }
    return {"object": "balance", "connect_reserved": [], "livemode": False, **parts}


def _now_available(world: World, one: Json) -> Json:
    return {**one, "status": "available" if one["available_on"] <= world.now else "pending"}


ROUTES: Final = (
    Route("GET", "/v1/balance", balance),
    Route(
        "GET",
        "/v1/balance_transactions",
        list_all,
        {**PAGE, "created": created_range, "currency": name, "source": name, "type": name},
    ),
    Route("GET", "/v1/balance_transactions/{id}", retrieve),
)

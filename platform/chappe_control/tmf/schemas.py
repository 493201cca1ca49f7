"""Resources of TMF635 v4: a usage, and the specifications that usages are of.

Attributes are named and nested as there. Amounts stand in `taxExcludedRatingAmount` as JSON numbers, as there, and once
more as exact decimal strings among the characteristics: many a JSON library reads numbers as floats.
"""

from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct, field

from chappe_billing.feed.listing import Placed
from chappe_billing.feed.records import MoneyRecord, UsageRecord

BASE_PATH = "/tmf-api/usageManagement/v4"
INFERENCE = "inference"
MOVEMENT = "accountMovement"
_INTEGERS = {"prompt_tokens", "cached_tokens", "completion_tokens", "seconds", "images"}
_SAID_ELSEWHERE = {"kind", "id", "tenant_id", "posted_at"}

encoder = msgspec.json.Encoder(decimal_format="number")
"""Amounts as numbers with all their digits."""


class Money(Struct, frozen=True):
    unit: Annotated[str, Meta(description="The currency.")]
    value: Decimal


class RatedProductUsage(Struct, frozen=True):
    ratingDate: datetime  # noqa: N815 -- TMF's name
    ratingAmountType: str  # noqa: N815 -- TMF's name
    taxExcludedRatingAmount: Money  # noqa: N815 -- TMF's name


class RelatedParty(Struct, frozen=True):
    id: Annotated[str, Meta(pattern="^ten_")]
    role: str
    referred_type: str = field(name="@referredType")


class UsageCharacteristic(Struct, frozen=True):
    name: str
    value: Any
    valueType: str  # noqa: N815 -- TMF's name


class UsageSpecificationRef(Struct, frozen=True):
    id: str
    href: str
    name: str


class Usage(Struct, frozen=True):
    id: str
    href: str
    usageDate: Annotated[  # noqa: N815 -- TMF's name
        datetime, Meta(description="When it was posted to the ledger: this decides its month.")
    ]
    usageType: Annotated[str, Meta(description="The ledger transaction's kind.")]  # noqa: N815 -- TMF's name
    status: str
    usageSpecification: UsageSpecificationRef  # noqa: N815 -- TMF's name
    usageCharacteristic: list[UsageCharacteristic]  # noqa: N815 -- TMF's name
    relatedParty: list[RelatedParty]  # noqa: N815 -- TMF's name
    ratedProductUsage: list[RatedProductUsage]  # noqa: N815 -- TMF's name
    type: str = field(name="@type", default="Usage")


class UsageSpecCharacteristic(Struct, frozen=True):
    name: str
    valueType: str  # noqa: N815 -- TMF's name
    description: str


class UsageSpecification(Struct, frozen=True):
    id: str
    href: str
    name: str
    description: str
    lifecycleStatus: str  # noqa: N815 -- TMF's name
    version: str
    usageSpecCharacteristic: list[UsageSpecCharacteristic]  # noqa: N815 -- TMF's name
    type: str = field(name="@type", default="UsageSpecification")


def show_usage(placed: Placed) -> Usage:
    record = placed.record
    specification = SPECIFICATIONS[INFERENCE if isinstance(record, UsageRecord) else MOVEMENT]
    amount = Money(record.currency, Decimal(record.amount))
    return Usage(
        id=record.id,
        href=f"{BASE_PATH}/usage/{record.id}",
        usageDate=record.posted_at,
        usageType=record.kind,
        status="rated",
        usageSpecification=UsageSpecificationRef(specification.id, specification.href, specification.name),
        usageCharacteristic=_characteristics(placed),
        relatedParty=[RelatedParty(record.tenant_id, "customer", "Organization")],
        ratedProductUsage=[RatedProductUsage(record.posted_at, "Total", amount)],
    )


def _characteristics(placed: Placed) -> list[UsageCharacteristic]:
    """All that the record says and TMF has no attribute for, and the number of its batch."""
    said = msgspec.to_builtins(placed.record)
    found = [
        UsageCharacteristic(name, value, "integer" if name in _INTEGERS else "string")
        for name, value in said.items()
        if name not in _SAID_ELSEWHERE and value is not None
    ]
    return [UsageCharacteristic("batch", placed.sequence, "integer"), *found]


_TEXTS = {
    "batch": "The number of the batch that it is in.",
    "transaction_id": "The ledger transaction that charged it; none when it was free of charge.",
    "project_id": "The project whose key it was.",
    "key_id": "The API key.",
    "region": "Where it ran.",
    "model": "The listing that was called.",
    "price_version": "The price under which it was admitted.",
    "outcome": "completed, disconnected or failed.",
    "prompt_tokens": "Tokens of the prompt, cached ones included.",
    "cached_tokens": "The part of them that was not computed again.",
    "completion_tokens": "Tokens of the answer.",
    "seconds": "Seconds of sound or computing, where the model is sold by them.",
    "images": "Images, where the model is sold by them.",
    "rated": "What the price version makes of it, as a decimal string.",
    "written_off": "The part of that which nobody pays.",
    "amount": "What the tenant owes for it, as a decimal string; what it is given is negative.",
    "currency": "Of all amounts.",
    "started_at": "When the gateway admitted it, by the gateway's clock.",
    "finished_at": "When it ended, by the gateway's clock.",
    "repeats": "The request with the same Idempotency-Key that was charged in its place.",
    "corrects": "The request whose charge is corrected.",
}


def _specification(name: str, description: str, record: type[Struct]) -> UsageSpecification:
    names = ["batch", *(each for each in record.__struct_fields__ if each not in _SAID_ELSEWHERE)]
    return UsageSpecification(
        id=name,
        href=f"{BASE_PATH}/usageSpecification/{name}",
        name=name,
        description=description,
        lifecycleStatus="active",
        version="1",
        usageSpecCharacteristic=[
            UsageSpecCharacteristic(each, "integer" if each in _INTEGERS or each == "batch" else "string", _TEXTS[each])
            for each in names
        ],
    )


SPECIFICATIONS = {
    INFERENCE: _specification(INFERENCE, "A request to a model, rated.", UsageRecord),
    MOVEMENT: _specification(
        MOVEMENT,
        "Any other movement of a tenant's money: corrections, fees, discounts, credits, payments.",
        MoneyRecord,
    ),
}

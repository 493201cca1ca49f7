"""Charges as rows of FOCUS 1.2 (FinOps Open Cost and Usage Specification). Pure.

A row for each component of the price (input, cached input, output, seconds, images, requests), hour, key, model, region
and price version; one for what of it was written off; one for each correction, discount and fee. The sum of
`BilledCost` is what the ledger charged, to the nano. `docs/exports.md` says what every column holds.
"""

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from msgspec import Struct

from chappe_billing.exporting import csv_text
from chappe_billing.exporting.queries import Account
from chappe_kernel.ids import KEY, LEDGER_TRANSACTION, PROJECT, TENANT, encode_id
from chappe_kernel.money import format_nano

COLUMNS = (
    *("BilledCost", "BillingAccountId", "BillingAccountName", "BillingAccountType", "BillingCurrency"),
    *("BillingPeriodEnd", "BillingPeriodStart", "ChargeCategory", "ChargeClass", "ChargeDescription"),
    *("ChargeFrequency", "ChargePeriodEnd", "ChargePeriodStart", "ConsumedQuantity", "ConsumedUnit", "ContractedCost"),
    *("ContractedUnitPrice", "EffectiveCost", "InvoiceId", "InvoiceIssuerName", "ListCost", "ListUnitPrice"),
    *("PricingCategory", "PricingQuantity", "PricingUnit", "ProviderName", "PublisherName", "RegionId", "RegionName"),
    *("ResourceId", "ResourceName", "ResourceType", "ServiceCategory", "ServiceName", "ServiceSubcategory", "SkuId"),
    *("SkuMeter", "SkuPriceId", "SubAccountId", "SubAccountName", "SubAccountType"),
)
_SUBCATEGORIES = {"chat": "Generative AI", "embeddings": "Machine Learning"}
_HOUR = timedelta(hours=1)

OTHER_CHARGES = {
    "usage": ("Credit", "Usage"),
    "usage_correction": ("Credit", "Correction of usage in the tenant's favour"),
    "volume_discount": ("Credit", "Discount for the month's volume"),
    "minimum_fee": ("Adjustment", "What the month lacked to the agreed minimum"),
    "commitment_fee": ("Adjustment", "What the commitment's period lacked"),
}
"""Ledger transactions that are charges and no request's, with their category and description; `usage` where it is taken
back. Payments and gifts are none: they pay charges."""


class _Meter(Struct, frozen=True):
    name: str
    unit: str
    quantity: int
    unit_nano: int

    @property
    def cost_nano(self) -> int:
        return self.quantity * self.unit_nano


def header() -> bytes:
    return csv_text.lines_of([COLUMNS])


def lines_of(rows: Iterable[dict[str, Any]]) -> bytes:
    return csv_text.lines_of([row.get(name) for name in COLUMNS] for row in rows)


def rows_of_group(account: Account, hour: datetime, group: Any) -> Iterator[dict[str, Any]]:
    """What a group's requests cost, meter by meter, and what of it nobody pays. Sums to what the tenant paid."""
    common = _common(account, hour, hour + _HOUR, group.currency) | _place(group)
    for meter in _meters(group):
        if meter.quantity:
            yield common | _usage(group, meter)
    if group.written_off_nano:
        cost = format_nano(-group.written_off_nano)
        text = f"Written off: {group.model} in {group.region}"
        yield common | _flat(cost) | {"ChargeCategory": "Credit", "ChargeDescription": text}


def row_of_charge(account: Account, charge: Any) -> dict[str, Any]:
    """Of a ledger transaction in `OTHER_CHARGES`, or one that takes such a transaction back."""
    hour = charge.posted_at.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
    category, text = OTHER_CHARGES[charge.about]
    earlier = charge.about_at is not None and _month(charge.about_at) < _month(charge.posted_at)
    reversed_ = "Taken back: " if charge.kind == "reversal" else ""
    return (
        _common(account, hour, hour + _HOUR, charge.currency)
        | _flat(format_nano(charge.amount_nano))
        | {
            "ChargeCategory": category,
            "ChargeClass": "Correction" if earlier else None,
            "InvoiceId": charge.invoice,
            "ChargeDescription": f"{reversed_}{text} ({encode_id(LEDGER_TRANSACTION, charge.id)})",
            "PublisherName": account.seller,
            "ServiceCategory": "AI and Machine Learning",
            "ServiceName": "Inference",
            "ServiceSubcategory": "Other (AI and Machine Learning)",
        }
    )


def _meters(group: Any) -> Sequence[_Meter]:
    known = (
        _Meter("Input tokens", "Tokens", group.input_tokens, group.input_nano_per_token),
        _Meter("Cached input tokens", "Tokens", group.cached_tokens, group.cached_input_nano_per_token),
        _Meter("Output tokens", "Tokens", group.output_tokens, group.output_nano_per_token),
        _Meter("Seconds", "Seconds", group.seconds, group.second_nano),
        _Meter("Images", "Images", group.images, group.image_nano),
        _Meter("Requests", "Requests", group.requests if group.request_nano else 0, group.request_nano),
    )
    # Whatever else a price has: the rows always sum to what was charged.
    rest_nano = group.amount_nano - sum(meter.cost_nano for meter in known)
    return (*known, _Meter("Other", "Charges", 1, rest_nano)) if rest_nano else known


def _common(account: Account, start: datetime, end: datetime, currency: str) -> dict[str, Any]:
    month = _month(start)
    return {
        "BillingAccountId": encode_id(TENANT, account.tenant_id),
        "BillingAccountName": csv_text.defused(account.name),
        "BillingAccountType": "Organisation",
        "BillingCurrency": currency,
        "BillingPeriodStart": _time(month),
        "BillingPeriodEnd": _time(_month(month + timedelta(days=31))),
        "ChargePeriodStart": _time(start),
        "ChargePeriodEnd": _time(end),
        "InvoiceIssuerName": csv_text.defused(account.seller),
        "ProviderName": csv_text.defused(account.seller),
        "ChargeFrequency": "One-Time",
    }


def _place(group: Any) -> dict[str, Any]:
    return {
        "InvoiceId": group.invoice,
        "PublisherName": csv_text.defused(group.publisher),
        "RegionId": group.region,
        "RegionName": group.region,
        "ResourceId": encode_id(KEY, group.key_id),
        "ResourceName": None if group.key is None else csv_text.defused(group.key),
        "ResourceType": "API key",
        "ServiceCategory": "AI and Machine Learning",
        "ServiceName": group.model,
        "ServiceSubcategory": _SUBCATEGORIES.get(group.task, "Other (AI and Machine Learning)"),
        "SubAccountId": encode_id(PROJECT, group.project_id),
        "SubAccountName": None if group.project is None else csv_text.defused(group.project),
        "SubAccountType": "Project",
    }


def _usage(group: Any, meter: _Meter) -> dict[str, Any]:
    cost, price = format_nano(meter.cost_nano), format_nano(meter.unit_nano)
    sku = f"{group.model}/{meter.name.lower().replace(' ', '-')}"
    return {
        "BilledCost": cost,
        "EffectiveCost": cost,
        "ContractedCost": cost,
        "ListCost": cost,
        "ContractedUnitPrice": price,
        "ListUnitPrice": price,
        "ChargeCategory": "Usage",
        "ChargeDescription": f"{meter.name} of {group.model} in {group.region}",
        "ChargeFrequency": "Usage-Based",
        "ConsumedQuantity": meter.quantity,
        "ConsumedUnit": meter.unit,
        "PricingCategory": "Standard",
        "PricingQuantity": meter.quantity,
        "PricingUnit": meter.unit,
        "SkuId": sku,
        "SkuMeter": meter.name,
        "SkuPriceId": f"{sku}/{group.region}",
    }


def _flat(cost: str) -> dict[str, Any]:
    """A charge that no quantity makes."""
    return {"BilledCost": cost, "EffectiveCost": cost, "ContractedCost": cost, "ListCost": cost}


def _month(at: datetime) -> datetime:
    return at.astimezone(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)


def _time(at: datetime) -> str:
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")

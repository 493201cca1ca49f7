"""Exports have everything once, add up to what the ledger charged, and run nothing in anybody's spreadsheet."""

import csv
import io
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import partial
from typing import Any

import pytest
from sqlalchemy import text

from chappe_billing.discrepancies.queries import list_discrepancies
from chappe_billing.discrepancies.service import resolve_discrepancy
from chappe_billing.exporting import csv_text, focus, service
from chappe_billing.exporting.service import Format, Period, export, export_all, make_period
from chappe_kernel.errors import Invalid
from chappe_kernel.ids import REQUEST, TENANT, encode_id
from chappe_kernel.rating import Counts, Outcome
from tests.billing.conftest import Customer, MakeCustomer, Market

# What the specification calls mandatory, and what is conditional and holds here.
MANDATORY = {
    *("BilledCost", "BillingAccountId", "BillingAccountName", "BillingCurrency", "BillingPeriodEnd"),
    *("BillingPeriodStart", "ChargeCategory", "ChargeClass", "ChargeDescription", "ChargePeriodEnd"),
    *("ChargePeriodStart", "ContractedCost", "EffectiveCost", "InvoiceIssuerName", "ListCost", "PricingQuantity"),
    *("PricingUnit", "ProviderName", "PublisherName", "ServiceCategory", "ServiceName"),
}
NEVER_EMPTY = MANDATORY - {"ChargeClass", "PricingQuantity", "PricingUnit"}
OF_USAGE = {
    *("ConsumedQuantity", "ConsumedUnit", "ContractedUnitPrice", "ListUnitPrice", "PricingCategory"),
    *("PricingQuantity", "PricingUnit", "RegionId", "ResourceId", "SkuId", "SkuMeter", "SkuPriceId", "SubAccountId"),
}


def everything() -> Period:
    now = datetime.now(UTC)
    return Period(now - timedelta(days=2), now + timedelta(days=1))


async def joined(pieces: AsyncIterator[bytes]) -> str:
    return b"".join([piece async for piece in pieces]).decode()


async def exported(market: Market, customer: Customer, kind: Format, period: Period | None = None) -> str:
    opens = partial(market.database.tenant_snapshot, customer.scope)
    return await joined(export(opens, customer.scope, kind, period or everything()))


def rows_of(content: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(content)))


async def use(market: Market, customer: Customer, *counts: Counts) -> list[str]:
    grant = await market.ask(customer, 1_000_000_000)
    events = [market.event(customer, grant.grant_id, counts=each) for each in counts]
    await market.ingest(*events)
    return [encode_id(REQUEST, event.request_id) for event in events]


async def charged(market: Market, customer: Customer) -> Decimal:
    return Decimal(10_000_000_000 - (await market.balance(customer)).available_nano) / 10**9


async def test_every_request_comes_once_whatever_the_page(
    market: Market, customer: Customer, make_customer: MakeCustomer, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = await make_customer()
    used = [*await use(market, customer, *[Counts(n, 0, 1) for n in range(1, 8)])]
    await use(market, other, Counts(5, 0, 5))
    used += await use(market, customer, Counts(9, 9, 9), Counts(1, 0, 0))
    monkeypatch.setattr(service, "_PAGE", 2)
    for kind in (Format.CSV, Format.JSON_LINES):
        content = await exported(market, customer, kind)
        rows = rows_of(content) if kind is Format.CSV else [json.loads(line) for line in content.splitlines()]
        assert [row["request_id"] for row in rows] == used
        assert sum(Decimal(row["amount"]) for row in rows) == await charged(market, customer)
        assert {row["tenant_id"] for row in rows} == {encode_id(TENANT, customer.tenant_id)}


async def test_the_operator_gets_every_tenants(
    market: Market, customer: Customer, make_customer: MakeCustomer, monkeypatch: pytest.MonkeyPatch
) -> None:
    others = [await make_customer() for _ in range(2)]
    used = []
    for each in (customer, *others):
        used += await use(market, each, Counts(5, 0, 5), Counts(6, 0, 6))
    monkeypatch.setattr(service, "_PAGE", 1)
    rows = rows_of(await joined(export_all(market.database, Format.CSV, everything())))
    assert sorted(row["request_id"] for row in rows) == sorted(used)


async def test_a_period_takes_what_was_posted_in_it(market: Market, customer: Customer) -> None:
    await use(market, customer, Counts(5, 0, 5))
    split = datetime.now(UTC)
    (late,) = await use(market, customer, Counts(6, 0, 6))
    periods = Period(split - timedelta(hours=1), split), Period(split, split + timedelta(hours=1))
    before, after = [rows_of(await exported(market, customer, Format.CSV, period)) for period in periods]
    assert len(before) == 1
    assert [row["request_id"] for row in after] == [late]
    sums = [_billed(await exported(market, customer, Format.FOCUS, period)) for period in periods]
    assert sum(sums) == await charged(market, customer)
    assert all(sums)


async def test_names_that_look_like_formulas_are_defused(market: Market, customer: Customer) -> None:
    async with market.database.operator() as session:
        await session.execute(text('UPDATE project SET name = \'=HYPERLINK("http://x";"y")\''))
        await session.execute(text("UPDATE tenant SET name = '@SUM(1+1)*cmd|'' /C calc''!A0'"))
    await use(market, customer, Counts(5, 0, 5))
    (row,) = rows_of(await exported(market, customer, Format.CSV))
    assert row["project"] == '\'=HYPERLINK("http://x";"y")'
    for charge in rows_of(await exported(market, customer, Format.FOCUS)):
        assert not [value for value in charge.values() if value.startswith(("=", "+", "@", "\t", "\r"))]
        assert charge["BillingAccountName"].startswith("'@SUM")


@pytest.mark.parametrize("text_", ["=1", "+1", "-1", "@x", "\tx", "\rx"])
def test_a_cell_of_somebody_elses_never_begins_like_a_formula(text_: str) -> None:
    assert csv_text.defused(text_) == f"'{text_}"
    assert csv_text.defused(f"a{text_}") == f"a{text_}"


def test_focus_has_every_mandatory_column_once() -> None:
    assert len(set(focus.COLUMNS)) == len(focus.COLUMNS)
    assert set(focus.COLUMNS) >= MANDATORY


async def test_focus_adds_up_to_what_the_ledger_charged(
    market: Market, customer: Customer, make_customer: MakeCustomer
) -> None:
    await use(market, customer, Counts(100, 20, 30), Counts(7, 7, 1), Counts(3, 0, 2))
    await _correct(market, customer)
    poor = await make_customer(5_000)
    await market.ingest(market.event(poor, poor.key_id))
    assert _billed(await exported(market, customer, Format.FOCUS)) == await charged(market, customer)
    rows = rows_of(await exported(market, poor, Format.FOCUS))
    assert sum(Decimal(row["BilledCost"]) for row in rows) == Decimal("0.000005")
    (written_off,) = [row for row in rows if row["ChargeCategory"] == "Credit"]
    assert Decimal(written_off["BilledCost"]) < 0


async def test_focus_rows_keep_the_specifications_rules(market: Market, customer: Customer) -> None:
    await use(market, customer, Counts(100, 20, 30), Counts(7, 7, 1))
    await _correct(market, customer)
    rows = rows_of(await exported(market, customer, Format.FOCUS))
    assert {row["SkuMeter"] for row in rows} == {"Input tokens", "Cached input tokens", "Output tokens", "Requests", ""}
    for row in rows:
        assert not [name for name in NEVER_EMPTY if not row[name]]
        assert row["ChargeCategory"] in {"Usage", "Purchase", "Tax", "Credit", "Adjustment"}
        for name in ("BillingPeriodStart", "BillingPeriodEnd", "ChargePeriodStart", "ChargePeriodEnd"):
            assert f"{datetime.fromisoformat(row[name]):%Y-%m-%dT%H:%M:%SZ}" == row[name]
        assert row["BillingPeriodStart"] <= row["ChargePeriodStart"] < row["ChargePeriodEnd"] <= row["BillingPeriodEnd"]
        if row["ChargeCategory"] == "Usage":
            assert not [name for name in OF_USAGE if not row[name]]
            quantity = Decimal(row["PricingQuantity"])
            assert quantity * Decimal(row["ContractedUnitPrice"]) == Decimal(row["ContractedCost"])
            assert quantity * Decimal(row["ListUnitPrice"]) == Decimal(row["ListCost"])
        else:
            assert row["ContractedCost"] == row["BilledCost"] and not row["PricingQuantity"]


def test_a_period_needs_zones_and_an_end_after_its_beginning() -> None:
    now = datetime(2026, 11, 22, 12, tzinfo=UTC)
    assert make_period(None, None, now) == Period(datetime(2026, 11, 1, tzinfo=UTC), now)
    for since, until in (
        (now, now - timedelta(days=1)),
        (now - timedelta(days=401), now),
        (now.replace(tzinfo=None), now),
        (datetime.max.replace(tzinfo=UTC), now),
    ):
        with pytest.raises(Invalid):
            make_period(since, until, now)


def _billed(content: str) -> Decimal:
    return sum((Decimal(row["BilledCost"]) for row in rows_of(content)), Decimal())


async def _correct(market: Market, customer: Customer) -> None:
    grant = await market.ask(customer, 1_000_000)
    changes: dict[str, Any] = {"outcome": Outcome.DISCONNECTED}
    first = market.event(customer, grant.grant_id, counts=Counts(100, 0, 30), **changes)
    await market.ingest(first)
    changes |= {"request_id": first.request_id}
    await market.ingest(market.event(customer, grant.grant_id, counts=Counts(100, 0, 10), **changes))
    async with market.database.operator() as session:
        (found,) = await list_discrepancies(session, resolved=False, limit=10)
        await resolve_discrepancy(session, found.id, reason="the engine made less", correct=True)

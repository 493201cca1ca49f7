"""Everything that must hold of the money in a database, recomputed row by row in Python, and with it `ledger verify`.

It shares nothing with the code that posts, and nothing with the SQL of `ledger verify`.
"""

from collections import Counter, defaultdict
from fractions import Fraction
from typing import Any
from uuid import UUID

import asyncpg

from chappe_billing.audit.service import verify_ledger
from chappe_store.session import Database

Row = Any
NANO = Fraction(1, 10**9)

_ROLLED_UP = ("prompt_tokens", "cached_tokens", "completion_tokens", "amount_nano", "written_off_nano")


async def assert_whole(connection: "asyncpg.Connection[Any]", database: Database) -> None:
    """Raises `AssertionError`. `connection` is the superuser's, at rest."""
    rows = {
        table: await connection.fetch(f"SELECT * FROM {table}")
        for table in (
            "budget",
            "budget_grant",
            "ledger_account",
            "ledger_transaction",
            "ledger_entry",
            "price_version",
            "usage_event",
            "usage_hour",
            "usage_discrepancy",
        )
    }
    _assert_balanced(rows)
    _assert_budgets(rows)
    _assert_events_are_posted(rows)
    _assert_events_are_rated(rows)
    _assert_hours(rows)
    told = {row["id"] for row in await connection.fetch("SELECT id FROM outbox")}
    untold = [row for row in rows["ledger_transaction"] if row["id"] not in told]
    assert untold == [], "each transaction has a message to the outside world, under its own id"
    async with database.audit() as session:
        assert await verify_ledger(session) is None


def _assert_balanced(rows: dict[str, list[Row]]) -> None:
    """The entries of a transaction sum to zero; none is without its transaction, and no transaction without entries."""
    sums: dict[UUID, int] = defaultdict(int)
    lines: Counter[UUID] = Counter()
    for entry in rows["ledger_entry"]:
        sums[entry["transaction_id"]] += entry["amount_nano"]
        lines[entry["transaction_id"]] += 1
    assert not [key for key, total in sums.items() if total]
    assert set(lines) == {transaction["id"] for transaction in rows["ledger_transaction"]}
    assert all(count >= 2 for count in lines.values())


def _assert_budgets(rows: dict[str, list[Row]]) -> None:
    """A balance is the sum of its entries; what is posted, of its events; what is pending, of its open grants."""
    owner = {
        account["id"]: account["tenant_id"] for account in rows["ledger_account"] if account["kind"] == "tenant_funds"
    }
    balances, paid, open_rest, written_off = (defaultdict[UUID, int](int) for _ in range(4))
    for entry in rows["ledger_entry"]:
        if entry["account_id"] in owner:
            balances[owner[entry["account_id"]]] += entry["amount_nano"]
    for event in rows["usage_event"]:
        paid[event["tenant_id"]] += event["amount_nano"] - event["written_off_nano"]
        written_off[event["tenant_id"]] += event["written_off_nano"]
    for grant in rows["budget_grant"]:
        if grant["released_at"] is None:
            open_rest[grant["tenant_id"]] += grant["amount_nano"] - grant["returned_nano"] - grant["posted_nano"]
    for budget in rows["budget"]:
        tenant_id = budget["tenant_id"]
        assert budget["funds_nano"] - budget["posted_nano"] == balances[tenant_id]
        assert budget["posted_nano"] == paid[tenant_id] >= 0
        assert budget["pending_nano"] == open_rest[tenant_id] >= 0
    is_usage = {row["id"] for row in rows["ledger_transaction"] if row["kind"] == "usage"}
    losses = {account["id"] for account in rows["ledger_account"] if account["kind"] == "write_off"}
    lost = sum(
        entry["amount_nano"]
        for entry in rows["ledger_entry"]
        if entry["transaction_id"] in is_usage and entry["account_id"] in losses
    )
    assert -lost == sum(written_off.values())


def _assert_events_are_posted(rows: dict[str, list[Row]]) -> None:
    """Each event once, in a transaction of its tenant's whose entries are the sums of its events."""
    events = rows["usage_event"]
    assert len({event["request_id"] for event in events}) == len(events)
    tenants = {row["id"]: row["tenant_id"] for row in rows["ledger_transaction"] if row["kind"] == "usage"}
    charged: dict[UUID, int] = defaultdict(int)
    for event in events:
        assert 0 <= event["written_off_nano"] <= event["amount_nano"] - event["granted_nano"]
        assert event["amount_nano"] <= event["hold_nano"]
        if event["amount_nano"]:
            assert tenants[event["transaction_id"]] == event["tenant_id"]
            charged[event["transaction_id"]] += event["amount_nano"] - event["written_off_nano"]
    funds = {account["id"] for account in rows["ledger_account"] if account["kind"] == "tenant_funds"}
    debited: dict[UUID, int] = defaultdict(int)
    for entry in rows["ledger_entry"]:
        if entry["transaction_id"] in tenants and entry["account_id"] in funds:
            debited[entry["transaction_id"]] -= entry["amount_nano"]
    for transaction_id in tenants:
        assert debited[transaction_id] == charged[transaction_id]


def _assert_events_are_rated(rows: dict[str, list[Row]]) -> None:
    """Re-rating an old event gives the same amount."""
    prices = {price["id"]: price for price in rows["price_version"]}
    for event in rows["usage_event"]:
        assert rated(prices[event["price_version_id"]], event) == event["amount_nano"] * NANO


def rated(price: Row, event: Row) -> Fraction:
    """What an event costs in units of currency, as an accountant would reckon it."""
    prompt, cached, made = (Fraction(event[f"{name}_tokens"]) for name in ("prompt", "cached", "completion"))
    is_free = prompt == made == 0 or (event["outcome"] == "failed" and made == 0)
    per_token = {name: price[f"{name}_nano_per_token"] * NANO for name in ("input", "cached_input", "output")}
    total = prompt * per_token["input"] - cached * (per_token["input"] - per_token["cached_input"])
    return Fraction(0) if is_free else total + made * per_token["output"] + price["request_nano"] * NANO


def _assert_hours(rows: dict[str, list[Row]]) -> None:
    """An hour's rollup is the sum of the events posted in it, by the database's clock."""
    wanted: Counter[tuple[Any, ...]] = Counter()
    for event in rows["usage_event"]:
        hour = event["posted_at"].replace(minute=0, second=0, microsecond=0)
        key = (event["tenant_id"], hour, event["project_id"], event["key_id"], event["listing_id"], event["region"])
        wanted[*key, "requests"] += 1
        for name in _ROLLED_UP:
            wanted[*key, name] += event[name]
    found: Counter[tuple[Any, ...]] = Counter()
    for row in rows["usage_hour"]:
        key = (row["tenant_id"], row["hour"], row["project_id"], row["key_id"], row["listing_id"], row["region"])
        for name in ("requests", *_ROLLED_UP):
            found[*key, name] += row[name]
    assert +found == +wanted

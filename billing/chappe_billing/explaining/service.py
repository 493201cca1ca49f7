"""What a request cost and why, told in lines; and whether every row still says so."""

from collections.abc import Iterator
from typing import Any

from msgspec import Struct
from sqlalchemy.ext.asyncio import AsyncSession

from chappe_billing.explaining.queries import Row, read_rows
from chappe_kernel.errors import NotFound
from chappe_kernel.ids import REQUEST, RequestId, encode_id
from chappe_kernel.money import format_nano
from chappe_kernel.rating import ChargeLine, Counts, Outcome, Price, breakdown


class Explanation(Struct, frozen=True):
    """`lines` are how the price came about, and sum to the event's amount if the price book still rates it so; without
    an event there are none. `rows` are all that the request touched."""

    request_id: RequestId
    rows: list[Row]
    lines: tuple[ChargeLine, ...]

    def row(self, table: str) -> dict[str, Any] | None:
        """The first of a table."""
        return next((row.columns for row in self.rows if row.table == table), None)

    @property
    def rated_nano(self) -> int:
        """What the price book says today of the event's counts."""
        return sum(line.amount_nano for line in self.lines)


async def explain(session: AsyncSession, request_id: RequestId) -> Explanation:
    """In a read-only snapshot (`audit`). Raises `NotFound` for a request of which nothing has arrived here."""
    rows = await read_rows(session, request_id)
    if not rows:
        text = "nothing is known of it: its event may be in a gateway's spool yet, or it was refused and never charged"
        raise NotFound(f"{encode_id(REQUEST, request_id)}: {text}", code="request_unknown")
    return Explanation(request_id, rows, _lines(rows))


def tell(found: Explanation) -> Iterator[str]:
    """Lines for a reader. Amounts are in the currency's unit, exact to the nano."""
    event = found.row("usage_event")
    yield encode_id(REQUEST, found.request_id)
    if event is None:
        yield "  not posted: see its rows in quarantine"
        return
    tenant, key, listing = (found.row(table) or {} for table in ("tenant", "api_key", "listing"))
    currency = tenant.get("currency", "")
    yield f"  {tenant.get('name')}, key {key.get('name')} ({key.get('prefix')}…), {listing.get('name')}"
    yield f"  {event['outcome']} in {event['region']} by {event['gateway']}, settled by the {event['settled_by']}"
    yield f"  from {event['started_at']} to {event['finished_at']}, posted at {event['posted_at']}"
    yield "price"
    for line in found.lines:
        product = f"{line.quantity} x {line.unit_nano} nano"
        yield f"  {line.component:<14}{product:>24}{format_nano(line.amount_nano):>20} {currency}"
    amount, lost = event["amount_nano"], event["written_off_nano"]
    yield _sum("amount", amount, currency)
    if found.rated_nano != amount:
        yield f"  DIFFERENT: the price book rates it {format_nano(found.rated_nano)} {currency}"
    yield _sum("from its grant", event["granted_nano"], currency)
    yield _sum("written off", lost, currency)
    yield _sum("paid", amount - lost, currency)
    yield "ledger"
    for entry in (row.columns for row in found.rows if row.table == "ledger_entry"):
        account = " ".join(filter(None, (entry["account"], entry["account_region"])))
        yield _sum(account, entry["amount_nano"], entry["currency"])
    if event["transaction_id"] is None:
        yield "  no transaction: it was free of charge"
    else:
        yield f"  transaction {event['transaction_id']}: all of the tenant's events in one batch, this one among them"


def _lines(rows: list[Row]) -> tuple[ChargeLine, ...]:
    of_table = {row.table: row.columns for row in rows}
    event, price = of_table.get("usage_event"), of_table.get("price_version")
    if event is None or price is None:
        return ()
    return breakdown(
        Price(**{name: price[name] for name in Price.__struct_fields__}),
        Outcome(event["outcome"]),
        Counts(**{name: event[name] for name in Counts.__struct_fields__}),
    )


def _sum(name: str, amount_nano: int, currency: str) -> str:
    return f"  {name:<38}{format_nano(amount_nano):>20} {currency}"

"""What a transaction moved, what it takes back and what took it back: told in lines, beside the rows."""

from collections.abc import Iterator, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from chappe_billing.explaining.queries import Row, read_linked_rows
from chappe_kernel.errors import NotFound
from chappe_kernel.ids import LEDGER_TRANSACTION, TENANT, LedgerTransactionId, encode_id
from chappe_kernel.money import format_nano


async def read_transaction(session: AsyncSession, transaction_id: LedgerTransactionId) -> list[Row]:
    """All rows of it and of what it is linked with. In a read-only snapshot (`audit`). Raises `NotFound`."""
    rows = await read_linked_rows(session, transaction_id)
    if not rows:
        named = encode_id(LEDGER_TRANSACTION, transaction_id)
        raise NotFound(f"{named}: no books have such a transaction", code="transaction_unknown")
    return rows


def tell_transactions(rows: Sequence[Row]) -> Iterator[str]:
    """Oldest first. Amounts are in the currency's unit, exact to the nano; a credit is positive."""
    entries = [row.columns for row in rows if row.table == "ledger_entry"]
    for transaction in (row.columns for row in rows if row.table == "ledger_transaction"):
        yield _head(transaction)
        said = {"takes back": _named(transaction["reverses"])} | {
            name: transaction[name] for name in ("reference", "reason", "rail")
        }
        yield from (f"  {name} {value}" for name, value in said.items() if value is not None)
        for entry in entries:
            if entry["transaction_id"] == transaction["id"]:
                account = " ".join(filter(None, (entry["account"], entry["account_region"])))
                yield f"  {account:<38}{format_nano(entry['amount_nano']):>20} {entry['currency']}"


def _head(transaction: dict[str, Any]) -> str:
    tenant_id = transaction["tenant_id"]
    whose = "no tenant's" if tenant_id is None else f"of {encode_id(TENANT, UUID(tenant_id))}"
    return f"{_named(transaction['id'])} {transaction['kind']}, {whose}, posted at {transaction['created_at']}"


def _named(transaction_id: str | None) -> str | None:
    return None if transaction_id is None else encode_id(LEDGER_TRANSACTION, UUID(transaction_id))

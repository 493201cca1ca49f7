"""SQL that follows one request through the tables of money. Rows are whole, as the database has them."""

from collections.abc import Mapping
from typing import Any

from msgspec import Struct
from sqlalchemy import BindParameter, Uuid, bindparam, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.asyncio import AsyncSession

from chappe_kernel.ids import LedgerTransactionId, RequestId


class Row(Struct, frozen=True):
    """A row by its table, with its columns as JSON has them: amounts are whole nanos."""

    table: str
    columns: dict[str, Any]


_TRANSACTIONS = """
    SELECT e.transaction_id FROM usage_event e WHERE e.request_id = :request_id AND e.transaction_id IS NOT NULL
    UNION
    SELECT d.transaction_id FROM usage_discrepancy d WHERE d.request_id = :request_id AND d.transaction_id IS NOT NULL
    UNION
    SELECT q.transaction_id FROM usage_quarantine_decision q
    WHERE q.request_id = :request_id AND q.transaction_id IS NOT NULL
"""
# By table, in the order in which a reader understands them.
_FOLLOWED: Mapping[str, str] = {
    "usage_event": "SELECT to_jsonb(e) FROM usage_event e WHERE e.request_id = :request_id",
    "usage_quarantine": "SELECT to_jsonb(q) - 'digest' FROM usage_quarantine q WHERE q.request_id = :request_id",
    "usage_quarantine_decision": """
        SELECT to_jsonb(d) - 'digest' FROM usage_quarantine_decision d WHERE d.request_id = :request_id
    """,
    "usage_discrepancy": "SELECT to_jsonb(d) - 'digest' FROM usage_discrepancy d WHERE d.request_id = :request_id",
    "tenant": """
        SELECT jsonb_build_object('id', t.id, 'name', t.name, 'state', t.state, 'currency', t.currency)
        FROM usage_event e JOIN tenant t ON t.id = e.tenant_id WHERE e.request_id = :request_id
    """,
    "api_key": """
        SELECT jsonb_build_object('id', k.id, 'name', k.name, 'prefix', k.prefix, 'revoked_at', k.revoked_at)
        FROM usage_event e JOIN api_key k ON k.tenant_id = e.tenant_id AND k.id = e.key_id
        WHERE e.request_id = :request_id
    """,
    "listing": """
        SELECT jsonb_build_object('id', l.id, 'name', l.name, 'currency', l.currency)
        FROM usage_event e JOIN listing l ON l.id = e.listing_id WHERE e.request_id = :request_id
    """,
    "price_version": """
        SELECT to_jsonb(p) FROM usage_event e JOIN price_version p ON p.id = e.price_version_id
        WHERE e.request_id = :request_id
    """,
    "price_correction": """
        SELECT to_jsonb(c) FROM usage_event e JOIN price_correction c
            ON c.tenant_id = e.tenant_id AND c.price_version_id = e.price_version_id
        WHERE e.request_id = :request_id ORDER BY c.id
    """,
    "budget_grant": """
        SELECT to_jsonb(g) FROM usage_event e JOIN budget_grant g ON g.id = e.grant_id
        WHERE e.request_id = :request_id
    """,
    "budget": """
        SELECT to_jsonb(b) FROM usage_event e JOIN budget b ON b.tenant_id = e.tenant_id
        WHERE e.request_id = :request_id
    """,
    "ledger_transaction": "SELECT to_jsonb(t) FROM ledger_transaction t WHERE t.id = ANY(:transactions) ORDER BY t.id",
    "ledger_entry": """
        SELECT to_jsonb(l) || jsonb_build_object('account', a.kind, 'account_region', a.region)
        FROM ledger_entry l JOIN ledger_account a ON a.id = l.account_id
        WHERE l.transaction_id = ANY(:transactions) ORDER BY l.transaction_id, l.line
    """,
    "outbox": """
        SELECT to_jsonb(o) FROM outbox o WHERE o.id = ANY(:transactions) ORDER BY o.id
    """,
    "publisher_share": """
        SELECT to_jsonb(s) FROM publisher_share s WHERE s.transaction_id = ANY(:transactions)
        ORDER BY s.transaction_id, s.listing_id
    """,
    "rated_usage_waiting": """
        SELECT to_jsonb(w) FROM rated_usage_waiting w WHERE w.id = ANY(:transactions) OR w.id = :request_id
        ORDER BY w.id
    """,
    "rated_usage_entry": """
        SELECT to_jsonb(r) FROM rated_usage_entry r
        WHERE r.transaction_id = ANY(:transactions) OR r.request_id = :request_id ORDER BY r.sequence, r.position
    """,
    "usage_minute": """
        SELECT to_jsonb(m) FROM usage_event e JOIN usage_minute m
            ON m.tenant_id = e.tenant_id AND m.minute = date_trunc('minute', e.posted_at, 'UTC')
            AND m.listing_id = e.listing_id AND m.region = e.region
        WHERE e.request_id = :request_id
    """,
    "usage_price_day": """
        SELECT to_jsonb(d) FROM usage_event e JOIN usage_price_day d
            ON d.tenant_id = e.tenant_id AND d.day = (e.posted_at AT TIME ZONE 'UTC')::date
            AND d.project_id = e.project_id AND d.price_version_id = e.price_version_id
        WHERE e.request_id = :request_id
    """,
    "usage_hour": """
        SELECT to_jsonb(h) FROM usage_event e JOIN usage_hour h
            ON h.tenant_id = e.tenant_id AND h.hour = date_trunc('hour', e.posted_at, 'UTC')
            AND h.project_id = e.project_id AND h.key_id = e.key_id AND h.listing_id = e.listing_id
            AND h.region = e.region
        WHERE e.request_id = :request_id
    """,
    "usage_day": """
        SELECT to_jsonb(d) FROM usage_event e JOIN usage_day d
            ON d.tenant_id = e.tenant_id AND d.day = (e.posted_at AT TIME ZONE 'UTC')::date
            AND d.listing_id = e.listing_id AND d.region = e.region
        WHERE e.request_id = :request_id
    """,
    "usage_month": """
        SELECT to_jsonb(m) FROM usage_event e JOIN usage_month m
            ON m.tenant_id = e.tenant_id AND m.month = date_trunc('month', e.posted_at, 'UTC')
        WHERE e.request_id = :request_id
    """,
    "usage_spending": """
        SELECT to_jsonb(s) FROM usage_event e JOIN usage_spending s
            ON s.tenant_id = e.tenant_id AND s.month = date_trunc('month', e.posted_at, 'UTC')
            AND s.project_id = e.project_id AND s.key_id = e.key_id AND s.listing_id = e.listing_id
        WHERE e.request_id = :request_id
    """,
}
_LINKED = text(
    """
    WITH RECURSIVE linked AS (
        SELECT t.id, t.reverses FROM ledger_transaction t WHERE t.id = :transaction_id
        UNION
        SELECT t.id, t.reverses FROM linked l JOIN ledger_transaction t ON t.id = l.reverses OR t.reverses = l.id
    )
    SELECT id FROM linked
    """
)
_PARAMETERS: Mapping[str, BindParameter[Any]] = {
    "request_id": bindparam("request_id", type_=Uuid()),
    "transactions": bindparam("transactions", type_=ARRAY(Uuid())),
}


async def read_rows(session: AsyncSession, request_id: RequestId) -> list[Row]:
    """In a read-only snapshot (`audit`), so that they are of one moment."""
    transactions = (await session.scalars(_with_types(_TRANSACTIONS), {"request_id": request_id})).all()
    values = {"request_id": request_id, "transactions": list(transactions)}
    found = []
    for table, statement in _FOLLOWED.items():
        found += [Row(table, columns) for columns in await session.scalars(_with_types(statement), values)]
    return found


async def read_linked_rows(session: AsyncSession, transaction_id: LedgerTransactionId) -> list[Row]:
    """Of a transaction, of what it takes back and of what takes it back, and so on. In a read-only snapshot (`audit`);
    none when there is no such transaction."""
    bound = {"transaction_id": transaction_id}
    linked = (await session.scalars(_LINKED.bindparams(bindparam("transaction_id", type_=Uuid())), bound)).all()
    values = {"request_id": None, "transactions": list(linked)}
    found = []
    for table, statement in _FOLLOWED.items():
        if ":transactions" in statement:
            found += [Row(table, columns) for columns in await session.scalars(_with_types(statement), values)]
    return found


def _with_types(statement: str) -> Any:
    named = [parameter for name, parameter in _PARAMETERS.items() if f":{name}" in statement]
    return text(statement).bindparams(*named)

"""SQL of taxed payments on account. As the operator."""

from datetime import datetime
from uuid import UUID

import msgspec
from msgspec import Struct
from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncSession

from chappe_billing.invoices.models import Invoice
from chappe_billing.invoices.queries import InvoiceHead


class Taxed(Struct, frozen=True):
    """A payment on account with its tax, or what takes it back: then both amounts are negative. `chain` are the
    transactions that it takes back, the nearest first."""

    id: UUID
    tenant_id: UUID
    created_at: datetime
    reason: str | None
    net_nano: int
    tax_nano: int
    chain: list[UUID]


_UNDOCUMENTED = """
    WITH RECURSIVE candidates AS (
        SELECT t.id, t.tenant_id, t.created_at, t.reason, t.reverses
        FROM ledger_transaction t
        JOIN legal_entity l ON l.id = t.legal_entity_id
            AND (l.payments <> 'external' OR NOT is_billed_elsewhere(l.id, t.created_at, NULL))
        WHERE t.kind <> 'usage' AND t.kind IN ('top_up', 'refund', 'chargeback', 'reversal') AND t.tenant_id IS NOT NULL
          AND NOT EXISTS (SELECT FROM invoice i WHERE i.source_id = t.id)
    ), taxed AS (
        SELECT c.*, m.net_nano, m.tax_nano
        FROM candidates c, LATERAL (
            SELECT coalesce(sum(e.amount_nano) FILTER (WHERE a.kind = 'tenant_funds'), 0)::bigint AS net_nano,
                   coalesce(sum(e.amount_nano) FILTER (WHERE a.kind = 'vat_payable'), 0)::bigint AS tax_nano
            FROM ledger_entry e JOIN ledger_account a ON a.id = e.account_id WHERE e.transaction_id = c.id
        ) m
        WHERE m.tax_nano <> 0
    ), chained AS (
        SELECT id, reverses AS of, 1 AS step FROM taxed WHERE reverses IS NOT NULL
        UNION ALL
        SELECT c.id, t.reverses, c.step + 1
        FROM chained c JOIN ledger_transaction t ON t.id = c.of WHERE t.reverses IS NOT NULL
    )
    SELECT t.id, t.tenant_id, t.created_at, t.reason, t.net_nano, t.tax_nano,
           ARRAY(SELECT c.of FROM chained c WHERE c.id = t.id ORDER BY c.step) AS chain
    FROM taxed t
"""
_UNDOCUMENTED_OF_TENANT = text(
    _UNDOCUMENTED.replace("AND NOT EXISTS", "AND t.tenant_id = :tenant_id AND NOT EXISTS") + " ORDER BY t.id"
)
_TENANTS = text(f"SELECT DISTINCT tenant_id FROM ({_UNDOCUMENTED}) u ORDER BY 1")  # noqa: S608  # of our own


async def find_tenants(session: AsyncSession) -> list[UUID]:
    """Who has taxed payments on account, or what takes them back, without a document."""
    return list(await session.scalars(_TENANTS))


async def read_undocumented(session: AsyncSession, tenant_id: UUID) -> list[Taxed]:
    """One tenant's, the oldest first by id."""
    rows = (await session.execute(_UNDOCUMENTED_OF_TENANT, {"tenant_id": tenant_id})).mappings()
    return msgspec.convert([dict(row) for row in rows], list[Taxed])


async def find_advance(session: AsyncSession, source_id: UUID) -> InvoiceHead | None:
    """The advance invoice of a payment on account."""
    columns = (getattr(Invoice, name) for name in InvoiceHead.__struct_fields__)
    statement = select(*columns).where(Invoice.source_id == source_id, Invoice.kind == "advance")
    row = (await session.execute(statement)).mappings().one_or_none()
    return None if row is None else msgspec.convert(dict(row), InvoiceHead)

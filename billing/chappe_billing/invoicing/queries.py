"""SQL of what is charged and not invoiced, and of issuing. As the operator."""

from collections.abc import Mapping, Sequence
from datetime import date, datetime
from uuid import UUID

import msgspec
from msgspec import Struct
from sqlalchemy import TextClause, func, or_, select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from chappe_billing.invoices.models import (
    BillingProfile,
    Invoice,
    InvoiceCounter,
    InvoiceCut,
    InvoiceFunding,
    InvoicePart,
    InvoiceSettlement,
)
from chappe_billing.invoicing.charges import Charge, Component, Used
from chappe_billing.invoicing.fundings import Moved
from chappe_billing.ledger.postings import TransactionKind
from chappe_tenants.legal_entities.models import LegalEntity
from chappe_tenants.organisations.models import Tenant

DEFAULT_TERMS_DAYS = 30


class Profile(Struct, frozen=True):
    """A tenant's billing profile, or what holds without one."""

    purchase_order: str | None = None
    buyer_reference: str | None = None
    invoice_email: str | None = None
    language: str = "en"
    payment_terms_days: int = DEFAULT_TERMS_DAYS
    split_by_project: bool = False
    billed_to: UUID | None = None


class Group(Struct, frozen=True):
    """Who pays, who sells, and the subsidiaries that stand on the same invoice."""

    payer: Tenant
    seller: LegalEntity
    profile: Profile
    subsidiaries: tuple[Tenant, ...]

    @property
    def members(self) -> tuple[Tenant, ...]:
        return (self.payer, *self.subsidiaries)


class Posted(Struct, frozen=True):
    """A transaction that charged a tenant, or gave back what was charged: then `charged_nano` is negative."""

    id: UUID
    kind: TransactionKind
    created_at: datetime
    charged_nano: int


async def find_group(session: AsyncSession, tenant_id: UUID) -> Group | None:
    """Whose invoices are this tenant's. None for nobody."""
    row = (
        await session.execute(
            select(Tenant, LegalEntity, BillingProfile)
            .join(LegalEntity, LegalEntity.id == Tenant.legal_entity_id)
            .outerjoin(BillingProfile, BillingProfile.tenant_id == Tenant.id)
            .where(Tenant.id == tenant_id)
            .execution_options(populate_existing=True)
        )
    ).one_or_none()
    if row is None:
        return None
    payer, seller, kept = row
    subsidiaries = await session.scalars(
        select(Tenant)
        .join(BillingProfile, BillingProfile.tenant_id == Tenant.id)
        .where(BillingProfile.billed_to == tenant_id)
        .order_by(Tenant.name, Tenant.id)
    )
    return Group(payer, seller, _profile(kept), tuple(subsidiaries))


def _profile(kept: BillingProfile | None) -> Profile:
    if kept is None:
        return Profile()
    return Profile(**{name: getattr(kept, name) for name in Profile.__struct_fields__})


_UNINVOICED = """
    SELECT t.id, t.kind, t.created_at, (
               SELECT -sum(e.amount_nano) FROM ledger_entry e
               WHERE e.transaction_id = t.id AND e.account_id = CAST(:funds AS uuid)
           )::bigint AS charged_nano
    FROM ledger_transaction t
    WHERE t.tenant_id = :tenant_id
      -- Ids are drawn before the commit, and no transaction takes days.
      AND t.id > first_request_id((
          SELECT coalesce(max(c.cut_off_at) - interval '7 days', timestamptz 'epoch')
          FROM invoice_cut c WHERE c.tenant_id = :tenant_id
      ))
      AND (t.kind IN ('usage', 'usage_correction', 'volume_discount', 'minimum_fee', 'commitment_fee')
           OR t.kind = 'reversal' AND EXISTS (
               SELECT FROM ledger_transaction r
               WHERE r.id = t.reverses AND r.kind IN ('volume_discount', 'minimum_fee', 'commitment_fee')
           ))
      AND (t.created_at < :cut_off_at OR EXISTS (
          SELECT FROM cut_off_entry o
          WHERE o.tenant_id = t.tenant_id AND o.transaction_id = t.id AND o.month < CAST(:cut_off_on AS date)
      ))
      AND NOT EXISTS (SELECT FROM invoice_transaction x WHERE x.transaction_id = t.id)
      AND NOT is_billed_elsewhere(t.legal_entity_id, t.created_at, (
          SELECT o.month FROM cut_off_entry o WHERE o.tenant_id = t.tenant_id AND o.transaction_id = t.id
      ))
      AND {wanted}
    ORDER BY t.id
"""
_ALL_UNINVOICED = text(_UNINVOICED.format(wanted="true"))
_NO_USAGE_UNINVOICED = text(_UNINVOICED.format(wanted="t.kind <> 'usage'"))


async def read_uninvoiced(
    session: AsyncSession, tenant_id: UUID, funds_account: UUID, cut_off_at: datetime
) -> list[Posted]:
    """What was charged before the cut-off and is on no invoice, with what contracts ask for the months before it. What
    moved only the operator's accounts charges nothing, and is left out; so is what another system bills, since it was
    posted while the legal entity's payments were `external`."""
    return await _read_posted(session, _ALL_UNINVOICED, _values(tenant_id, funds_account, cut_off_at))


async def read_uninvoiced_terms(
    session: AsyncSession, tenant_id: UUID, funds_account: UUID, cut_off_at: datetime
) -> list[Posted]:
    """Like `read_uninvoiced`, of what is no usage alone."""
    return await _read_posted(session, _NO_USAGE_UNINVOICED, _values(tenant_id, funds_account, cut_off_at))


def _values(tenant_id: UUID, funds_account: UUID, cut_off_at: datetime) -> dict[str, object]:
    return {"tenant_id": tenant_id, "funds": funds_account, "cut_off_at": cut_off_at, "cut_off_on": cut_off_at.date()}


async def _read_posted(session: AsyncSession, statement: TextClause, values: Mapping[str, object]) -> list[Posted]:
    rows = await session.execute(statement, values)
    return [
        Posted(row.id, TransactionKind(row.kind), row.created_at, row.charged_nano)
        for row in rows
        if row.charged_nano is not None
    ]


# The names of columns are those of `Used`, in its order.
_USED = text(
    """
    SELECT u.project_id, p.name AS project, l.name AS listing, u.region, u.requests, u.input, u.cached_input, u.output,
           u.seconds, u.images, u.written_off_nano, v.input_nano_per_token, v.cached_input_nano_per_token,
           v.output_nano_per_token, v.request_nano, v.second_nano, v.image_nano
    FROM (
        SELECT e.project_id, e.listing_id, e.region, e.price_version_id,
               (count(*) FILTER (WHERE c.is_chargeable))::bigint AS requests,
               coalesce(sum(e.prompt_tokens - e.cached_tokens) FILTER (WHERE c.is_chargeable), 0)::bigint AS input,
               coalesce(sum(e.cached_tokens) FILTER (WHERE c.is_chargeable), 0)::bigint AS cached_input,
               coalesce(sum(e.completion_tokens) FILTER (WHERE c.is_chargeable), 0)::bigint AS output,
               coalesce(sum(e.seconds) FILTER (WHERE c.is_chargeable), 0)::bigint AS seconds,
               coalesce(sum(e.images) FILTER (WHERE c.is_chargeable), 0)::bigint AS images,
               sum(e.written_off_nano)::bigint AS written_off_nano
        FROM usage_event e
        JOIN unnest(CAST(:ids AS uuid[])) t (id) ON t.id = e.transaction_id,
        LATERAL (SELECT e.repeats IS NULL AND (
            e.completion_tokens + e.seconds + e.images > 0 OR (e.prompt_tokens > 0 AND e.outcome <> 'failed')
        ) AS is_chargeable) c
        WHERE e.tenant_id = :tenant_id AND e.posted_at BETWEEN :first AND :last
        GROUP BY e.project_id, e.listing_id, e.region, e.price_version_id
    ) u
    JOIN price_version v ON v.id = u.price_version_id
    JOIN listing l ON l.id = u.listing_id
    LEFT JOIN project p ON p.tenant_id = :tenant_id AND p.id = u.project_id
    """
)


async def read_used(session: AsyncSession, tenant_id: UUID, posted: Sequence[Posted]) -> list[Used]:
    """What usage transactions are made of, from their events."""
    values = {
        "tenant_id": tenant_id,
        "ids": [one.id for one in posted],
        "first": min(one.created_at for one in posted),
        "last": max(one.created_at for one in posted),
    }
    return [Used(*row) for row in await session.execute(_USED, values)]


_ARCHIVED = text(
    """
    SELECT l.name, s.region, sum(s.amount_nano - s.written_off_nano)::bigint
    FROM usage_sealed_posting s
    JOIN unnest(CAST(:ids AS uuid[])) t (id) ON t.id = s.transaction_id
    JOIN listing l ON l.id = s.listing_id
    WHERE s.tenant_id = :tenant_id GROUP BY 1, 2 ORDER BY 1, 2
    """
)


async def read_archived(session: AsyncSession, tenant_id: UUID, ids: Sequence[UUID]) -> list[Charge]:
    """What usage transactions were made of whose events are dropped."""
    rows = await session.execute(_ARCHIVED, {"tenant_id": tenant_id, "ids": list(ids)})
    return [
        Charge(component=Component.ARCHIVED, quantity=1, unit_price_nano=amount, listing=listing, region=region)
        for listing, region, amount in rows
        if amount
    ]


_CORRECTED = text(
    """
    SELECT g.project_id, p.name, l.name, g.region, sum(g.corrected_nano)::bigint
    FROM (
        SELECT e.project_id, e.listing_id, d.region, d.corrected_nano
        FROM usage_discrepancy d
        LEFT JOIN usage_event e ON e.request_id = d.request_id
        WHERE d.transaction_id = ANY (CAST(:ids AS uuid[])) AND d.tenant_id = :tenant_id
        UNION ALL
        SELECT NULL, v.listing_id, v.region, c.corrected_nano
        FROM price_correction c JOIN price_version v ON v.id = c.price_version_id
        WHERE c.transaction_id = ANY (CAST(:ids AS uuid[])) AND c.tenant_id = :tenant_id
    ) g
    LEFT JOIN listing l ON l.id = g.listing_id
    LEFT JOIN project p ON p.tenant_id = :tenant_id AND p.id = g.project_id
    GROUP BY 1, 2, 3, 4 ORDER BY 2, 3, 4
    """
)


async def read_corrected(session: AsyncSession, tenant_id: UUID, ids: Sequence[UUID]) -> list[Charge]:
    rows = await session.execute(_CORRECTED, {"tenant_id": tenant_id, "ids": list(ids)})
    return [
        Charge(
            component=Component.CORRECTION,
            quantity=-1,
            unit_price_nano=given,
            project_id=project_id,
            project=project,
            listing=listing,
            region=region,
        )
        for project_id, project, listing, region, given in rows
        if given
    ]


_TERMS = text(
    """
    SELECT t.id, coalesce(r.kind, t.kind) AS kind, to_char(o.month, 'YYYY-MM') AS month
    FROM ledger_transaction t
    LEFT JOIN ledger_transaction r ON r.id = t.reverses AND t.kind = 'reversal'
    LEFT JOIN cut_off_entry o ON o.tenant_id = t.tenant_id AND o.transaction_id = coalesce(r.id, t.id)
    WHERE t.id = ANY (CAST(:ids AS uuid[])) AND t.tenant_id = :tenant_id ORDER BY 3, 2, 1
    """
)


async def read_terms(session: AsyncSession, tenant_id: UUID, posted: Sequence[Posted]) -> list[Charge]:
    """Fees and discounts of contracts, and what takes them back."""
    charged = {one.id: one.charged_nano for one in posted}
    rows = await session.execute(_TERMS, {"tenant_id": tenant_id, "ids": list(charged)})
    return [
        Charge(
            component=Component(kind),
            quantity=1 if charged[transaction_id] > 0 else -1,
            unit_price_nano=abs(charged[transaction_id]),
            month=month,
        )
        for transaction_id, kind, month in rows
    ]


_FUNDINGS = text(
    """
    SELECT t.id, t.kind, t.reverses, t.created_at,
           (coalesce(m.funds, 0) - coalesce(g.given_back, 0))::bigint AS funds_nano,
           coalesce(m.tax, 0)::bigint AS tax_nano,
           coalesce((SELECT sum(f.amount_nano) FROM invoice_funding f WHERE f.funding_id = t.id), 0)::bigint
               AS used_nano,
           i.number, i.issued_on
    FROM ledger_transaction t
    CROSS JOIN LATERAL (
        SELECT sum(e.amount_nano) FILTER (WHERE a.kind = 'tenant_funds') AS funds,
               sum(e.amount_nano) FILTER (WHERE a.kind = 'vat_payable') AS tax
        FROM ledger_entry e JOIN ledger_account a ON a.id = e.account_id WHERE e.transaction_id = t.id
    ) m
    CROSS JOIN LATERAL (
        SELECT -sum(f.amount_nano) AS given_back
        FROM invoice_part p JOIN invoice_funding f ON f.invoice_id = p.invoice_id AND f.tenant_id = p.tenant_id
        WHERE t.kind = 'credit_note' AND p.transaction_id = t.id
    ) g
    LEFT JOIN invoice i ON i.source_id = t.id AND i.kind = 'advance'
    WHERE t.tenant_id = :tenant_id AND t.kind <> 'usage' AND t.kind IN (
        'welcome_credit', 'goodwill_credit', 'write_off', 'top_up', 'payment', 'credit_note', 'refund', 'chargeback',
        'reversal'
    )
    """
)


async def read_fundings(session: AsyncSession, tenant_id: UUID) -> list[Moved]:
    """Everything that put something into a tenant's funds or took it out again, and is no charge."""
    rows = (await session.execute(_FUNDINGS, {"tenant_id": tenant_id})).mappings()
    return msgspec.convert([dict(row) for row in rows], list[Moved])


# Whether the entity ever had one is no join: a plan could begin at the other side, with all that the tenant ever used.
_BILLED_ELSEWHERE = text(
    """
    SELECT coalesce(-sum(e.amount_nano), 0)::bigint
    FROM ledger_transaction t
    JOIN ledger_entry e ON e.transaction_id = t.id AND e.account_id = CAST(:funds AS uuid)
    LEFT JOIN ledger_transaction r ON r.id = t.reverses AND t.kind = 'reversal'
    LEFT JOIN cut_off_entry o ON o.tenant_id = t.tenant_id AND o.transaction_id = t.id
    WHERE EXISTS (
            SELECT FROM legal_entity_payments h WHERE h.legal_entity_id = :entity AND h.payments = 'external'
        )
      AND t.tenant_id = :tenant_id
      AND coalesce(r.kind, t.kind) IN ('usage', 'usage_correction', 'volume_discount', 'minimum_fee', 'commitment_fee')
      AND NOT EXISTS (SELECT FROM invoice_transaction x WHERE x.transaction_id = t.id)
      AND is_billed_elsewhere(t.legal_entity_id, t.created_at, o.month)
    """
)


async def sum_billed_elsewhere(session: AsyncSession, legal_entity_id: UUID, tenant_id: UUID, account: UUID) -> int:
    """What was charged to a tenant while another system billed it. Reads no transaction of an entity that never had
    one."""
    values = {"entity": legal_entity_id, "tenant_id": tenant_id, "funds": account}
    return int((await session.execute(_BILLED_ELSEWHERE, values)).scalar_one())


_SINCE = text(
    """
    SELECT h.since, h.payments FROM legal_entity_payments h WHERE h.legal_entity_id = :entity ORDER BY h.since
    """
)


async def read_payments_since(session: AsyncSession, legal_entity_id: UUID) -> list[tuple[datetime, str]]:
    """How a legal entity has collected since when, from the first."""
    return [(since, payments) for since, payments in await session.execute(_SINCE, {"entity": legal_entity_id})]


async def hold_payments(session: AsyncSession, legal_entity_id: UUID) -> None:
    """How the legal entity collects stays as it is until the transaction ends."""
    key = f"payments of {legal_entity_id}"
    await session.execute(select(func.pg_advisory_xact_lock_shared(func.hashtextextended(key, 0))))


async def take_ordinal(session: AsyncSession, legal_entity_id: UUID, series: str) -> int:
    """The next number of a series. Everybody else who wants one waits until this transaction ends; if it is rolled back
    the number is given again."""
    statement = insert(InvoiceCounter).values(legal_entity_id=legal_entity_id, series=series, last_ordinal=1)
    given = await session.scalar(
        statement.on_conflict_do_update(
            index_elements=["legal_entity_id", "series"], set_={"last_ordinal": InvoiceCounter.last_ordinal + 1}
        ).returning(InvoiceCounter.last_ordinal)
    )
    return int(given or 0)


_INSERT_TRANSACTIONS = text(
    """
    INSERT INTO invoice_transaction (transaction_id, tenant_id, cut_id)
    SELECT id, :tenant_id, :cut_id FROM unnest(CAST(:ids AS uuid[])) id
    """
)


async def insert_cut(session: AsyncSession, cut: InvoiceCut, transaction_ids: Sequence[UUID]) -> None:
    """The database refuses a transaction that is invoiced already."""
    session.add(cut)
    await session.flush()
    values = {"tenant_id": cut.tenant_id, "cut_id": cut.id, "ids": list(transaction_ids)}
    await session.execute(_INSERT_TRANSACTIONS, values)


async def insert_document(session: AsyncSession, document: Invoice, parts: Sequence[InvoicePart]) -> None:
    session.add(document)
    await session.flush()
    session.add_all(parts)
    await session.flush()


async def insert_used(
    session: AsyncSession, fundings: Sequence[InvoiceFunding], settlements: Sequence[InvoiceSettlement]
) -> None:
    """The database refuses to use a funding, or to settle an invoice, beyond its amount."""
    if fundings or settlements:
        session.add_all([*fundings, *settlements])
        await session.flush()


async def find_payers(session: AsyncSession, legal_entity_id: UUID) -> list[UUID]:
    """Whom a legal entity sends invoices to: its tenants that stand on nobody else's."""
    statement = (
        select(Tenant.id)
        .outerjoin(BillingProfile, BillingProfile.tenant_id == Tenant.id)
        .where(
            Tenant.legal_entity_id == legal_entity_id,
            or_(BillingProfile.billed_to.is_(None), BillingProfile.tenant_id.is_(None)),
        )
        .order_by(Tenant.id)
    )
    return list(await session.scalars(statement))


async def read_today(session: AsyncSession) -> date:
    """In the database's time (UTC)."""
    return (await session.execute(select(func.now()))).scalar_one().date()

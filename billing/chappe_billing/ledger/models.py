"""Tables of the ledger. Nobody may change or delete a row of them, and the database checks every balance."""

from datetime import datetime
from enum import StrEnum
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, ForeignKeyConstraint, Index, UniqueConstraint, func, text
from sqlalchemy.orm import Mapped, mapped_column

from chappe_billing.ledger.postings import AccountKind, Rail, TransactionKind
from chappe_store.base import Base
from chappe_tenants.legal_entities.models import BY_DEFAULT


def _listed(kinds: type[StrEnum]) -> str:
    return ", ".join(f"'{kind}'" for kind in kinds)


class LedgerAccount(Base):
    """Money of one kind in a legal entity's books: a tenant's, a publisher's, or one of the entity's own accounts."""

    __tablename__ = "ledger_account"
    __table_args__ = (
        CheckConstraint(f"kind IN ({_listed(AccountKind)})", name="kind"),
        CheckConstraint(
            "(kind IN ('tenant_funds', 'receivable')) = (tenant_id IS NOT NULL) "
            "AND (kind = 'publisher_payable') = (publisher_id IS NOT NULL)",
            name="owner",
        ),
        CheckConstraint("region IS NULL OR kind IN ('revenue', 'publisher_payable')", name="region"),
        ForeignKeyConstraint(["legal_entity_id", "currency"], ["legal_entity.id", "legal_entity.currency"]),
        UniqueConstraint("id", "currency"),
        UniqueConstraint(
            *("legal_entity_id", "kind", "currency", "tenant_id", "region", "publisher_id"),
            name="uq_ledger_account_what",
            postgresql_nulls_not_distinct=True,
        ),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    kind: Mapped[str]
    currency: Mapped[str]
    legal_entity_id: Mapped[UUID] = mapped_column(server_default=BY_DEFAULT)
    tenant_id: Mapped[UUID | None] = mapped_column(ForeignKey("tenant.id"))
    region: Mapped[str | None] = mapped_column(ForeignKey("region.name"))
    publisher_id: Mapped[UUID | None] = mapped_column(ForeignKey("publisher.id"))
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class LedgerTransaction(Base):
    """Groups entries that sum to zero. `created_at` is the database transaction's start, and closes the group.

    `reference` is what makes a repeat find the first: unique within the legal entity. `reverses` names the transaction
    that this one takes back, in part or, if it is a `reversal`, as a whole and once.
    """

    __tablename__ = "ledger_transaction"
    __table_args__ = (
        CheckConstraint(f"kind IN ({_listed(TransactionKind)})", name="kind"),
        CheckConstraint("length(reference) BETWEEN 1 AND 200", name="reference"),
        CheckConstraint(
            "length(reason) BETWEEN 1 AND 500 AND (reason IS NOT NULL "
            "OR kind NOT IN ('refund', 'chargeback', 'goodwill_credit', 'write_off', 'reversal'))",
            name="reason",
        ),
        CheckConstraint(f"rail IN ({_listed(Rail)})", name="rail"),
        CheckConstraint("kind <> 'reversal' OR reverses IS NOT NULL", name="reverses"),
        CheckConstraint(
            "kind NOT IN ('suspense', 'publisher_share') OR (tenant_id IS NULL AND reference IS NOT NULL)", name="own"
        ),
        ForeignKeyConstraint(["legal_entity_id", "currency"], ["legal_entity.id", "legal_entity.currency"]),
        ForeignKeyConstraint(["reverses", "currency"], ["ledger_transaction.id", "ledger_transaction.currency"]),
        UniqueConstraint("id", "currency"),
        Index(
            "uq_ledger_transaction_welcome_credit",
            "tenant_id",
            unique=True,
            postgresql_where=text("kind = 'welcome_credit'"),
        ),
        Index(
            "uq_ledger_transaction_reference",
            *("legal_entity_id", "reference"),
            unique=True,
            postgresql_where=text("reference IS NOT NULL"),
        ),
        Index("uq_ledger_transaction_reversal", "reverses", unique=True, postgresql_where=text("kind = 'reversal'")),
        Index("ix_ledger_transaction_suspense", "id", postgresql_where=text("kind = 'suspense'")),
        Index("ix_ledger_transaction_not_usage", "tenant_id", "id", postgresql_where=text("kind <> 'usage'")),
        Index(None, "reverses", postgresql_where=text("reverses IS NOT NULL")),
        Index(None, "tenant_id", "id"),
        Index(None, "created_at"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    kind: Mapped[str]
    tenant_id: Mapped[UUID | None] = mapped_column(ForeignKey("tenant.id"))
    currency: Mapped[str]
    legal_entity_id: Mapped[UUID] = mapped_column(server_default=BY_DEFAULT)
    reference: Mapped[str | None]
    reason: Mapped[str | None]
    rail: Mapped[str | None]
    reverses: Mapped[UUID | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class LedgerEntry(Base):
    """Positive credits the account, negative debits it. `tenant_id` is the account's."""

    __tablename__ = "ledger_entry"
    __table_args__ = (
        ForeignKeyConstraint(["transaction_id", "currency"], ["ledger_transaction.id", "ledger_transaction.currency"]),
        ForeignKeyConstraint(["account_id", "currency"], ["ledger_account.id", "ledger_account.currency"]),
        CheckConstraint("amount_nano <> 0", name="amount_nano"),
        Index(None, "account_id"),
    )

    transaction_id: Mapped[UUID] = mapped_column(primary_key=True)
    line: Mapped[int] = mapped_column(primary_key=True)
    account_id: Mapped[UUID]
    tenant_id: Mapped[UUID | None]
    currency: Mapped[str]
    amount_nano: Mapped[int]


class PublisherShare(Base):
    """What a publisher earned of a listing's usage in one transaction, by the terms of that moment.

    `share_nano` is `base_nano` times `share_bp` in ten thousand, cut off towards zero. Both are negative when a
    correction takes a part back: then it is what was given for that part, batch by batch, within two nanos of it.
    """

    __tablename__ = "publisher_share"
    __table_args__ = (
        CheckConstraint("share_bp BETWEEN 1 AND 10000", name="share_bp"),
        CheckConstraint(
            "CASE WHEN base_nano < 0 THEN share_nano BETWEEN div(base_nano::numeric * share_bp, 10000) - 2 AND 0 "
            "ELSE share_nano = div(base_nano::numeric * share_bp, 10000) END",
            name="share_nano",
        ),
        Index(None, "publisher_id", "transaction_id"),
    )

    transaction_id: Mapped[UUID] = mapped_column(ForeignKey("ledger_transaction.id"), primary_key=True)
    listing_id: Mapped[UUID] = mapped_column(ForeignKey("listing.id"), primary_key=True)
    publisher_id: Mapped[UUID] = mapped_column(ForeignKey("publisher.id"))
    region: Mapped[str] = mapped_column(ForeignKey("region.name"), primary_key=True)
    share_bp: Mapped[int] = mapped_column(primary_key=True)
    base_nano: Mapped[int]
    share_nano: Mapped[int]

"""Tables of the ledger. Nobody may change or delete a row of them, and the database checks every balance."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, ForeignKeyConstraint, Index, UniqueConstraint, func, text
from sqlalchemy.orm import Mapped, mapped_column

from chappe_store.base import Base


class LedgerAccount(Base):
    """Money of one kind in one currency: a tenant's funds, or one of the operator's own accounts."""

    __tablename__ = "ledger_account"
    __table_args__ = (
        CheckConstraint("kind IN ('tenant_funds', 'promotional_credit', 'revenue', 'write_off')", name="kind"),
        CheckConstraint("(kind = 'tenant_funds') = (tenant_id IS NOT NULL)", name="owner"),
        UniqueConstraint("id", "currency"),
        UniqueConstraint("kind", "currency", "tenant_id", "region", postgresql_nulls_not_distinct=True),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    kind: Mapped[str]
    currency: Mapped[str]
    tenant_id: Mapped[UUID | None] = mapped_column(ForeignKey("tenant.id"))
    region: Mapped[str | None] = mapped_column(ForeignKey("region.name"))
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class LedgerTransaction(Base):
    """Groups entries that sum to zero. `created_at` is the database transaction's start, and closes the group."""

    __tablename__ = "ledger_transaction"
    __table_args__ = (
        CheckConstraint("kind IN ('welcome_credit', 'usage')", name="kind"),
        UniqueConstraint("id", "currency"),
        Index(
            "uq_ledger_transaction_welcome_credit",
            "tenant_id",
            unique=True,
            postgresql_where=text("kind = 'welcome_credit'"),
        ),
        Index(None, "tenant_id", "id"),
        Index(None, "created_at"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    kind: Mapped[str]
    tenant_id: Mapped[UUID | None] = mapped_column(ForeignKey("tenant.id"))
    currency: Mapped[str]
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

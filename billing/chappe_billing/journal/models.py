"""The chart's table."""

from uuid import UUID

from sqlalchemy import ForeignKey
from sqlalchemy.orm import Mapped, mapped_column

from chappe_store.base import Base


class JournalAccount(Base):
    """What a legal entity's general ledger calls an account of ours; `account` is a `JournalKind`."""

    __tablename__ = "journal_account"

    legal_entity_id: Mapped[UUID] = mapped_column(ForeignKey("legal_entity.id"), primary_key=True)
    account: Mapped[str] = mapped_column(primary_key=True)
    number: Mapped[str]

"""The budget's table."""

from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, ForeignKeyConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from chappe_store.base import Base
from chappe_tenants.legal_entities.models import BY_DEFAULT

_ZERO = text("0")


class Budget(Base):
    """A tenant's money at a glance, and the row that is locked first whenever it moves.

    `funds`: the tenant's funds and what it owes by invoices together, without usage: all that was put in, less the tax
    that was invoiced. So an unpaid invoice uses up the credit limit. `posted`: all that settled usage took. `pending`:
    what open grants could still spend. Whatever increases `posted + pending` keeps it within `funds + credit_limit`; a
    trigger sees to it. The legal entity is the tenant's, and the currency the entity's.
    """

    __tablename__ = "budget"
    __table_args__ = (
        *(CheckConstraint(f"{name} >= 0", name=name) for name in ("posted_nano", "pending_nano", "credit_limit_nano")),
        ForeignKeyConstraint(["tenant_id", "legal_entity_id"], ["tenant.id", "tenant.legal_entity_id"]),
        ForeignKeyConstraint(["legal_entity_id", "currency"], ["legal_entity.id", "legal_entity.currency"]),
    )

    tenant_id: Mapped[UUID] = mapped_column(ForeignKey("tenant.id"), primary_key=True)
    currency: Mapped[str]
    legal_entity_id: Mapped[UUID] = mapped_column(server_default=BY_DEFAULT)
    funds_nano: Mapped[int] = mapped_column(server_default=_ZERO)
    posted_nano: Mapped[int] = mapped_column(server_default=_ZERO)
    pending_nano: Mapped[int] = mapped_column(server_default=_ZERO)
    credit_limit_nano: Mapped[int] = mapped_column(server_default=_ZERO)

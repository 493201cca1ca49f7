"""Tables of payments. What the service calls a thing is its `service_id`; amounts of what goes over the wire are in the
currency's minor unit, what the ledger posts is in nanos."""

from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import (
    CheckConstraint,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    UniqueConstraint,
    false,
    func,
    text,
    true,
)
from sqlalchemy.orm import Mapped, mapped_column

from chappe_store.base import Base


class Purpose(StrEnum):
    TOP_UP = "top_up"
    AUTO_TOP_UP = "auto_top_up"
    INVOICE = "invoice"


class Method(StrEnum):
    """How somebody pays."""

    CARD = "card"
    SEPA_DEBIT = "sepa_debit"
    BANK_TRANSFER = "bank_transfer"


class PaymentState(StrEnum):
    ASKED = "asked"
    """Here; the service does not know of it yet."""
    OPEN = "open"
    """The service waits for whoever pays."""
    PROCESSING = "processing"
    """Paid for by a way that takes days to settle."""
    SUCCEEDED = "succeeded"
    """In the ledger, once and for good; what takes it back is another transaction."""
    FAILED = "failed"
    EXPIRED = "expired"
    """Abandoned. Should money come all the same, it counts."""
    QUARANTINED = "quarantined"
    """Money came that is not what was asked for. A person decides."""


WITHDRAWN = "withdrawn"
"""The problem of a payment that we ourselves asked for no more: what it was for is settled otherwise."""
UNDER_WAY = frozenset({PaymentState.ASKED, PaymentState.OPEN, PaymentState.PROCESSING})


class CallKind(StrEnum):
    CUSTOMER = "customer"
    CHECKOUT = "checkout"
    SETUP = "setup"
    CHARGE = "charge"
    INVOICE = "invoice"
    REFUND = "refund"
    FORGET_METHOD = "forget_method"
    WITHDRAW = "withdraw"
    USAGE = "usage"


class CallState(StrEnum):
    WAITING = "waiting"
    DONE = "done"
    REFUSED = "refused"
    """The service answered no, and that is the answer: a declined card."""
    POISONED = "poisoned"
    """It can never work as it is. A person looks."""
    WITHDRAWN = "withdrawn"
    """Nobody wanted it any more before it was done."""


class RefundState(StrEnum):
    ASKED = "asked"
    PROCESSING = "processing"
    SUCCEEDED = "succeeded"
    FAILED = "failed"


class DisputeState(StrEnum):
    OPEN = "open"
    LOST = "lost"
    WON = "won"


def _of_tenant() -> ForeignKeyConstraint:
    return ForeignKeyConstraint(["tenant_id", "legal_entity_id"], ["tenant.id", "tenant.legal_entity_id"])


def _of_payment() -> ForeignKeyConstraint:
    return ForeignKeyConstraint(["tenant_id", "payment_id"], ["payment.tenant_id", "payment.id"])


class PaymentCustomer(Base):
    """Who a tenant is at its legal entity's payment service."""

    __tablename__ = "payment_customer"
    __table_args__ = (_of_tenant(),)

    tenant_id: Mapped[UUID] = mapped_column(primary_key=True)
    legal_entity_id: Mapped[UUID]
    service_id: Mapped[str] = mapped_column(unique=True)
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class PaymentMethod(Base):
    """A card or an account that a tenant has saved. Nothing of it is here but what its owner recognises it by."""

    __tablename__ = "payment_method"
    __table_args__ = (
        Index("uq_payment_method_default", "tenant_id", unique=True, postgresql_where=text("is_default")),
        CheckConstraint("NOT is_default OR removed_at IS NULL", name="default"),
    )

    tenant_id: Mapped[UUID] = mapped_column(ForeignKey("payment_customer.tenant_id"), primary_key=True)
    service_id: Mapped[str] = mapped_column(primary_key=True, unique=True)
    kind: Mapped[str]
    label: Mapped[str]
    expires: Mapped[str | None]
    is_default: Mapped[bool] = mapped_column(server_default=false())
    added_at: Mapped[datetime] = mapped_column(server_default=func.now())
    removed_at: Mapped[datetime | None]


class Payment(Base):
    """What a tenant was asked to pay, net and tax in nanos that are `gross_minor` together.

    `session_id` is the hosted page's, `intent_id` the money's: set once. `treatment` is how it is taxed (a
    `TaxTreatment`), of top-ups. `transaction_id` is the posting that credited it. `attempt` counts an invoice's.
    """

    __tablename__ = "payment"
    __table_args__ = (
        _of_tenant(),
        UniqueConstraint("tenant_id", "id"),
        CheckConstraint("(state = 'succeeded') = (transaction_id IS NOT NULL)", name="posted"),
        Index(None, "tenant_id", "created_at"),
        Index("ix_payment_under_way", "id", postgresql_where=text("state IN ('asked', 'open', 'processing')")),
        Index(
            "uq_payment_auto_top_up",
            "tenant_id",
            unique=True,
            postgresql_where=text("purpose = 'auto_top_up' AND state IN ('asked', 'open', 'processing')"),
        ),
        Index(
            "uq_payment_invoice",
            "invoice_id",
            unique=True,
            postgresql_where=text("state IN ('asked', 'open', 'processing')"),
        ),
    )

    tenant_id: Mapped[UUID]
    id: Mapped[UUID] = mapped_column(primary_key=True)
    legal_entity_id: Mapped[UUID]
    purpose: Mapped[str]
    invoice_id: Mapped[UUID | None] = mapped_column(ForeignKey("invoice.id"))
    method: Mapped[str]
    currency: Mapped[str]
    net_nano: Mapped[int]
    tax_nano: Mapped[int]
    gross_minor: Mapped[int]
    treatment: Mapped[dict[str, Any] | None]
    attempt: Mapped[int] = mapped_column(server_default=text("1"))
    state: Mapped[str] = mapped_column(server_default=text("'asked'"))
    problem: Mapped[str | None]
    session_id: Mapped[str | None] = mapped_column(unique=True)
    intent_id: Mapped[str | None] = mapped_column(unique=True)
    transaction_id: Mapped[UUID | None] = mapped_column(ForeignKey("ledger_transaction.id"), unique=True)
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    changed_at: Mapped[datetime] = mapped_column(server_default=func.now())
    looked_at: Mapped[datetime | None]


class PaymentRefund(Base):
    """A payment's way back, in part or whole. `transaction_id` took the money out of the funds when it was asked for,
    so that nobody spends it meanwhile; `reversal_id` gave it back when the service could not pay it out."""

    __tablename__ = "payment_refund"
    __table_args__ = (
        _of_tenant(),
        _of_payment(),
        CheckConstraint("(state = 'failed') = (reversal_id IS NOT NULL)", name="given_back"),
        Index(None, "tenant_id", "payment_id"),
        Index("ix_payment_refund_under_way", "id", postgresql_where=text("state IN ('asked', 'processing')")),
    )

    tenant_id: Mapped[UUID]
    id: Mapped[UUID] = mapped_column(primary_key=True)
    legal_entity_id: Mapped[UUID]
    payment_id: Mapped[UUID]
    currency: Mapped[str]
    net_nano: Mapped[int]
    gross_minor: Mapped[int]
    reason: Mapped[str]
    state: Mapped[str] = mapped_column(server_default=text("'asked'"))
    problem: Mapped[str | None]
    service_id: Mapped[str | None] = mapped_column(unique=True)
    transaction_id: Mapped[UUID] = mapped_column(ForeignKey("ledger_transaction.id"), unique=True)
    reversal_id: Mapped[UUID | None] = mapped_column(ForeignKey("ledger_transaction.id"), unique=True)
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    changed_at: Mapped[datetime] = mapped_column(server_default=func.now())


class PaymentDispute(Base):
    """A payment that its bank may take back. Lost, a chargeback is posted; won after all, that is taken back."""

    __tablename__ = "payment_dispute"
    __table_args__ = (_of_payment(), Index(None, "tenant_id", "payment_id"))

    tenant_id: Mapped[UUID]
    service_id: Mapped[str] = mapped_column(primary_key=True)
    payment_id: Mapped[UUID]
    currency: Mapped[str]
    amount_minor: Mapped[int]
    reason: Mapped[str]
    state: Mapped[str]
    chargeback_id: Mapped[UUID | None] = mapped_column(ForeignKey("ledger_transaction.id"), unique=True)
    reversal_id: Mapped[UUID | None] = mapped_column(ForeignKey("ledger_transaction.id"), unique=True)
    opened_at: Mapped[datetime] = mapped_column(server_default=func.now())
    changed_at: Mapped[datetime] = mapped_column(server_default=func.now())


class PaymentCash(Base):
    """A movement of the money that a tenant has lying at the service, where transfers arrive. Append-only.

    `net_minor` is what it did to that money. `counted_minor` of it is the tenant's in the ledger, which has all that
    came but for what waits for a top-up or went into one: a top-up is posted when it is whole. `payment_id` is what it
    was for, `transaction_id` what was posted for that.
    """

    __tablename__ = "payment_cash"
    __table_args__ = (_of_payment(), Index(None, "tenant_id", "payment_id"))

    tenant_id: Mapped[UUID] = mapped_column(ForeignKey("payment_customer.tenant_id"))
    service_id: Mapped[str] = mapped_column(primary_key=True)
    kind: Mapped[str]
    currency: Mapped[str]
    net_minor: Mapped[int]
    counted_minor: Mapped[int]
    payment_id: Mapped[UUID | None]
    transaction_id: Mapped[UUID | None] = mapped_column(ForeignKey("ledger_transaction.id"))
    seen_at: Mapped[datetime] = mapped_column(server_default=func.now())


class PaymentCall(Base):
    """Something that the service is to be told, written in the transaction that makes it necessary.

    Its idempotency key follows from its id, and from how often a person had it tried again (`retries`): the service may
    remember an answer that no longer holds. `parameters` are an `Order`, without secrets. `service_id` and `url` are
    what the service answered. Times of tries are the caller's clock's, which nothing but its own patience goes by.
    """

    __tablename__ = "payment_call"
    __table_args__ = (
        _of_tenant(),
        _of_payment(),
        UniqueConstraint("tenant_id", "id"),
        Index("ix_payment_call_due", "due_at", postgresql_where=text("state = 'waiting'")),
        Index("ix_payment_call_poisoned", "id", postgresql_where=text("state = 'poisoned'")),
        Index(None, "tenant_id", "payment_id"),
        Index("uq_payment_call_refund", "refund_id", unique=True, postgresql_where=text("refund_id IS NOT NULL")),
        Index(
            "uq_payment_call_customer",
            "tenant_id",
            unique=True,
            postgresql_where=text("kind = 'customer' AND state IN ('waiting', 'poisoned')"),
        ),
        Index("uq_payment_call_withdraw", "payment_id", unique=True, postgresql_where=text("kind = 'withdraw'")),
    )

    tenant_id: Mapped[UUID]
    id: Mapped[UUID] = mapped_column(primary_key=True)
    legal_entity_id: Mapped[UUID]
    kind: Mapped[str]
    parameters: Mapped[dict[str, Any]]
    payment_id: Mapped[UUID | None]
    refund_id: Mapped[UUID | None] = mapped_column(ForeignKey("payment_refund.id"))
    state: Mapped[str] = mapped_column(server_default=text("'waiting'"))
    attempts: Mapped[int] = mapped_column(server_default=text("0"))
    retries: Mapped[int] = mapped_column(server_default=text("0"))
    first_tried_at: Mapped[datetime | None]
    due_at: Mapped[datetime] = mapped_column(server_default=func.now())
    service_id: Mapped[str | None]
    url: Mapped[str | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    ended_at: Mapped[datetime | None]


class PaymentCallAttempt(Base):
    """What came of one try. Append-only: the log that a person reads beside a poisoned call."""

    __tablename__ = "payment_call_attempt"
    __table_args__ = (ForeignKeyConstraint(["tenant_id", "call_id"], ["payment_call.tenant_id", "payment_call.id"]),)

    tenant_id: Mapped[UUID] = mapped_column(primary_key=True)
    call_id: Mapped[UUID] = mapped_column(primary_key=True)
    attempt: Mapped[int] = mapped_column(primary_key=True)
    outcome: Mapped[str] = mapped_column(primary_key=True)
    detail: Mapped[str | None]
    at: Mapped[datetime] = mapped_column(server_default=func.now())


class AutoTopUp(Base):
    """A tenant's standing order: below this balance, top up by this net amount, at most so often in a month.

    Failures in a row make it wait (`next_at`), and end it after a few.
    """

    __tablename__ = "auto_top_up"

    tenant_id: Mapped[UUID] = mapped_column(ForeignKey("tenant.id"), primary_key=True)
    is_on: Mapped[bool]
    below_nano: Mapped[int]
    net_nano: Mapped[int]
    most_per_month: Mapped[int]
    failures: Mapped[int] = mapped_column(server_default=text("0"))
    next_at: Mapped[datetime] = mapped_column(server_default=func.now())
    changed_at: Mapped[datetime] = mapped_column(server_default=func.now())


class PaymentEvent(Base):
    """Something that the service told, inserted in the transaction of its effect: so it has its effect once."""

    __tablename__ = "payment_event"

    id: Mapped[str] = mapped_column(primary_key=True)
    kind: Mapped[str]
    object_id: Mapped[str | None]
    happened_at: Mapped[datetime]
    effect: Mapped[str]
    received_at: Mapped[datetime] = mapped_column(server_default=func.now())


class PaymentEventLook(Base):
    """One row: until when the service's own list of events was looked through for any that never arrived."""

    __tablename__ = "payment_event_look"

    one: Mapped[bool] = mapped_column(primary_key=True, server_default=true())
    seen_until: Mapped[datetime]


class PaymentQuarantine(Base):
    """Money that came and is not what was asked for, or that nobody asked for: never credited by itself."""

    __tablename__ = "payment_quarantine"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    service_id: Mapped[str] = mapped_column(unique=True)
    reason: Mapped[str]
    payment_id: Mapped[UUID | None] = mapped_column(ForeignKey("payment.id"))
    currency: Mapped[str]
    amount_minor: Mapped[int]
    opened_at: Mapped[datetime] = mapped_column(server_default=func.now())
    closed_at: Mapped[datetime | None]
    resolution: Mapped[str | None]

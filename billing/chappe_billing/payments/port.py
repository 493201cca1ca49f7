"""The payment service in our words: what it is told, what it answers, and how it fails.

An order names no customer: whoever sends it knows the tenant's by then. What is seen is the service's state at the
moment of looking, and never what an event claims. Amounts are in the currency's minor unit.
"""

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Protocol
from uuid import UUID

from msgspec import Struct

from chappe_billing.payments.models import CallKind, Method


class Order(Struct, frozen=True, kw_only=True, tag_field="kind"):
    """What the service is to be told, as it is kept with its call."""


class MakeCustomer(Order, frozen=True, kw_only=True, tag="customer"):
    name: str
    tenant: str


class OpenCheckout(Order, frozen=True, kw_only=True, tag="checkout"):
    """A hosted page on which somebody pays once. `return_url` is ours; with `save`, the method is kept for later."""

    payment: str
    gross_minor: int
    currency: str
    method: Method
    description: str
    return_url: str
    country: str | None = None
    save: bool = False


class OpenSetup(Order, frozen=True, kw_only=True, tag="setup"):
    """A hosted page on which somebody saves a method, and pays nothing."""

    currency: str
    return_url: str
    methods: tuple[Method, ...]


class Charge(Order, frozen=True, kw_only=True, tag="charge"):
    """A payment by a saved method, with nobody in front of a screen."""

    payment: str
    gross_minor: int
    currency: str
    method: Method
    method_id: str
    description: str


class SendInvoice(Order, frozen=True, kw_only=True, tag="invoice"):
    """An invoice of ours that the service collects by transfer. It is a request for payment there: the invoice in law
    is ours."""

    payment: str
    gross_minor: int
    currency: str
    description: str
    days_until_due: int
    country: str | None = None


class PayBack(Order, frozen=True, kw_only=True, tag="refund"):
    refund: str
    intent_id: str
    gross_minor: int


class ForgetMethod(Order, frozen=True, kw_only=True, tag="forget_method"):
    method_id: str


class WithdrawInvoice(Order, frozen=True, kw_only=True, tag="withdraw"):
    """Ask for an invoice that we sent no more: what it was for is settled otherwise. What was paid stays paid."""

    payment: str
    invoice: str


class ReportUsage(Order, frozen=True, kw_only=True, tag="usage"):
    """A meter event: `value` nanos that were charged at `at`."""

    meter: str
    value: int
    at: datetime


AnyOrder = (
    MakeCustomer
    | OpenCheckout
    | OpenSetup
    | Charge
    | SendInvoice
    | PayBack
    | ForgetMethod
    | WithdrawInvoice
    | ReportUsage
)

KINDS: Mapping[type[Order], CallKind] = {
    MakeCustomer: CallKind.CUSTOMER,
    OpenCheckout: CallKind.CHECKOUT,
    OpenSetup: CallKind.SETUP,
    Charge: CallKind.CHARGE,
    SendInvoice: CallKind.INVOICE,
    PayBack: CallKind.REFUND,
    ForgetMethod: CallKind.FORGET_METHOD,
    WithdrawInvoice: CallKind.WITHDRAW,
    ReportUsage: CallKind.USAGE,
}


class Sending(Struct, frozen=True):
    """An order on its way. The service does it once for each `call_id`, which stays in its metadata."""

    call_id: UUID
    order: AnyOrder
    customer: str | None
    retries: int = 0

    @property
    def key(self) -> str:
        """What makes a repeat find the first."""
        return f"chappe-{self.call_id}" + (f"-{self.retries}" if self.retries else "")


class IntentState(StrEnum):
    WAITING = "waiting"
    """For whoever pays: nothing was tried, or what was tried was refused and may be tried again."""
    PROCESSING = "processing"
    SUCCEEDED = "succeeded"
    CANCELLED = "cancelled"


class PaymentSeen(Struct, frozen=True, kw_only=True):
    """Money that may come. `payment` is the id that we gave it, as its metadata says. `problem`: the last refusal."""

    intent_id: str
    state: IntentState
    customer: str | None
    payment: str | None
    amount_minor: int
    received_minor: int
    currency: str
    live: bool
    method: Method | None = None
    problem: str | None = None


class PageState(StrEnum):
    OPEN = "open"
    COMPLETE = "complete"
    EXPIRED = "expired"


class CheckoutSeen(Struct, frozen=True, kw_only=True):
    """A hosted page. One on which a method was saved has no payment, and `method_id`."""

    session_id: str
    state: PageState
    customer: str | None
    payment: str | None
    live: bool
    paying: PaymentSeen | None = None
    saves_method: bool = False


class RequestState(StrEnum):
    OPEN = "open"
    PAID = "paid"
    WITHDRAWN = "withdrawn"


class RequestSeen(Struct, frozen=True, kw_only=True):
    """An invoice that we sent, which is a request for payment there. `paying` is what paid it."""

    request_id: str
    state: RequestState
    customer: str | None
    payment: str | None
    live: bool
    paying: PaymentSeen | None = None


class CashMove(Struct, frozen=True, kw_only=True):
    """Something that happened to the money that a customer has lying at the service: `net_minor` came to it. A payment
    that it was applied to, or taken from again, is `intent_id`, and `payment` by our own id."""

    move_id: str
    kind: str
    net_minor: int
    currency: str
    intent_id: str | None = None
    payment: str | None = None


class CashSeen(Struct, frozen=True):
    """All that ever happened to it, the oldest first."""

    customer: str
    moves: tuple[CashMove, ...]


class RefundSeen(Struct, frozen=True, kw_only=True):
    """`refund` is our id of it; None when somebody made it at the service by hand. `state` is a `RefundState`."""

    refund_id: str
    state: str
    intent_id: str | None
    refund: str | None
    amount_minor: int
    currency: str
    problem: str | None = None


class DisputeSeen(Struct, frozen=True, kw_only=True):
    """`state` is a `DisputeState`."""

    dispute_id: str
    state: str
    intent_id: str | None
    amount_minor: int
    currency: str
    reason: str
    live: bool


class MethodSeen(Struct, frozen=True, kw_only=True):
    """`expires` is a month, `2028-04`."""

    method_id: str
    kind: Method
    label: str
    expires: str | None = None


class MethodsSeen(Struct, frozen=True):
    customer: str
    methods: tuple[MethodSeen, ...]


Seen = PaymentSeen | CheckoutSeen | RequestSeen | CashSeen | RefundSeen | DisputeSeen | MethodsSeen


class Answer(Struct, frozen=True):
    """What came of an order. `url` is a hosted page's; `seen` what it made, where that moves money."""

    service_id: str
    url: str | None = None
    seen: Seen | None = None


class Subject(StrEnum):
    """What an event is about, of which we look up the present state."""

    CHECKOUT = "checkout"
    PAYMENT = "payment"
    REFUND = "refund"
    DISPUTE = "dispute"
    METHODS = "methods"
    """Of a customer."""
    INVOICE = "invoice"
    CASH = "cash"
    """Of a customer: where its transfers arrive."""


class Event(Struct, frozen=True):
    """That something happened to `object_id`. `subject` is None for kinds that nobody here cares about."""

    id: str
    kind: str
    happened_at: datetime
    subject: Subject | None
    object_id: str | None
    live: bool
    account: str | None = None


class ServiceError(Exception):
    """`detail` is for the operator's log: no key, no card, no text that a tenant chose."""

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail


class Refused(ServiceError):
    """The answer is no, and asking again would not change it: a declined card."""


class TryLater(ServiceError):
    """It may or may not have been done. To send the same again is safe."""

    def __init__(self, detail: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(detail)
        self.retry_after_s = retry_after_s


class Impossible(ServiceError):
    """It can never work as it is."""


class NotGenuine(ServiceError):
    """No event of the service's: a signature that is wrong, missing, too old, or that nobody can check."""


class PaymentService(Protocol):
    """Every method but `read_event` calls out, so none is used within a transaction, and each raises `TryLater`."""

    async def perform(self, sending: Sending) -> Answer:
        """Once for each call, within a day. Raises `Refused` and `Impossible`."""
        ...

    async def find(self, sending: Sending, since: datetime) -> Answer | None:
        """What an earlier `perform` of this call made after `since`, whose answer never arrived. Raises `Impossible`
        where the service cannot say."""
        ...

    async def look(self, subject: Subject, object_id: str) -> Seen | None:
        """As it is now; None if there is none. Raises `Impossible`."""
        ...

    async def open_portal(self, customer: str, return_url: str) -> str:
        """A page of the service's own where the customer sees what it pays by, good for minutes."""
        ...

    async def list_events(self, since: datetime) -> list[Event]:
        """All that happened from `since` on, oldest first."""
        ...

    def read_event(self, raw: bytes, signature: str | None) -> Event:
        """What the service sent, by its signature over these bytes. Raises `NotGenuine`."""
        ...

    async def close(self) -> None: ...

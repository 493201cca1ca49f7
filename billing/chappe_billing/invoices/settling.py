"""What goes to which part of an invoice, and how it is posted. Pure."""

from collections.abc import Iterator, Sequence
from uuid import UUID

from msgspec import Struct

from chappe_billing.invoices.queries import InvoiceHead, OpenPart
from chappe_billing.ledger import service as ledger
from chappe_billing.ledger.postings import Account, AccountKind, Line, Posting, Rail, TransactionKind
from chappe_kernel.ids import LedgerTransactionId, TenantId


class Asked(Struct, frozen=True, kw_only=True):
    """What somebody says happened to an invoice: its kind, how much it was, and under which name."""

    kind: TransactionKind
    amount_nano: int
    reference: str
    reason: str | None = None
    rail: Rail | None = None


class Allocated(Struct, frozen=True):
    """`amounts` are those of the parts, in their order; `over_nano` is what is left when all of them are settled."""

    amounts: tuple[int, ...]
    over_nano: int


def allocate(parts: Sequence[OpenPart], amount_nano: int) -> Allocated:
    """The first part first."""
    amounts = []
    for part in parts:
        taken = max(0, min(part.open_nano, amount_nano))
        amounts.append(taken)
        amount_nano -= taken
    return Allocated(tuple(amounts), amount_nano)


def references(reference: str, count: int) -> list[str]:
    """One for each transaction of what is one thing to the world."""
    return [reference, *(f"{reference} ({number})" for number in range(2, count + 1))]


def postings(
    head: InvoiceHead, parts: Sequence[OpenPart], allocated: Allocated, asked: Asked, counter: AccountKind
) -> list[Posting]:
    """A transaction for each tenant whose part is settled, from `counter`; what is over goes to the payer's funds."""
    moved: list[tuple[TenantId, UUID | None, int, int]] = []
    for part, amount in zip(parts, allocated.amounts, strict=True):
        over = allocated.over_nano if part.tenant_id == head.tenant_id else 0
        if amount or over:
            moved.append((part.tenant_id, part.transaction_id, amount, over))
    if allocated.over_nano and all(part.tenant_id != head.tenant_id for part in parts):
        moved.append((head.tenant_id, None, 0, allocated.over_nano))
    names = iter(references(asked.reference, len(moved)))
    return [
        Posting(
            id=ledger.new_transaction_id(),
            kind=asked.kind,
            tenant_id=tenant_id,
            currency=head.currency,
            lines=tuple(_lines(head, tenant_id, amount, over, counter)),
            reference=next(names),
            reason=asked.reason,
            rail=asked.rail,
            reverses=None if invoiced is None else LedgerTransactionId(invoiced),
        )
        for tenant_id, invoiced, amount, over in moved
    ]


def _lines(head: InvoiceHead, tenant_id: TenantId, amount: int, over: int, counter: AccountKind) -> Iterator[Line]:
    if amount:
        yield Line(account_of(head, AccountKind.RECEIVABLE, tenant_id), amount)
    if over:
        yield Line(account_of(head, AccountKind.TENANT_FUNDS, tenant_id), over)
    yield Line(account_of(head, counter), -amount - over)


def account_of(head: InvoiceHead, kind: AccountKind, tenant_id: TenantId | None = None) -> Account:
    return Account(kind, head.currency, head.legal_entity_id, tenant_id=tenant_id)

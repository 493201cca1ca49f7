"""What goes to which part of an invoice, and how it is posted. Pure."""

from collections.abc import Iterator, Sequence
from uuid import UUID

from msgspec import Struct

from chappe_billing.invoices.queries import InvoiceHead, OpenPart
from chappe_billing.ledger import service as ledger
from chappe_billing.ledger.postings import Account, AccountKind, Line, Posting, Rail, TransactionKind
from chappe_kernel.ids import LedgerTransactionId, TenantId


class Asked(Struct, frozen=True, kw_only=True):
    """What somebody says happened to an invoice: its kind, how much it was (all that is open, if they don't say), and
    under which name."""

    kind: TransactionKind
    amount_nano: int | None
    reference: str
    reason: str | None = None
    rail: Rail | None = None
    reclaims_tax: bool = False
    """Of a write-off: the tax of what is given up is not owed any more."""


class Allocated(Struct, frozen=True):
    """`amounts` are those of the parts, in their order; `over_nano` is what is left when all of them are settled.
    `taxes` is what of each is tax that the seller does not owe any more, if anything is."""

    amounts: tuple[int, ...]
    over_nano: int
    taxes: tuple[int, ...] = ()


class _Amounts(Struct, frozen=True):
    """Of one transaction: what of the part it settles, what goes to funds, and what of the first is tax taken back."""

    settled_nano: int
    over_nano: int
    tax_nano: int = 0


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


def tax_within(amount_nano: int, *, gross_nano: int, tax_nano: int) -> int:
    """The tax in `amount_nano` of what comes to `gross_nano`: in proportion, cut off, and all of it with the whole."""
    return tax_nano * amount_nano // gross_nano if gross_nano > 0 else 0


def postings(
    head: InvoiceHead, parts: Sequence[OpenPart], allocated: Allocated, asked: Asked, counter: AccountKind
) -> list[Posting]:
    """A transaction for each tenant whose part is settled, from `counter`; what is over goes to the payer's funds."""
    moved: list[tuple[TenantId, UUID | None, _Amounts]] = []
    taxes = allocated.taxes or (0,) * len(parts)
    for part, amount, tax in zip(parts, allocated.amounts, taxes, strict=True):
        over = allocated.over_nano if part.tenant_id == head.tenant_id else 0
        if amount or over:
            moved.append((part.tenant_id, part.transaction_id, _Amounts(amount, over, tax)))
    if allocated.over_nano and all(part.tenant_id != head.tenant_id for part in parts):
        moved.append((head.tenant_id, None, _Amounts(0, allocated.over_nano)))
    names = iter(references(asked.reference, len(moved)))
    return [
        Posting(
            id=ledger.new_transaction_id(),
            kind=asked.kind,
            tenant_id=tenant_id,
            currency=head.currency,
            lines=tuple(_lines(head, tenant_id, amounts, counter)),
            reference=next(names),
            reason=asked.reason,
            rail=asked.rail,
            reverses=None if invoiced is None else LedgerTransactionId(invoiced),
        )
        for tenant_id, invoiced, amounts in moved
    ]


def _lines(head: InvoiceHead, tenant_id: TenantId, amounts: _Amounts, counter: AccountKind) -> Iterator[Line]:
    if amounts.settled_nano:
        yield Line(account_of(head, AccountKind.RECEIVABLE, tenant_id), amounts.settled_nano)
    if amounts.over_nano:
        yield Line(account_of(head, AccountKind.TENANT_FUNDS, tenant_id), amounts.over_nano)
    yield Line(account_of(head, counter), amounts.tax_nano - amounts.settled_nano - amounts.over_nano)
    if amounts.tax_nano:
        yield Line(account_of(head, AccountKind.VAT_PAYABLE), -amounts.tax_nano)


def account_of(head: InvoiceHead, kind: AccountKind, tenant_id: TenantId | None = None) -> Account:
    return Account(kind, head.currency, head.legal_entity_id, tenant_id=tenant_id)

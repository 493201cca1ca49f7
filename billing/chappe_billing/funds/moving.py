"""Which accounts each movement of funds goes between, and how much of it is allowed. Pure."""

from collections.abc import Mapping
from enum import StrEnum

from msgspec import Struct

from chappe_billing.ledger.postings import Account, AccountKind, Line, TransactionKind
from chappe_kernel.errors import Invalid
from chappe_kernel.ids import LegalEntityId, TenantId
from chappe_kernel.money import NANO_PER_UNIT, format_nano

MAX_AMOUNT_NANO = 10**9 * NANO_PER_UNIT
"""A billion units of currency: a typing error. It also keeps a budget within 64 bits for a while."""


class Direction(StrEnum):
    INTO_FUNDS = "into funds"
    OUT_OF_FUNDS = "out of funds"


class Way(Struct, frozen=True):
    """`counter` is the account on the other side. `needs_payment`: it names the payment that it takes back."""

    direction: Direction
    counter: AccountKind
    needs_payment: bool = False


WAYS: Mapping[TransactionKind, Way] = {
    TransactionKind.TOP_UP: Way(Direction.INTO_FUNDS, AccountKind.PAYMENT_CLEARING),
    TransactionKind.REFUND: Way(Direction.OUT_OF_FUNDS, AccountKind.PAYMENT_CLEARING),
    TransactionKind.CHARGEBACK: Way(Direction.OUT_OF_FUNDS, AccountKind.PAYMENT_CLEARING, needs_payment=True),
    TransactionKind.GOODWILL_CREDIT: Way(Direction.INTO_FUNDS, AccountKind.PROMOTIONAL_CREDIT),
    TransactionKind.WRITE_OFF: Way(Direction.INTO_FUNDS, AccountKind.WRITE_OFF),
}
"""What the operator may do to a tenant's funds by hand."""

REVERSIBLE = frozenset(
    {
        *WAYS,
        TransactionKind.WELCOME_CREDIT,
        TransactionKind.VOLUME_DISCOUNT,
        TransactionKind.MINIMUM_FEE,
        TransactionKind.COMMITMENT_FEE,
    }
)
"""Not usage, which is corrected request by request, and not what is a correction itself."""


class Standing(Struct, frozen=True):
    """A tenant's money under its lock. `free_nano` is its own unspent and unheld money, without the credit limit,
    `debt_nano` what it owes that is on no invoice, `paid_in_nano` what came from its bank and did not go back,
    `payment_rest_nano` what is left of the payment."""

    free_nano: int
    debt_nano: int
    paid_in_nano: int
    payment_rest_nano: int | None = None


def check_amount(kind: TransactionKind, amount_nano: int, standing: Standing) -> None:
    """Raises `Invalid` for more than there is to move.

    A refund pays out what the tenant paid in and neither spent nor has out at gateways: gifts are never paid out. A
    chargeback is the bank's decision, and only bounded by its payment. Only debt can be written off so, and not that of
    invoices.
    """
    if not 0 < amount_nano <= MAX_AMOUNT_NANO:
        raise Invalid("an amount is over 0 and at most a billion", code="invalid_amount", param="amount")
    bounds = []
    if standing.payment_rest_nano is not None:
        bounds.append(("of this payment there is left", standing.payment_rest_nano))
    if kind is TransactionKind.REFUND:
        bounds += [("of the tenant's funds are free", standing.free_nano), ("was paid in", standing.paid_in_nano)]
    if kind is TransactionKind.WRITE_OFF:
        bounds.append(("is the tenant's debt beside its invoices", standing.debt_nano))
    for what, bound_nano in bounds:
        if amount_nano > bound_nano:
            raise Invalid(f"{format_nano(max(0, bound_nano))} {what}", code="amount_too_large", param="amount")


def lines_of(
    kind: TransactionKind,
    amount_nano: int,
    currency: str,
    legal_entity_id: LegalEntityId,
    tenant_id: TenantId,
    *,
    tax_nano: int = 0,
) -> tuple[Line, ...]:
    """The tenant's funds first, and last the tax that goes the same way, if there is any."""
    way = WAYS[kind]
    sign = 1 if way.direction is Direction.INTO_FUNDS else -1
    funds = Account(AccountKind.TENANT_FUNDS, currency, legal_entity_id, tenant_id=tenant_id)
    lines = (
        Line(funds, sign * amount_nano),
        Line(Account(way.counter, currency, legal_entity_id), -sign * (amount_nano + tax_nano)),
    )
    if not tax_nano:
        return lines
    return (*lines, Line(Account(AccountKind.VAT_PAYABLE, currency, legal_entity_id), sign * tax_nano))


class Part(Struct, frozen=True):
    """Of a payment that is taken back."""

    net_nano: int
    tax_nano: int


def tax_with(net_nano: int, *, left_net_nano: int, left_tax_nano: int) -> int:
    """The tax that goes back with `net_nano` of what is left of a payment: in proportion, cut off to the nano, and all
    of it with the whole."""
    return left_tax_nano * min(net_nano, left_net_nano) // left_net_nano if left_net_nano > 0 else 0


def split_gross(gross_nano: int, *, left_net_nano: int, left_tax_nano: int) -> Part:
    """What of `gross_nano`, at most all that is left of a payment, is net and what is tax: in proportion, and to the
    nano together."""
    left_gross_nano = left_net_nano + left_tax_nano
    if not 0 < gross_nano <= left_gross_nano:
        raise Invalid("there is not so much left of the payment", code="amount_too_large", param="amount")
    net_nano = left_net_nano * gross_nano // left_gross_nano
    return Part(net_nano, gross_nano - net_nano)


def unused_of(*, left_net_nano: int, left_tax_nano: int, used_nano: int) -> Part:
    """What of a payment no invoice has used. The tax of what was used stays, in proportion, at most a nano short."""
    net_nano = max(0, left_net_nano - max(0, used_nano))
    if net_nano == 0:
        return Part(0, 0)
    return Part(net_nano, left_tax_nano - left_tax_nano * (left_net_nano - net_nano) // left_net_nano)


def most_refundable(*, left_net_nano: int, left_tax_nano: int, used_nano: int) -> int:
    """The most gross nanos of which `split_gross` takes nothing that an invoice has used."""
    net_nano = unused_of(left_net_nano=left_net_nano, left_tax_nano=left_tax_nano, used_nano=used_nano).net_nano
    return (left_net_nano + left_tax_nano) * net_nano // left_net_nano if net_nano else 0

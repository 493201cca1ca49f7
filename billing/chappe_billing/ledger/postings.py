"""What is posted: accounts, lines and transactions, as plain values."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import lru_cache
from typing import Any
from uuid import NAMESPACE_OID, UUID, uuid5

from chappe_kernel.ids import LedgerTransactionId, LegalEntityId, PublisherId, TenantId
from chappe_tenants.legal_entities.models import DEFAULT_LEGAL_ENTITY_ID

BASIS_POINTS = 10_000
"""What shares and discounts are parts of."""


class AccountKind(StrEnum):
    """The chart of accounts, the same in every legal entity's books."""

    TENANT_FUNDS = "tenant_funds"
    """What a tenant has with us, one account for each tenant."""
    RECEIVABLE = "receivable"
    """What a tenant was invoiced and has not paid, one account for each tenant."""
    REVENUE = "revenue"
    """What was sold, less the publishers' shares: one account for each region, and one for what belongs to none."""
    PUBLISHER_PAYABLE = "publisher_payable"
    """What publishers earned, by region, and what they were paid of it, in an account of no region."""
    VAT_PAYABLE = "vat_payable"
    """Tax that was invoiced and is the state's."""
    PAYMENT_CLEARING = "payment_clearing"
    """Money on its way between tenants' banks and ours."""
    PROMOTIONAL_CREDIT = "promotional_credit"
    """What the operator gave away."""
    ROUNDING = "rounding"
    """What invoices' lines lose or gain when they are rounded to the minor unit."""
    WRITE_OFF = "write_off"
    """What nobody pays: the operator's loss."""
    SUSPENSE = "suspense"
    """Money that came in and nobody knows yet for whom."""


TENANT_ACCOUNTS = frozenset({AccountKind.TENANT_FUNDS, AccountKind.RECEIVABLE})
"""A budget's funds are the sum of both: what was invoiced and is not paid uses up what may be spent."""


class TransactionKind(StrEnum):
    WELCOME_CREDIT = "welcome_credit"
    USAGE = "usage"
    USAGE_CORRECTION = "usage_correction"
    """Reverses a part of posted usage, in the tenant's favour."""
    TOP_UP = "top_up"
    REFUND = "refund"
    """A tenant's unused funds, paid out; without a tenant, a payment in suspense that went back."""
    CHARGEBACK = "chargeback"
    """A payment that the tenant's bank took back."""
    GOODWILL_CREDIT = "goodwill_credit"
    VOLUME_DISCOUNT = "volume_discount"
    """What a month's volume earned back, at cut-off."""
    MINIMUM_FEE = "minimum_fee"
    """What a month's usage lacks to the agreed minimum, at cut-off."""
    COMMITMENT_FEE = "commitment_fee"
    """What a commitment's period lacks, at its end."""
    INVOICE = "invoice"
    """What a tenant owes by an invoice, with its tax."""
    CREDIT_NOTE = "credit_note"
    """Takes back an invoice, or a part of it."""
    PAYMENT = "payment"
    """Of what was invoiced."""
    WRITE_OFF = "write_off"
    """A tenant's debt, or usage that cannot be posted, given up."""
    SUSPENSE = "suspense"
    """Money that came in without a tenant's name."""
    PUBLISHER_SHARE = "publisher_share"
    """A publisher's share outside of usage: paid out, or put right."""
    REVERSAL = "reversal"
    """Takes back the whole of what it names."""


class Rail(StrEnum):
    """On which way money came or went."""

    BANK_TRANSFER = "bank_transfer"
    DIRECT_DEBIT = "direct_debit"
    CARD = "card"
    CASH = "cash"
    OTHER = "other"


@dataclass(frozen=True)
class Account:
    """An account by what it is. Its id follows from that, so that nobody has to look it up or race to make it."""

    kind: AccountKind
    currency: str
    legal_entity_id: LegalEntityId
    tenant_id: TenantId | None = None
    region: str | None = None
    publisher_id: PublisherId | None = None

    @property
    def id(self) -> UUID:
        # Accounts are older than entities and publishers: what they have of neither keeps its id.
        entity = "" if self.legal_entity_id == DEFAULT_LEGAL_ENTITY_ID else f" entity {self.legal_entity_id}"
        publisher = "" if self.publisher_id is None else f" publisher {self.publisher_id}"
        return _named(f"{self.kind} {self.currency} {self.tenant_id or '-'} {self.region or '-'}{entity}{publisher}")


@lru_cache(maxsize=10_000)
def _named(name: str) -> UUID:
    return uuid5(NAMESPACE_OID, name)


@dataclass(frozen=True)
class Line:
    """Positive credits the account, negative debits it."""

    account: Account
    amount_nano: int


@dataclass(frozen=True)
class Share:
    """What a publisher gets of a listing's usage in one transaction; see `PublisherShare`. Kept beside its line."""

    listing_id: UUID
    publisher_id: PublisherId
    region: str
    share_bp: int
    base_nano: int
    taken_nano: int | None = None
    """What is taken back, where that is not what the terms say of the sum: shares are cut off batch by batch."""

    @property
    def share_nano(self) -> int:
        """Cut off towards zero: never more than the terms say, whether it is given or taken back."""
        whole = abs(self.base_nano) * self.share_bp // BASIS_POINTS
        if self.base_nano >= 0:
            return whole
        return -(whole if self.taken_nano is None else self.taken_nano)

    def taking(self, taken_nano: int) -> "Share":
        return replace(self, taken_nano=taken_nano)


@dataclass(frozen=True)
class Posting:
    """One transaction to be posted: lines that are not zero and sum to zero, in one legal entity's books.

    `reference` is unique within the entity: a second posting with it is refused. `reverses` names a transaction that
    this one takes back, in part or as a whole.
    """

    id: LedgerTransactionId
    kind: TransactionKind
    tenant_id: TenantId | None
    currency: str
    lines: tuple[Line, ...]
    reference: str | None = None
    reason: str | None = None
    rail: Rail | None = None
    reverses: LedgerTransactionId | None = None
    shares: tuple[Share, ...] = ()
    topic: str = "ledger.posted"
    """Of the message that announces it."""
    announced: Mapping[str, Any] = field(default_factory=dict)
    """What that message says beside what every one says."""

    @property
    def legal_entity_id(self) -> LegalEntityId:
        return self.lines[0].account.legal_entity_id

    @property
    def funds_nano(self) -> int:
        """What it does to the tenant's funds, together with what the tenant owes by invoices."""
        return sum(line.amount_nano for line in self.lines if line.account.kind in TENANT_ACCOUNTS)

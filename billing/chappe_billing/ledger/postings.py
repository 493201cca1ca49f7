"""What is posted: accounts, lines and transactions, as plain values."""

from dataclasses import dataclass
from enum import StrEnum
from uuid import NAMESPACE_OID, UUID, uuid5

from chappe_kernel.ids import LedgerTransactionId, TenantId


class AccountKind(StrEnum):
    TENANT_FUNDS = "tenant_funds"
    """What a tenant has with us, one account for each tenant."""
    PROMOTIONAL_CREDIT = "promotional_credit"
    """What the operator gave away."""
    REVENUE = "revenue"
    """Usage sold, one account for each region."""
    WRITE_OFF = "write_off"
    """Usage that nobody pays: the operator's loss."""


class TransactionKind(StrEnum):
    WELCOME_CREDIT = "welcome_credit"
    USAGE = "usage"


@dataclass(frozen=True)
class Account:
    """An account by what it is. Its id follows from that, so that nobody has to look it up or race to make it."""

    kind: AccountKind
    currency: str
    tenant_id: TenantId | None = None
    region: str | None = None

    @property
    def id(self) -> UUID:
        return uuid5(NAMESPACE_OID, f"{self.kind} {self.currency} {self.tenant_id or '-'} {self.region or '-'}")


@dataclass(frozen=True)
class Line:
    """Positive credits the account, negative debits it."""

    account: Account
    amount_nano: int


@dataclass(frozen=True)
class Posting:
    """One transaction to be posted: lines that are not zero and sum to zero, in one currency."""

    id: LedgerTransactionId
    kind: TransactionKind
    tenant_id: TenantId
    currency: str
    lines: tuple[Line, ...]

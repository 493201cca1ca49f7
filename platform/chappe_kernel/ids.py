"""Identifiers: UUIDv7 inside, a readable prefix at the edge (`ten_01jq…`, the TypeID 0.3 encoding).

The encoding is 26 lower-case Crockford base32 digits of the 128 bits, so that ids sort by their time.
"""

from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import NewType
from uuid import UUID

from uuid_utils.compat import uuid7

from chappe_kernel.errors import Invalid

TenantId = NewType("TenantId", UUID)
ProjectId = NewType("ProjectId", UUID)
KeyId = NewType("KeyId", UUID)
AccountId = NewType("AccountId", UUID)
ServiceAccountId = NewType("ServiceAccountId", UUID)
MemberId = NewType("MemberId", UUID)
InvitationId = NewType("InvitationId", UUID)
OperatorUserId = NewType("OperatorUserId", UUID)
OperatorTokenId = NewType("OperatorTokenId", UUID)
RequestId = NewType("RequestId", UUID)
GrantId = NewType("GrantId", UUID)
PriceVersionId = NewType("PriceVersionId", UUID)
ListingId = NewType("ListingId", UUID)
PublisherId = NewType("PublisherId", UUID)
LegalEntityId = NewType("LegalEntityId", UUID)
LedgerTransactionId = NewType("LedgerTransactionId", UUID)
QuotaId = NewType("QuotaId", UUID)
QuotaRaiseId = NewType("QuotaRaiseId", UUID)
PriceDraftId = NewType("PriceDraftId", UUID)
ContractTermId = NewType("ContractTermId", UUID)
InvoiceId = NewType("InvoiceId", UUID)
InvoiceRunId = NewType("InvoiceRunId", UUID)

TENANT = "ten"
PROJECT = "prj"
KEY = "key"
SERVICE_ACCOUNT = "sva"
MEMBER = "mem"
INVITATION = "inv"
REQUEST = "req"
PRICE_VERSION = "prc"
LISTING = "lst"
AUDIT_ENTRY = "aud"
LEDGER_TRANSACTION = "txn"
LEGAL_ENTITY = "ent"
PUBLISHER = "pub"
DISCREPANCY = "dsc"
OPERATOR_TOKEN = "otk"  # noqa: S105 -- a prefix, and no secret
QUOTA = "quo"
QUOTA_RAISE = "rse"
PRICE_DRAFT = "prd"
CONTRACT_TERM = "ctm"
WEBHOOK = "whk"
WEBHOOK_DELIVERY = "whd"
EVENT = "evt"
ALERT = "alt"
PAYMENT = "pay"
REFUND = "rfd"
PAYMENT_CALL = "pcl"
QUARANTINED_PAYMENT = "qpm"
INVOICE = "ivc"
INVOICE_RUN = "ivr"

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_PAIRS = tuple(high + low for high in _ALPHABET for low in _ALPHABET)
_VALUES = {digit: value for value, digit in enumerate(_ALPHABET)}
_DIGITS = 26
_FORTY_BITS = (1 << 40) - 1
_UNIX_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LAST_MS = 253_000_000_000_000  # in the year 9987: later ones no date can hold


def new_id() -> UUID:
    """A fresh UUIDv7: time-ordered within one process, unique everywhere."""
    return uuid7()


def time_of(value: UUID) -> datetime:
    """When an id was made, to the millisecond, by its maker's clock. Of what is no UUIDv7 it says nothing."""
    return _UNIX_EPOCH + timedelta(milliseconds=min(value.int >> 80, _LAST_MS))


def first_id_after(moment: datetime) -> UUID:
    """The least id whose time is later than `moment`."""
    return UUID(int=((moment - _UNIX_EPOCH) // timedelta(milliseconds=1) + 1) << 80)


def encode_id(prefix: str, value: UUID) -> str:
    """`prefix_` and 26 base32 digits."""
    number = value.int
    first, second = number >> 40 & _FORTY_BITS, number & _FORTY_BITS
    # Without a loop, and what an id's time gives once for each millisecond: every request pays for it.
    return (
        f"{prefix}_{_time_digits(number >> 80)}"
        f"{_PAIRS[first >> 30]}{_PAIRS[first >> 20 & 1023]}{_PAIRS[first >> 10 & 1023]}{_PAIRS[first & 1023]}"
        f"{_PAIRS[second >> 30]}{_PAIRS[second >> 20 & 1023]}{_PAIRS[second >> 10 & 1023]}{_PAIRS[second & 1023]}"
    )


@lru_cache(64)
def _time_digits(high: int) -> str:
    """Of an id's first 48 bits."""
    return "".join([_PAIRS[high >> shift & 1023] for shift in range(40, -1, -10)])


def decode_id(prefix: str, text: str) -> UUID:
    """The inverse of `encode_id`. Raises `Invalid` for another prefix or anything that is not canonical."""
    head, _, digits = text.partition("_")
    if head != prefix or len(digits) != _DIGITS or digits[0] > "7":
        raise Invalid(f"not an id of the form {prefix}_…", code="invalid_id")
    number = 0
    for digit in digits:
        value = _VALUES.get(digit)
        if value is None:
            raise Invalid(f"not an id of the form {prefix}_…", code="invalid_id")
        number = number << 5 | value
    return UUID(int=number)

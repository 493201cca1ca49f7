"""Contract terms as the API shows them and takes them."""

from datetime import UTC, date, datetime
from typing import Annotated

from msgspec import Meta, Struct

from chappe_billing.contract_terms.models import ContractTerm
from chappe_billing.contract_terms.reckoning import TermKind, Tier
from chappe_billing.contract_terms.service import MAX_TIERS
from chappe_billing.cut_off.models import CutOffEntry
from chappe_kernel.ids import CONTRACT_TERM, LEDGER_TRANSACTION, encode_id
from chappe_kernel.money import format_nano, parse_nano

Month = Annotated[str, Meta(pattern=r"^20[0-9]{2}-(0[1-9]|1[0-2])$", description="A month of UTC, `YYYY-MM`.")]
Money = Annotated[str, Meta(pattern=r"^[0-9]{1,9}(\.[0-9]{1,9})?$", description="A decimal string.")]
SignedAmount = Annotated[str, Meta(pattern=r"^-?[0-9]+\.[0-9]{9}$", description="A decimal string.")]
BasisPoints = Annotated[int, Meta(ge=0, le=10_000, description="Hundredths of a per cent.")]


class TierTerms(Struct, frozen=True, forbid_unknown_fields=True):
    """Of what was used in a month from this amount on, up to the next tier, so much is given back."""

    above: Money
    basis_points: BasisPoints


class AgreeTerm(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A volume discount has tiers; a minimum a month's amount; a commitment an amount for all of its months."""

    kind: TermKind
    first_month: Month
    last_month: Annotated[Month | None, Meta(description="Included; null goes on until it is ended.")] = None
    amount: Money | None = None
    tiers: Annotated[list[TierTerms], Meta(max_length=MAX_TIERS)] = []


class TermView(Struct, frozen=True, kw_only=True):
    id: Annotated[str, Meta(pattern="^ctm_")]
    kind: TermKind
    first_month: Month
    last_month: Month | None
    amount: SignedAmount | None
    tiers: list[TierTerms]
    created_at: datetime


class CutOffEntryView(Struct, frozen=True, kw_only=True):
    """What a term did at a month's end. A fee is negative."""

    month: Month
    term_id: Annotated[str, Meta(pattern="^ctm_")]
    reckoned_from: SignedAmount
    amount: SignedAmount
    transaction_id: str | None


def show_term(term: ContractTerm) -> TermView:
    return TermView(
        id=encode_id(CONTRACT_TERM, term.id),
        kind=TermKind(term.kind),
        first_month=show_month(term.first_month),
        last_month=None if term.last_month is None else show_month(term.last_month),
        amount=None if term.amount_nano is None else format_nano(term.amount_nano),
        tiers=[
            TierTerms(format_nano(above), basis_points)
            for above, basis_points in zip(term.tier_from_nano, term.tier_basis_points, strict=True)
        ],
        created_at=term.created_at,
    )


def show_entry(entry: CutOffEntry) -> CutOffEntryView:
    return CutOffEntryView(
        month=show_month(entry.month),
        term_id=encode_id(CONTRACT_TERM, entry.term_id),
        reckoned_from=format_nano(entry.base_nano),
        amount=format_nano(entry.amount_nano),
        transaction_id=None if entry.transaction_id is None else encode_id(LEDGER_TRANSACTION, entry.transaction_id),
    )


def read_tiers(terms: list[TierTerms]) -> list[Tier]:
    return [Tier(parse_nano(tier.above), tier.basis_points) for tier in terms]


def show_month(month: date) -> str:
    return month.strftime("%Y-%m")


def read_month(text: str) -> date:
    """Its first day."""
    return datetime.strptime(text, "%Y-%m").replace(tzinfo=UTC).date()

"""Prices as the API shows them and takes them: decimal strings, per million tokens and per unit of the rest."""

from datetime import datetime
from typing import Annotated

from msgspec import Meta, Struct

from chappe_billing.prices.models import PriceVersion, PriceWithdrawal
from chappe_billing.prices.queries import price_of
from chappe_billing.prices.service import MAX_REASON_LENGTH
from chappe_kernel.errors import Invalid
from chappe_kernel.ids import PRICE_DRAFT, PRICE_VERSION, TENANT, encode_id
from chappe_kernel.money import format_nano, parse_nano
from chappe_kernel.rating import Price

_MILLION = 1_000_000

PerMillion = Annotated[
    str,
    Meta(
        pattern=r"^[0-9]{1,9}(\.[0-9]{1,3}0{0,6})?$",
        description="A decimal string, per million tokens: a multiple of 0.001, so that a token costs whole nanos.",
    ),
]
PerUnit = Annotated[str, Meta(pattern=r"^[0-9]{1,6}(\.[0-9]{1,9})?$", description="A decimal string.")]
Reason = Annotated[str, Meta(min_length=1, max_length=MAX_REASON_LENGTH, description="Why; it is kept.")]
BasisPoints = Annotated[int, Meta(ge=0, le=10_000, description="Hundredths of a per cent.")]


class TokenTerms(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Of a prompt's token, of one whose work was cached, and of a completion's."""

    input: PerMillion
    cached_input: PerMillion
    output: PerMillion


class PriceTerms(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A whole price. Seconds are those of sound or video."""

    per_million_tokens: TokenTerms
    per_request: PerUnit = "0"
    per_second: PerUnit = "0"
    per_image: PerUnit = "0"


class GiveReason(Struct, frozen=True, forbid_unknown_fields=True):
    reason: Reason


class VersionView(Struct, frozen=True, kw_only=True):
    """A published price, which never changes."""

    id: Annotated[str, Meta(pattern="^prc_")]
    model: str
    region: str
    currency: str
    tenant_id: Annotated[str | None, Meta(description="Whose own price it is; null is everybody's.")]
    for_batches: Annotated[bool, Meta(description="Whether it is of batches' lines, and of nothing else.")]
    discount_basis_points: Annotated[
        BasisPoints | None, Meta(description="It follows the list price, less this many hundredths of a per cent.")
    ]
    starts_at: datetime
    published_at: datetime
    price: PriceTerms
    draft_id: Annotated[str | None, Meta(description="What it was published from; null is the catalogue, or a revert.")]
    reverts: Annotated[str | None, Meta(description="The version whose mistake it ended.")]
    reason: str | None
    withdrawn_at: datetime | None
    withdrawn_for: str | None


def show_version(version: PriceVersion, model: str, withdrawal: PriceWithdrawal | None = None) -> VersionView:
    return VersionView(
        id=encode_id(PRICE_VERSION, version.id),
        model=model,
        region=version.region,
        currency=version.currency,
        tenant_id=None if version.tenant_id is None else encode_id(TENANT, version.tenant_id),
        for_batches=version.for_batches,
        discount_basis_points=version.discount_basis_points,
        starts_at=version.starts_at,
        published_at=version.created_at,
        price=show_price(price_of(version)),
        draft_id=None if version.draft_id is None else encode_id(PRICE_DRAFT, version.draft_id),
        reverts=None if version.reverts_id is None else encode_id(PRICE_VERSION, version.reverts_id),
        reason=version.reason,
        withdrawn_at=None if withdrawal is None else withdrawal.withdrawn_at,
        withdrawn_for=None if withdrawal is None else withdrawal.reason,
    )


def show_price(price: Price) -> PriceTerms:
    return PriceTerms(
        per_million_tokens=TokenTerms(
            input=_per_million(price.input_nano_per_token),
            cached_input=_per_million(price.cached_input_nano_per_token),
            output=_per_million(price.output_nano_per_token),
        ),
        per_request=format_nano(price.request_nano),
        per_second=format_nano(price.second_nano),
        per_image=format_nano(price.image_nano),
    )


def read_price(terms: PriceTerms) -> Price:
    """Raises `Invalid` for a token that does not cost whole nanos."""
    tokens = terms.per_million_tokens
    return Price(
        input_nano_per_token=_per_token(tokens.input),
        cached_input_nano_per_token=_per_token(tokens.cached_input),
        output_nano_per_token=_per_token(tokens.output),
        request_nano=parse_nano(terms.per_request),
        second_nano=parse_nano(terms.per_second),
        image_nano=parse_nano(terms.per_image),
    )


def _per_million(nano_per_token: int) -> str:
    return format_nano(nano_per_token * _MILLION)


def _per_token(text: str) -> int:
    nano_per_token, rest = divmod(parse_nano(text), _MILLION)
    if rest:
        raise Invalid("a price per million tokens is a multiple of 0.001", code="invalid_price")
    return nano_per_token

"""What an organisation pays: for each model in each region now and later, and by its contract for whole months."""

from collections.abc import Mapping
from datetime import datetime
from http import HTTPStatus
from typing import Annotated
from uuid import UUID

from litestar import get
from msgspec import Meta, Struct

from chappe_billing.contract_terms.queries import list_terms
from chappe_billing.contract_terms.schemas import TermView, show_term
from chappe_billing.prices.queries import own_discounts
from chappe_billing.prices.schemas import BasisPoints, PriceTerms, show_price
from chappe_control.authentication import TenantRequest
from chappe_control.cursors import cut_page, decode_cursor
from chappe_control.permissions import Permission
from chappe_control.public import answers
from chappe_control.public.parameters import DEFAULT_LIMIT, Cursor, Limit
from chappe_control.snapshot import read_listings
from chappe_control.state import Given
from chappe_kernel.ids import PRICE_VERSION, encode_id
from chappe_kernel.wire import control as wire
from chappe_store.queries import read_now

_TAG = "Prices"


class OwnPriceView(Struct, frozen=True, kw_only=True):
    """A published price, which never changes. It holds until the next one of the same model and region starts."""

    price_version: Annotated[str, Meta(pattern="^prc_")]
    starts_at: datetime
    price: PriceTerms
    by_contract: Annotated[bool, Meta(description="Whether it is your own, and not everybody's.")]
    discount_basis_points: Annotated[
        BasisPoints | None, Meta(description="It follows the list price, less this many hundredths of a per cent.")
    ]


class PaidView(Struct, frozen=True, kw_only=True):
    model: str
    region: str
    currency: str
    in_force: Annotated[OwnPriceView | None, Meta(description="What a request costs now; null: not sold there yet.")]
    scheduled: Annotated[list[OwnPriceView], Meta(description="What it will cost, in the order of their starts.")]


class PaidList(Struct, frozen=True):
    items: list[PaidView]


class OwnTerms(Struct, frozen=True):
    items: list[TermView]
    next_cursor: str | None


@get(
    "/prices",
    permission=Permission.READ_MARKETPLACE,
    tags=[_TAG],
    summary="List your prices",
    operation_id="list_own_prices",
    responses=answers.READ,
)
async def list_own_prices(request: TenantRequest, services: Given) -> PaidList:
    """What you pay for each model in each region, by your contract where it says so, else as everybody; and what is
    published to start later."""
    scope = request.auth.scope
    async with services.database.tenant(scope) as session:
        now = await read_now(session)
        listings = await read_listings(session, now, scope)
        own = await own_discounts(session, scope)
    return PaidList(
        [
            PaidView(
                model=listing.name,
                region=offer.region,
                currency=listing.currency,
                in_force=next((_show(one, own) for one in reversed(offer.prices) if one.starts_at <= now), None),
                scheduled=[_show(one, own) for one in offer.prices if one.starts_at > now],
            )
            for listing in listings
            for offer in listing.regions
        ]
    )


@get(
    "/contract-terms",
    permission=Permission.READ_BALANCE,
    tags=[_TAG],
    summary="List your contract's terms",
    operation_id="list_own_contract_terms",
    responses=answers.problems(HTTPStatus.BAD_REQUEST),
)
async def list_own_terms(
    request: TenantRequest, services: Given, limit: Limit = DEFAULT_LIMIT, cursor: Cursor = None
) -> OwnTerms:
    """Volume discounts, minimums and commitments, the newest first, those included that are over. What they come to is
    posted an hour after each month's end."""
    async with services.database.tenant(request.auth.scope) as session:
        rows = await list_terms(session, request.auth.scope, limit=limit + 1, before=decode_cursor(cursor))
    page, next_cursor = cut_page(rows, limit, lambda term: term.id)
    return OwnTerms([show_term(term) for term in page], next_cursor)


def _show(version: wire.PriceVersion, own: Mapping[UUID, int | None]) -> OwnPriceView:
    return OwnPriceView(
        price_version=encode_id(PRICE_VERSION, version.id),
        starts_at=version.starts_at,
        price=show_price(version.price),
        by_contract=version.id in own,
        discount_basis_points=own.get(version.id),
    )

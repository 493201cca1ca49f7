"""What is on sale, where, and for how much."""

from typing import Annotated

from litestar import get
from msgspec import Meta, Struct
from sqlalchemy.ext.asyncio import AsyncSession

from chappe_billing.prices.queries import own_versions
from chappe_catalogue.regions.queries import read_jurisdictions
from chappe_control.authentication import TenantRequest
from chappe_control.permissions import Permission
from chappe_control.public import answers
from chappe_control.public.parameters import Amount
from chappe_control.snapshot import read_listings, read_regions
from chappe_control.state import Given
from chappe_kernel.ids import PRICE_VERSION, encode_id
from chappe_kernel.money import format_nano
from chappe_kernel.rating import Price
from chappe_kernel.residency import expand
from chappe_kernel.wire import control as wire
from chappe_store.session import TenantScope
from chappe_tenants.organisations.service import get_organisation

Allowed = Annotated[bool, Meta(description="Whether your organisation's requests may run there.")]
_MILLION = 1_000_000


class TokenPrices(Struct, frozen=True):
    """Amounts per token of the prompt, of the part of it that was cached, and of the completion."""

    input: Amount
    cached_input: Amount
    output: Amount


class PriceView(Struct, frozen=True):
    """The price in force."""

    price_version: Annotated[str, Meta(pattern="^prc_")]
    currency: str
    per_token: TokenPrices
    per_million_tokens: TokenPrices
    per_request: Amount
    per_second: Annotated[Amount, Meta(description="Of sound or video.")]
    per_image: Amount
    by_contract: Annotated[bool, Meta(description="Whether it is your own, and not everybody's.")]


class OfferView(Struct, frozen=True):
    region: str
    allowed: Allowed
    healthy: bool
    price: PriceView


class ListingView(Struct, frozen=True):
    name: Annotated[str, Meta(description="What you send as `model`.")]
    publisher: str
    task: wire.Task
    context_tokens: int
    default_output_tokens: int
    max_output_tokens: int
    regions: list[OfferView]


class ListingList(Struct, frozen=True):
    items: list[ListingView]


class RegionView(Struct, frozen=True):
    name: str
    jurisdiction: str
    gateway_url: str
    healthy: Annotated[bool, Meta(description="Whether a gateway there sees at least one model answer.")]
    allowed: Allowed


class RegionList(Struct, frozen=True):
    items: list[RegionView]


@get(
    "/listings",
    permission=Permission.READ_MARKETPLACE,
    tags=["Marketplace"],
    summary="List models and prices",
    operation_id="list_listings",
    responses=answers.READ,
)
async def list_listings(request: TenantRequest, services: Given) -> ListingList:
    """Every model on sale, with the price that is in force for you in each region."""
    now = services.clock.now()
    async with services.database.tenant(request.auth.scope) as session:
        listings = await read_listings(session, now, request.auth.scope)
        own = await own_versions(session, request.auth.scope)
        healthy = {region.name for region in await read_regions(session) if region.healthy}
        allowed = await _allowed_regions(session, request.auth.scope)
    items = []
    for listing in listings:
        offers = []
        for offer in listing.regions:
            version = wire.price_in_force(offer.prices, now)
            if version is not None:
                price = _price(version, listing.currency, is_own=version.id in own)
                offers.append(OfferView(offer.region, offer.region in allowed, offer.region in healthy, price))
        items.append(_listing(listing, offers))
    return ListingList(items=items)


@get(
    "/regions",
    permission=Permission.READ_MARKETPLACE,
    tags=["Marketplace"],
    summary="List regions",
    operation_id="list_regions",
    responses=answers.READ,
)
async def list_regions(request: TenantRequest, services: Given) -> RegionList:
    """Every region, its gateway and its health now."""
    async with services.database.tenant(request.auth.scope) as session:
        regions = await read_regions(session)
        allowed = await _allowed_regions(session, request.auth.scope)
    return RegionList(
        items=[
            RegionView(region.name, region.jurisdiction, region.gateway_url, region.healthy, region.name in allowed)
            for region in regions
        ]
    )


async def _allowed_regions(session: AsyncSession, scope: TenantScope) -> frozenset[str]:
    tenant = await get_organisation(session, scope)
    return frozenset(expand(tenant.allowed_regions, await read_jurisdictions(session)))


def _listing(listing: wire.Listing, offers: list[OfferView]) -> ListingView:
    return ListingView(
        name=listing.name,
        publisher=listing.publisher,
        task=listing.task,
        context_tokens=listing.context_tokens,
        default_output_tokens=listing.default_output_tokens,
        max_output_tokens=listing.max_output_tokens,
        regions=offers,
    )


def _price(version: wire.PriceVersion, currency: str, *, is_own: bool) -> PriceView:
    return PriceView(
        price_version=encode_id(PRICE_VERSION, version.id),
        currency=currency,
        per_token=_token_prices(version.price, 1),
        per_million_tokens=_token_prices(version.price, _MILLION),
        per_request=format_nano(version.price.request_nano),
        per_second=format_nano(version.price.second_nano),
        per_image=format_nano(version.price.image_nano),
        by_contract=is_own,
    )


def _token_prices(price: Price, tokens: int) -> TokenPrices:
    return TokenPrices(
        input=format_nano(price.input_nano_per_token * tokens),
        cached_input=format_nano(price.cached_input_nano_per_token * tokens),
        output=format_nano(price.output_nano_per_token * tokens),
    )

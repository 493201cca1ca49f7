"""What a member may try in the playground: chat models that answer now, where, and for how much."""

from collections.abc import Sequence
from datetime import datetime
from urllib.parse import urlsplit

from msgspec import Struct
from sqlalchemy.ext.asyncio import AsyncSession

from chappe_catalogue.regions import queries as regions
from chappe_control.snapshot import read_listings, read_regions
from chappe_kernel.errors import NotFound
from chappe_kernel.ids import PRICE_VERSION, ProjectId, encode_id
from chappe_kernel.residency import expand, narrow
from chappe_kernel.wire import control as wire
from chappe_store.session import TenantScope
from chappe_tenants.organisations.service import get_organisation
from chappe_tenants.projects.queries import oldest_project


class PriceStep(Struct, frozen=True):
    """One price version. Nanos per unit as decimal strings: a script's numbers are exact to 2⁵³ only."""

    id: str
    starts_in_s: float
    """Negative once it is in force."""
    input_nano: str
    cached_input_nano: str
    output_nano: str
    request_nano: str


class Place(Struct, frozen=True):
    """Where a model may be tried. `prices` ascend by their start; the first is in force."""

    region: str
    jurisdiction: str
    gateway_url: str
    prices: list[PriceStep]


class ChatModel(Struct, frozen=True):
    """`places` is in the tenant's order of preference."""

    name: str
    publisher: str
    currency: str
    default_output_tokens: int
    max_output_tokens: int
    places: list[Place]


class Offers(Struct, frozen=True):
    """`silent` are chat models that answer nowhere now, `other` models that are not for chat."""

    models: list[ChatModel]
    silent: list[str]
    other: list[str]


async def read_regions_allowed(session: AsyncSession, scope: TenantScope) -> list[wire.Region]:
    """Where the playground's key may be used, in the tenant's order of preference, whether it is healthy or not."""
    tenant = await get_organisation(session, scope)
    project = await oldest_project(session, scope)
    narrower = None if project is None else project.allowed_regions
    here = {region.name: region for region in await read_regions(session)}
    jurisdiction_of = {region.name: region.jurisdiction for region in here.values()}
    allowed = narrow(
        expand(tenant.allowed_regions, jurisdiction_of), None if narrower is None else expand(narrower, jurisdiction_of)
    )
    return [here[name] for name in allowed]


async def read_offers(
    session: AsyncSession, scope: TenantScope, currency: str, allowed: Sequence[wire.Region], now: datetime
) -> Offers:
    """What the playground's token could be used for. The gateway decides again, request by request."""
    listings = [listing for listing in await read_listings(session, now, scope) if listing.currency == currency]
    answering = await regions.healthy_deployments(session)
    models = [_chat_model(listing, allowed, answering, now) for listing in listings if listing.task == "chat"]
    return Offers(
        models=[model for model in models if model.places],
        silent=[model.name for model in models if not model.places],
        other=[listing.name for listing in listings if listing.task != "chat"],
    )


async def playground_project_id(session: AsyncSession, scope: TenantScope) -> ProjectId:
    """Of the project that pays for the playground. Raises `NotFound` for a tenant that has none."""
    project = await oldest_project(session, scope)
    if project is None:
        raise NotFound("this organisation has no project yet", code="no_project")
    return ProjectId(project.id)


def gateway_origins(allowed: Sequence[wire.Region]) -> list[str]:
    """The origins that the page's script may call, each once."""
    urls = (urlsplit(region.gateway_url) for region in allowed)
    return list(dict.fromkeys(f"{url.scheme}://{url.netloc}" for url in urls))


def _chat_model(
    listing: wire.Listing, allowed: Sequence[wire.Region], answering: frozenset[tuple[str, str]], now: datetime
) -> ChatModel:
    offers = {offer.region: offer for offer in listing.regions}
    places = [
        Place(
            region=region.name,
            jurisdiction=region.jurisdiction,
            gateway_url=region.gateway_url,
            prices=[_price_step(version, now) for version in offers[region.name].prices],
        )
        for region in allowed
        if region.name in offers
        and (region.name, listing.name) in answering
        and wire.price_in_force(offers[region.name].prices, now) is not None
    ]
    return ChatModel(
        name=listing.name,
        publisher=listing.publisher,
        currency=listing.currency,
        default_output_tokens=listing.default_output_tokens,
        max_output_tokens=min(listing.max_output_tokens, listing.context_tokens),
        places=places,
    )


def _price_step(version: wire.PriceVersion, now: datetime) -> PriceStep:
    price = version.price
    return PriceStep(
        id=encode_id(PRICE_VERSION, version.id),
        starts_in_s=(version.starts_at - now).total_seconds(),
        input_nano=str(price.input_nano_per_token),
        cached_input_nano=str(price.cached_input_nano_per_token),
        output_nano=str(price.output_nano_per_token),
        request_nano=str(price.request_nano),
    )

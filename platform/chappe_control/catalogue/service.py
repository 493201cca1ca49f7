"""What happens when the operator applies a catalogue."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from chappe_billing.prices.queries import last_price
from chappe_billing.prices.service import publish_price
from chappe_catalogue.deployments.queries import keep_deployments, put_deployment
from chappe_catalogue.listings.queries import list_listings, put_listing, sell_in
from chappe_catalogue.manifest import ListingEntry, Manifest
from chappe_catalogue.publishers.queries import put_publisher
from chappe_catalogue.regions.queries import put_region
from chappe_catalogue.regions.service import rotate_credential
from chappe_control.catalogue.queries import lock_catalogue
from chappe_kernel.errors import Invalid
from chappe_kernel.ids import ListingId, PublisherId, new_id
from chappe_kernel.wire.control import DeploymentSpec


async def apply_catalogue(session: AsyncSession, manifest: Manifest, credentials: Mapping[str, str]) -> None:
    """The database says what the manifest says; safe to repeat. For the operator's role.

    A price that differs from the last one becomes a new version, until a draft or a revert of the operator's says what
    is paid there: from then on the manifest no longer does. Deployments and offers that the manifest lacks end;
    regions, publishers and listings stay, since usage refers to them. Raises `Invalid` for a credential of no region.
    """
    await lock_catalogue(session)
    for position, region in enumerate(manifest.regions):
        await put_region(
            session,
            name=region.name,
            jurisdiction=region.jurisdiction,
            gateway_url=region.gateway_url,
            position=position,
        )
    for region_name, credential in credentials.items():
        if region_name not in {region.name for region in manifest.regions}:
            raise Invalid(f"there is a credential for the unknown region {region_name}", code="invalid_catalogue")
        await rotate_credential(session, region=region_name, credential=credential)
    publisher_ids = {
        publisher.name: await put_publisher(
            session, publisher_id=PublisherId(new_id()), name=publisher.name, title=publisher.title
        )
        for publisher in manifest.publishers
    }
    for entry in manifest.listings:
        await _apply_listing(session, entry, publisher_ids[entry.publisher], manifest.currency)
    await _withdraw_others(session, {entry.name for entry in manifest.listings})
    await _apply_deployments(session, manifest)


async def _apply_listing(session: AsyncSession, entry: ListingEntry, publisher_id: PublisherId, currency: str) -> None:
    values: dict[str, Any] = {
        "publisher_id": publisher_id,
        "task": entry.task,
        "currency": currency,
        "context_tokens": entry.context_tokens,
        "template_tokens": entry.template_tokens,
        "default_output_tokens": entry.default_output_tokens,
        "max_output_tokens": entry.max_output_tokens,
        "publisher_share_bp": entry.publisher_share_bp,
    }
    listing_id = await put_listing(session, listing_id=ListingId(new_id()), name=entry.name, values=values)
    await sell_in(session, listing_id, entry.regions)
    for region, price in entry.regions.items():
        last = await last_price(session, listing_id, region)
        if last is not None and (last.draft_id is not None or last.reverts_id is not None):
            continue
        await publish_price(session, listing_id=listing_id, region=region, currency=currency, price=price)


async def _withdraw_others(session: AsyncSession, names: set[str]) -> None:
    for listing in await list_listings(session):
        if listing.name not in names:
            await sell_in(session, ListingId(listing.id), ())


async def _apply_deployments(session: AsyncSession, manifest: Manifest) -> None:
    await keep_deployments(session, [(entry.region, entry.name) for entry in manifest.deployments])
    for entry in manifest.deployments:
        spec = DeploymentSpec(
            name=entry.name,
            engine=entry.engine,
            replicas=entry.replicas,
            max_ongoing_requests=entry.max_ongoing_requests,
            options=entry.options,
        )
        await put_deployment(session, entry.region, spec)

"""`chappe prices`: what the price pages do, for a terminal. Answers are JSON, in the API's own words."""

import os
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import click
import msgspec
from sqlalchemy.ext.asyncio import AsyncSession

from chappe_billing.price_drafts import service as drafts
from chappe_billing.price_drafts.schemas import PublishedDraft, show_differences, show_simulation
from chappe_billing.price_drafts.service import Draft
from chappe_billing.price_simulations.service import simulate_for_publication
from chappe_billing.prices import queries, service
from chappe_billing.prices.models import PriceVersion
from chappe_billing.prices.schemas import VersionView, show_version
from chappe_catalogue.listings.queries import find_listing, find_name
from chappe_kernel.errors import NotFound
from chappe_kernel.ids import PRICE_DRAFT, PRICE_VERSION, TENANT, decode_id, encode_id
from chappe_kernel.process import prepare_process
from chappe_kernel.rating import WHOLE_BASIS_POINTS
from chappe_kernel.settings import load_settings
from chappe_store.commands import as_operator, as_reader
from chappe_store.queries import read_now

_MONTH = click.DateTime(["%Y-%m"])
_TIME = click.DateTime(["%Y-%m-%dT%H:%M:%SZ", "%Y-%m-%dT%H:%MZ"])
_Reason = click.option("--reason", required=True, help="Why; it is kept.")


@dataclass(frozen=True)
class _Settings:
    """`snapshot_max_age_s` must be the control plane's own: a price that starts sooner is not known everywhere."""

    snapshot_max_age_s: float = 300.0


@click.group()
def prices() -> None:
    """List prices, and simulate, publish, withdraw and revert them."""
    prepare_process("prices")


@prices.command("list")
@click.option("--tenant", help="This tenant's own prices, `ten_…`, instead of everybody's.")
@click.option("--model", help="Only this model's.")
@click.option("--region", help="Only in this region.")
@click.option("--batches", is_flag=True, help="Those of batches' lines, instead of everybody's.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=100, show_default=True)
def list_prices(*, tenant: str | None, model: str | None, region: str | None, batches: bool, limit: int) -> None:
    """All that was published, the newest first, one a line."""
    tenant_id = None if tenant is None else decode_id(TENANT, tenant)

    async def work(session: AsyncSession) -> list[VersionView]:
        rows = await queries.list_versions(
            session,
            limit=limit,
            tenant_id=tenant_id,
            for_batches=batches,
            listing=model,
            region=region,
        )
        return [show_version(*row) for row in rows]

    for one in as_reader(work):
        _say(one)


@prices.command()
@click.argument("draft")
def diff(draft: str) -> None:
    """Compare DRAFT with what is in force, a line for each model and region."""

    async def work(session: AsyncSession) -> list[msgspec.Struct]:
        found = await drafts.get_draft(session, decode_id(PRICE_DRAFT, draft))
        return list(show_differences(await drafts.differences(session, found, await read_now(session))).items)

    for one in as_reader(work):
        _say(one)


@prices.command()
@click.argument("draft")
@click.option("--month", type=_MONTH, help="Its usage, YYYY-MM; by default the last whole month's.")
def simulate(draft: str, month: datetime | None) -> None:
    """Say what a month's usage would have cost under DRAFT, which can be published then."""

    async def work(session: AsyncSession) -> msgspec.Struct:
        found = await _draft(session, draft)
        return show_simulation(found, await simulate_for_publication(session, found, month and month.date()))

    _say(as_operator(work))


@prices.command()
@click.argument("draft")
@click.option("--starts-at", type=_TIME, help="In UTC; by default as soon as every gateway knows of it.")
def publish(draft: str, starts_at: datetime | None) -> None:
    """Publish DRAFT as it was simulated."""

    async def work(session: AsyncSession) -> msgspec.Struct:
        start = starts_at and starts_at.replace(tzinfo=UTC)
        found = await _draft(session, draft)
        ids = await drafts.publish_draft(session, found, starts_at=start, notice=_notice())
        return PublishedDraft([encode_id(PRICE_VERSION, version_id) for version_id in ids])

    _say(as_operator(work))


@prices.command("batch-discount")
@click.argument("model")
@click.argument("region")
@click.argument("basis_points", type=click.IntRange(0, WHOLE_BASIS_POINTS))
@click.option("--starts-at", type=_TIME, help="In UTC; by default as soon as every gateway knows of it.")
def batch_discount(model: str, region: str, basis_points: int, starts_at: datetime | None) -> None:
    """Have batches' lines for MODEL in REGION cost BASIS_POINTS less than its list price, whatever that becomes."""

    async def work(session: AsyncSession) -> VersionView:
        listing = await find_listing(session, model)
        if listing is None:
            raise NotFound("there is no such model")
        version_id = await service.publish_discount(
            session,
            listing_id=listing.id,
            region=region,
            currency=listing.currency,
            tenant_id=None,
            basis_points=basis_points,
            starts_at=starts_at and starts_at.replace(tzinfo=UTC),
            notice=_notice(),
        )
        version = await queries.find_version(session, version_id)
        if version is None:
            raise NotFound("there is no such price version")
        await session.refresh(version)
        return await _shown(session, version)

    _say(as_operator(work))


@prices.command()
@click.argument("price_version")
@_Reason
def withdraw(price_version: str, reason: str) -> None:
    """Take back a scheduled PRICE_VERSION."""
    version_id = decode_id(PRICE_VERSION, price_version)

    async def work(session: AsyncSession) -> VersionView:
        return await _shown(session, await service.withdraw_price(session, version_id, reason=reason, notice=_notice()))

    _say(as_operator(work))


@prices.command()
@click.argument("price_version")
@_Reason
def revert(price_version: str, reason: str) -> None:
    """End a wrong PRICE_VERSION at once. What was charged too much is given back by itself."""
    version_id = decode_id(PRICE_VERSION, price_version)

    async def work(session: AsyncSession) -> VersionView:
        right = await service.revert_price(session, version_id, reason=reason)
        await session.refresh(right)
        return await _shown(session, right)

    _say(as_operator(work))


async def _draft(session: AsyncSession, text: str) -> Draft:
    """As nobody else changes it meanwhile."""
    return await drafts.get_draft(session, decode_id(PRICE_DRAFT, text), lock=True)


async def _shown(session: AsyncSession, version: PriceVersion) -> VersionView:
    name = await find_name(session, version.listing_id)
    return show_version(version, name, await queries.find_withdrawal(session, version.id))


def _notice() -> timedelta:
    """How long it takes until no gateway serves that has not heard of a price."""
    return timedelta(seconds=load_settings(_Settings, os.environ).snapshot_max_age_s)


def _say(answer: msgspec.Struct) -> None:
    click.echo(msgspec.json.encode(answer).decode())

"""SQL for regions, their credentials and heartbeats."""

from collections.abc import Mapping, Sequence

from sqlalchemy import Text, cast, delete, func, or_, select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from chappe_catalogue.regions.models import GatewayHeartbeat, Region, RegionCredential
from chappe_store.models import Instance

# A gateway beats once a second: five missed beats are no hiccup any more.
ALIVE_S = 5
_ALIVE = text(f"interval '{ALIVE_S} seconds'")
_FORGOTTEN = text("interval '1 day'")


async def list_regions(session: AsyncSession) -> Sequence[Region]:
    """In the catalogue's order."""
    return (await session.scalars(select(Region).order_by(Region.position, Region.name))).all()


# Gateways ask for every key that they don't know, and pages for every visitor.
_JURISDICTIONS = select(Region.name, Region.jurisdiction).order_by(Region.position, Region.name)


async def read_jurisdictions(session: AsyncSession) -> dict[str, str]:
    """Jurisdiction by region's name, in the catalogue's order."""
    return {row.name: row.jurisdiction for row in await session.execute(_JURISDICTIONS)}


async def healthy_regions(session: AsyncSession) -> frozenset[str]:
    """Where some gateway lately saw at least one deployment answer, by the database's clock."""
    query = (
        select(GatewayHeartbeat.region)
        .where(
            GatewayHeartbeat.seen_at > func.now() - _ALIVE,
            func.cardinality(GatewayHeartbeat.healthy_deployments) > 0,
        )
        .distinct()
    )
    return frozenset((await session.scalars(query)).all())


async def healthy_deployments(session: AsyncSession) -> frozenset[tuple[str, str]]:
    """(region, deployment), as some gateway there lately saw it answer, by the database's clock."""
    query = select(GatewayHeartbeat.region, func.unnest(GatewayHeartbeat.healthy_deployments)).where(
        GatewayHeartbeat.seen_at > func.now() - _ALIVE
    )
    return frozenset((region, name) for region, name in await session.execute(query))


async def list_heartbeats(session: AsyncSession) -> Sequence[GatewayHeartbeat]:
    """Of every gateway that was seen within the last day, by region and name."""
    query = select(GatewayHeartbeat).order_by(GatewayHeartbeat.region, GatewayHeartbeat.gateway)
    return (await session.scalars(query)).all()


async def put_heartbeat(
    session: AsyncSession,
    *,
    region: str,
    gateway: str,
    snapshot_version: str,
    healthy_deployments: Sequence[str],
    loads: Mapping[str, int],
    keys_revision: int,
    sent_again: str,
) -> None:
    values = {
        "snapshot_version": snapshot_version,
        "healthy_deployments": list(healthy_deployments),
        "loads": dict(loads),
        "keys_revision": keys_revision,
        "sent_again": sent_again,
    }
    await session.execute(
        insert(GatewayHeartbeat)
        .values(region=region, gateway=gateway, **values)
        .on_conflict_do_update(index_elements=["region", "gateway"], set_=values | {"seen_at": func.now()})
    )


async def lend_if_all_have_told(session: AsyncSession) -> bool:
    """After a restore: lend again, if every gateway has sent again what it recorded. Whether this was the moment."""
    untold = select(GatewayHeartbeat.gateway).where(GatewayHeartbeat.sent_again != cast(Instance.epoch, Text))
    statement = (
        update(Instance)
        .where(Instance.lends_from > func.now(), Instance.listens_until <= func.now(), ~untold.exists())
        .values(lends_from=func.now())
        .returning(Instance.singleton)
        .execution_options(synchronize_session=False)
    )
    return await session.scalar(statement) is not None


async def forget_gateway(session: AsyncSession, region: str, gateway: str) -> None:
    """It has stopped, and said so."""
    await session.execute(
        delete(GatewayHeartbeat).where(GatewayHeartbeat.region == region, GatewayHeartbeat.gateway == gateway)
    )


async def forget_gateways(session: AsyncSession, region: str) -> None:
    """Drop gateways of the region that were last seen a day ago."""
    await session.execute(
        delete(GatewayHeartbeat).where(
            GatewayHeartbeat.region == region, GatewayHeartbeat.seen_at < func.now() - _FORGOTTEN
        )
    )


async def find_region(session: AsyncSession, credential_digest: bytes) -> str | None:
    """Whose credential this is. One read of the primary key."""
    query = select(RegionCredential.region).where(RegionCredential.digest == credential_digest)
    found: str | None = await session.scalar(query)
    return found


async def put_region(session: AsyncSession, *, name: str, jurisdiction: str, gateway_url: str, position: int) -> None:
    """Insert or change. Nothing is written when nothing changed, since a change makes gateways forget their keys."""
    values = {"jurisdiction": jurisdiction, "gateway_url": gateway_url, "position": position}
    await session.execute(
        insert(Region)
        .values(name=name, **values)
        .on_conflict_do_update(
            index_elements=["name"],
            set_=values,
            where=or_(*(getattr(Region, column).is_distinct_from(value) for column, value in values.items())),
        )
    )


async def put_credential(session: AsyncSession, *, region: str, digest: bytes) -> None:
    """Make this the region's newest credential. One that belongs to another region stays there."""
    await session.execute(
        insert(RegionCredential)
        .values(region=region, digest=digest)
        .on_conflict_do_update(
            index_elements=["digest"], set_={"created_at": func.now()}, where=RegionCredential.region == region
        )
    )


async def keep_newest_credentials(session: AsyncSession, *, region: str, count: int) -> None:
    newest = (
        select(RegionCredential.digest)
        .where(RegionCredential.region == region)
        .order_by(RegionCredential.created_at.desc(), RegionCredential.digest)
        .limit(count)
    )
    await session.execute(
        delete(RegionCredential).where(RegionCredential.region == region, RegionCredential.digest.not_in(newest))
    )

"""What the pages of regions and deployments read, as of one instant."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from msgspec import Struct
from sqlalchemy.ext.asyncio import AsyncSession

from chappe_billing.prices.queries import all_prices
from chappe_catalogue.deployments.models import Deployment, DeploymentState
from chappe_catalogue.deployments.queries import list_with_states
from chappe_catalogue.listings.models import Listing
from chappe_catalogue.listings.queries import list_listings, sold_in
from chappe_catalogue.regions.models import GatewayHeartbeat, Region
from chappe_catalogue.regions.queries import list_heartbeats, list_regions
from chappe_control.console.regions.health import DeploymentSeen, GatewaySeen
from chappe_store.queries import read_now


class Gateway(Struct, frozen=True):
    """A gateway as it last reported itself."""

    seen: GatewaySeen
    seen_at: datetime
    loads: Mapping[str, int]

    @property
    def in_flight(self) -> int:
        return sum(self.loads.values())


class DeploymentRow(Struct, frozen=True):
    """A deployment, what runs of it, and how much it has to do at all gateways that live."""

    region: str
    name: str
    engine: str
    task: str
    seen: DeploymentSeen
    message: str
    reported_at: datetime | None
    in_flight: int
    per_replica: int

    @property
    def capacity(self) -> int:
        """Requests that the replicas that run take at once."""
        return self.seen.running * self.per_replica


class Cell(Struct, frozen=True):
    """A region with all that is known of its cell."""

    region: Region
    gateways: Sequence[Gateway]
    deployments: Sequence[DeploymentRow]
    sold_but_not_deployed: Sequence[str]

    @property
    def in_flight(self) -> int:
        return sum(gateway.in_flight for gateway in self.gateways if gateway.seen.alive)

    @property
    def reported_at(self) -> datetime | None:
        """When its reconciler last spoke."""
        return max((row.reported_at for row in self.deployments if row.reported_at is not None), default=None)


class Cells(Struct, frozen=True):
    """Every region of the catalogue in its order; the database's time, to which all ages refer; what is sold in."""

    cells: Sequence[Cell]
    now: datetime
    currencies: Sequence[str]


async def read_cells(session: AsyncSession) -> Cells:
    now = await read_now(session)
    gateways = _by_region(await list_heartbeats(session), now)
    listings = await list_listings(session)
    sold = await _sold(session, listings)
    tasks = {listing.name: listing.task for listing in listings}
    deployments = defaultdict(list)
    for deployment, state in await list_with_states(session):
        load = _load(gateways[deployment.region], deployment.name)
        is_sold = deployment.name in sold[deployment.region]
        row = _row(deployment, state, now, task=tasks[deployment.name], in_flight=load, sold=is_sold)
        deployments[deployment.region].append(row)
    cells = [
        Cell(
            region=region,
            gateways=gateways[region.name],
            deployments=deployments[region.name],
            sold_but_not_deployed=sorted(sold[region.name] - {row.name for row in deployments[region.name]}),
        )
        for region in await list_regions(session)
    ]
    return Cells(cells, now, sorted({listing.currency for listing in listings}))


async def _sold(session: AsyncSession, listings: Sequence[Listing]) -> defaultdict[str, set[str]]:
    """Names of the listings by region that gateways there look after: on sale, and with a price."""
    priced = await all_prices(session)
    regions = await sold_in(session)
    sold: defaultdict[str, set[str]] = defaultdict(set)
    for listing in listings:
        for region in regions.get(listing.id, ()):
            if (listing.id, region) in priced:
                sold[region].add(listing.name)
    return sold


def _by_region(heartbeats: Sequence[GatewayHeartbeat], now: datetime) -> defaultdict[str, list[Gateway]]:
    gateways: defaultdict[str, list[Gateway]] = defaultdict(list)
    for beat in heartbeats:
        seen = GatewaySeen(
            name=beat.gateway,
            age_s=(now - beat.seen_at).total_seconds(),
            snapshot_version=beat.snapshot_version,
            healthy=frozenset(beat.healthy_deployments),
        )
        gateways[beat.region].append(Gateway(seen, beat.seen_at, beat.loads))
    return gateways


def _load(gateways: Sequence[Gateway], deployment: str) -> int:
    return sum(gateway.loads.get(deployment, 0) for gateway in gateways if gateway.seen.alive)


def _row(deployment: Deployment, state: DeploymentState | None, now: datetime, **rest: Any) -> DeploymentRow:
    seen = DeploymentSeen(
        name=deployment.name,
        sold=rest["sold"],
        wanted=deployment.replicas,
        running=0 if state is None else state.replicas_running,
        state=None if state is None else state.state,
        age_s=None if state is None else (now - state.reported_at).total_seconds(),
    )
    return DeploymentRow(
        region=deployment.region,
        name=deployment.name,
        engine=deployment.engine,
        task=rest["task"],
        seen=seen,
        message="" if state is None else state.message,
        reported_at=None if state is None else state.reported_at,
        in_flight=rest["in_flight"],
        per_replica=deployment.max_ongoing_requests,
    )

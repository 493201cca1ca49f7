"""How fast usage becomes money: `make bench-ingest`.

Each round measures, one after the other, on the embedded PostgreSQL with all its durability:

- *copy*: bare `COPY` of the rows into a table of the same columns, without row-level security, index or constraint;
- *indexed*: the same into a table that has the indexes and checks of the real one as well;
- *ingest*: the same events through `ingest`: checked, rated, paid, posted to the ledger, rolled up, announced;
- *edge*: the same again as the internal API does it, from the JSON of a request to the end of its transaction.

All in the same batches, one transaction each, so that the ratios hold on any machine. Several regions mean as
many connections at once, whose events belong to the same tenants. With `--filled` that many events are there before.
"""

import asyncio
import gc
import json
import random
import shutil
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import click
import msgspec
from sqlalchemy import select

from chappe_billing.audit.service import verify_ledger
from chappe_billing.credit.service import give_welcome_credit
from chappe_billing.grants.service import ask_grant
from chappe_billing.grants.terms import GrantTerms
from chappe_billing.prices.queries import all_prices
from chappe_billing.usage.service import ingest
from chappe_catalogue.listings.models import Listing
from chappe_catalogue.manifest import read_manifest
from chappe_control.catalogue.service import apply_catalogue
from chappe_control.internal.routes import last_uses
from chappe_kernel.api_keys import Pepper
from chappe_kernel.ids import KeyId, ProjectId, TenantId, new_id
from chappe_kernel.money import NANO_PER_UNIT
from chappe_kernel.rating import Counts, Outcome, charge
from chappe_kernel.wire import control as wire
from chappe_local import postgres as embedded
from chappe_store.audit_log.origin import ActorKind, Origin
from chappe_store.migrate import migrate
from chappe_store.session import Database
from chappe_tenants.api_keys import queries as api_keys
from chappe_tenants.api_keys.models import ApiKey
from chappe_tenants.organisations.models import Tenant
from chappe_tenants.projects.models import Project
from tests.bench import million
from tests.bench.server import database_server

REGIONS = ("fr-par", "de-fra")
RESULT = Path(".chappe/bench/ingest.json")
_ORIGIN = Origin(ActorKind.COMMAND, "bench", None, new_id())
_FUNDS_NANO = 1_000_000 * NANO_PER_UNIT
_GRANT_NANO = 1_000 * NANO_PER_UNIT
_PEPPERS = (Pepper(1, b"b" * 32),)
_TERMS = GrantTerms(admit_s=3600, settle_s=3600, release_s=7200)


@dataclass(frozen=True)
class Customer:
    tenant_id: TenantId
    project_id: ProjectId
    keys: tuple[KeyId, ...]


@dataclass(frozen=True)
class Offer:
    listing: str
    prices: dict[str, wire.PriceVersion]


@dataclass(frozen=True)
class Market:
    database: Database
    superuser: "asyncpg.Connection[Any]"
    customers: tuple[Customer, ...]
    offers: tuple[Offer, ...]


@dataclass(frozen=True)
class Speed:
    """Events per second."""

    copy: float
    indexed: float
    ingest: float
    edge: float

    @property
    def ratio(self) -> float:
        return self.ingest / self.copy


async def open_market(
    database: Database, superuser: "asyncpg.Connection[Any]", tenants: int = 20, keys: int = 5
) -> Market:
    async with database.operator() as session:
        await apply_catalogue(session, read_manifest(msgspec.json.encode(million.MANIFEST)), {})
    async with database.operator() as session:
        names = {listing.id: listing.name for listing in await session.scalars(select(Listing))}
        offers: dict[str, dict[str, wire.PriceVersion]] = {}
        for (listing_id, region), versions in (await all_prices(session)).items():
            offers.setdefault(names[listing_id], {})[region] = versions[-1]
    customers = tuple([await _make_customer(database, number, keys) for number in range(tenants)])
    return Market(database, superuser, customers, tuple(Offer(*offer) for offer in sorted(offers.items())))


async def _make_customer(database: Database, number: int, keys: int) -> Customer:
    customer = Customer(TenantId(new_id()), ProjectId(new_id()), tuple(KeyId(new_id()) for _ in range(keys)))
    tenant_id, project_id = customer.tenant_id, customer.project_id
    async with database.operator() as session:
        session.add(
            Tenant(
                id=tenant_id,
                name=f"T{number}",
                state="active",
                currency="EUR",
                allowed_regions=list(REGIONS),
                requests_per_minute=6000,
            )
        )
        await session.flush()
        session.add(Project(tenant_id=tenant_id, id=project_id, name="default"))
        await session.flush()
        for key_id in customer.keys:
            digest = key_id.bytes * 2
            session.add(
                ApiKey(
                    tenant_id=tenant_id,
                    id=key_id,
                    project_id=project_id,
                    kind="inference",
                    name="key",
                    prefix="ck_itest",
                    pepper_version=1,
                    digest=digest,
                )
            )
        await session.flush()
        await give_welcome_credit(session, tenant_id, _FUNDS_NANO, "EUR")
    return customer


async def make_batches(market: Market, region: str, events: int, batch: int, dice: random.Random) -> list[bytes]:
    """What a region's gateway would send: JSON, as it is on the wire."""
    grants: dict[TenantId, UUID] = {}
    for customer in market.customers:
        async with market.database.ingest() as session:
            ask = wire.AskGrant(new_id(), customer.tenant_id, f"{region}-gw-1", _GRANT_NANO, 1)
            await ask_grant(session, region=region, ask=ask, terms=_TERMS)
        grants[customer.tenant_id] = ask.grant_id
    made = [_event(market, region, grants, dice) for _ in range(events)]
    return [
        msgspec.json.encode(wire.UsageBatch(f"{region}-gw-1", tuple(made[at : at + batch])))
        for at in range(0, events, batch)
    ]


def _event(market: Market, region: str, grants: dict[TenantId, UUID], dice: random.Random) -> wire.UsageEvent:
    customer, offer = dice.choice(market.customers), dice.choice(market.offers)
    version = offer.prices[region]
    counts = Counts(dice.randint(20, 2000), dice.randint(0, 20), dice.randint(1, 500))
    outcome = Outcome.COMPLETED if dice.random() < 0.98 else Outcome.DISCONNECTED
    amount = charge(version.price, outcome, counts)
    finished_at = datetime.now(UTC) - timedelta(seconds=1)
    return wire.UsageEvent(
        request_id=new_id(),
        tenant_id=customer.tenant_id,
        project_id=customer.project_id,
        key_id=dice.choice(customer.keys),
        grant_id=grants[customer.tenant_id],
        listing=offer.listing,
        price_version=version.id,
        outcome=outcome,
        counts=counts,
        amount_nano=amount,
        hold_nano=2 * amount,
        started_at=finished_at - timedelta(milliseconds=dice.randint(10, 5000)),
        finished_at=finished_at,
        ttft_ms=dice.randint(20, 400),
        client_network="203.0.113.0/24",
        attempt=1,
        delivered=counts,
        generated=counts,
    )


async def measure_ingest(market: Market, work: dict[str, list[bytes]]) -> float:
    batches = {region: [_decode(one) for one in sent] for region, sent in work.items()}

    async def post(region: str, batch: wire.UsageBatch) -> None:
        async with market.database.ingest(_ORIGIN) as session:
            receipt = await ingest(session, region=region, batch=batch)
        if receipt.posted != len(batch.events):
            raise AssertionError(receipt)

    return await _speed(batches, post, sum(len(one.events) for sent in batches.values() for one in sent))


async def measure_edge(market: Market, work: dict[str, list[bytes]], events: int) -> float:
    async def post(region: str, body: bytes) -> None:
        batch = _decode(body)
        async with market.database.ingest(_ORIGIN) as session:
            receipt = await ingest(session, region=region, batch=batch)
            await api_keys.touch_keys(session, last_uses(batch.events, region))
        if receipt.posted != len(batch.events):
            raise AssertionError(receipt)

    return await _speed(work, post, events)


async def measure_copy(
    market: Market, connections: Sequence[Any], batch: int, events: int, *, indexed: bool = False
) -> float:
    """The rows that ingestion posted last, as they stand in its table."""
    columns = [
        row["attname"]
        for row in await market.superuser.fetch(
            "SELECT attname FROM pg_attribute WHERE attrelid = 'usage_event'::regclass AND attnum > 0 "
            "AND NOT attisdropped ORDER BY attnum"
        )
    ]
    await market.superuser.execute(
        "DROP TABLE IF EXISTS copied; CREATE TABLE copied "
        + (
            "(LIKE usage_event INCLUDING INDEXES INCLUDING CONSTRAINTS)"
            if indexed
            else f"AS SELECT {', '.join(columns)} FROM usage_event WHERE false"
        )
    )
    rows = [
        tuple(row)
        for row in await market.superuser.fetch(
            f"SELECT {', '.join(columns)} FROM usage_event ORDER BY request_id DESC LIMIT $1", events
        )
    ]
    batches = [rows[at : at + batch] for at in range(0, events, batch)]
    shares = {f"{number}": batches[number :: len(connections)] for number in range(len(connections))}

    async def copy(share: str, some: list[tuple[Any, ...]]) -> None:
        async with connections[int(share)].transaction():
            await connections[int(share)].copy_records_to_table("copied", records=some, columns=columns)

    return await _speed(shares, copy, events)


async def _speed(work: dict[str, list[Any]], do: Callable[[str, Any], Awaitable[None]], events: int) -> float:
    async def one_after_another(region: str) -> None:
        for item in work[region]:
            await do(region, item)

    # What was prepared for the measurement is no garbage to look through while it runs.
    gc.collect()
    gc.freeze()
    began = time.perf_counter()
    await asyncio.gather(*map(one_after_another, work))
    return events / (time.perf_counter() - began)


def _decode(body: bytes) -> wire.UsageBatch:
    return msgspec.json.decode(body, type=wire.UsageBatch)


async def run(
    sock: Path,
    passwords: embedded.Passwords,
    *,
    events: int,
    batch: int,
    regions: int,
    rounds: int,
    tenants: int,
    keys: int,
    filled: int,
) -> AsyncIterator[Speed]:
    await embedded.prepare_roles(sock, passwords)
    app_url = embedded.database_url(sock, embedded.LOGIN, passwords.control)
    await migrate(embedded.database_url(sock, embedded.OWNER, passwords.owner), app_url)

    async def connect() -> Any:
        return await asyncpg.connect(
            host=str(sock), user=embedded.SUPERUSER, password=passwords.superuser, database=embedded.DATABASE
        )

    database, superuser = Database(app_url, origin=_ORIGIN), await connect()
    connections = [await connect() for _ in range(regions)]
    dice = random.Random(11)  # noqa: S311 -- a benchmark's dice, the same each time
    try:
        market = await open_market(database, superuser, tenants, keys)
        if filled:
            await million.fill(database, superuser, await million.plant(database, _PEPPERS), filled)
        share = events // regions
        for number in range(rounds + 1):
            # The first one warms up: connections, prepared statements, the planner's figures.
            size = share if number else min(share, 5 * batch)
            works = [
                {region: await make_batches(market, region, size, batch, dice) for region in REGIONS[:regions]}
                for _ in range(2)
            ]
            ingested = await measure_ingest(market, works[0])
            edge = await measure_edge(market, works[1], size * regions)
            copied = await measure_copy(market, connections, batch, size * regions)
            indexed = await measure_copy(market, connections, batch, size * regions, indexed=True)
            if number:
                yield Speed(copied, indexed, ingested, edge)
        async with database.audit() as session:
            difference = await verify_ledger(session)
        if difference is not None:
            raise AssertionError(difference)
    finally:
        for connection in (superuser, *connections):
            await connection.close()
        await database.close()


async def _run(**options: int) -> list[Speed]:
    directory = Path(tempfile.mkdtemp(prefix="chappe-bench-"))
    found = []
    try:
        with database_server(directory) as (sock, passwords):
            async for speed in run(sock, passwords, **options):
                rates = "   ".join(f"{name} {value:8.0f}/s" for name, value in asdict(speed).items())
                click.echo(f"{rates}   ratio {speed.ratio:.2f}")
                found.append(speed)
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    return found


@click.command()
@click.option("--events", default=40_000, show_default=True, help="In each round, of all regions together.")
@click.option("--batch", default=5000, show_default=True)
@click.option("--regions", type=click.IntRange(1, 2), default=1, show_default=True)
@click.option("--tenants", default=20, show_default=True)
@click.option("--keys", default=2, show_default=True, help="Of each tenant; each uses all models.")
@click.option("--filled", default=0, show_default=True, help="Events of sixty days that are there before.")
@click.option("--rounds", default=3, show_default=True)
def main(**options: int) -> None:
    """Measure, print each round, and write .chappe/bench/ingest.json."""
    found = asyncio.run(_run(**options))
    RESULT.parent.mkdir(parents=True, exist_ok=True)
    RESULT.write_text(json.dumps({**options, "rounds_per_s": [asdict(one) for one in found]}, indent=2) + "\n")
    click.echo(f"median ratio {statistics.median(one.ratio for one in found):.2f}; written to {RESULT}")


if __name__ == "__main__":
    main()

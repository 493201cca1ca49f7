"""The snapshot changes exactly when something did, and costs little when nothing did."""

import asyncio
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from sqlalchemy.ext.asyncio import AsyncSession

from chappe_catalogue.manifest import read_manifest
from chappe_control.catalogue.service import apply_catalogue
from chappe_control.settings import ControlSettings
from chappe_control.snapshot import FRESH_S, SnapshotCache
from chappe_kernel.clock import SystemClock
from chappe_kernel.wire.control import DATABASE_TIME
from chappe_store.audit_log.origin import Origin
from chappe_store.queries import read_now
from chappe_store.session import Database
from tests.control.world import CHAT, CREDENTIALS, MANIFEST, PEPPERS, PRICE, World


class CountingDatabase(Database):
    """The real one, which counts how often somebody reads as a region."""

    readings = 0

    def ingest(self, origin: Origin | None = None) -> AbstractAsyncContextManager[AsyncSession]:
        self.readings += 1
        return super().ingest(origin)


class StandingClock(SystemClock):
    """Monotonic time stands still until somebody moves it."""

    monotonic_s = 0.0

    def monotonic(self) -> float:
        return self.monotonic_s


async def test_snapshot_is_complete(world: World) -> None:
    snapshot = await world.paris.snapshot()
    assert [(region.name, region.jurisdiction, region.healthy) for region in snapshot.regions] == [
        ("fr-par", "FR", False),
        ("de-fra", "DE", False),
    ]
    (listing,) = snapshot.listings
    assert (listing.name, listing.publisher, listing.currency, listing.task) == (CHAT, "huggingface", "EUR", "chat")
    assert {offer.region: [version.price for version in offer.prices] for offer in listing.regions} == {
        "fr-par": [PRICE],
        "de-fra": [PRICE],
    }
    assert (snapshot.peppers, snapshot.max_age_s) == (PEPPERS, 300)


async def test_both_answers_tell_the_databases_time_and_are_never_ahead_of_it(world: World, database: Database) -> None:
    """Between two readings of the database it goes on by the monotonic clock; the machine's own clock has no say."""
    version, told = "", datetime.min.replace(tzinfo=UTC)
    for _ in range(2):
        world.clock.advance(1)
        answer = await world.paris.call("GET", "/snapshot", **{"if-none-match": version})
        version = answer.headers["etag"]
        told = datetime.fromisoformat(answer.headers[DATABASE_TIME])
        async with database.audit() as session:
            assert timedelta(0) <= await read_now(session) - told < timedelta(seconds=10)
    world.clock.advance(FRESH_S / 2)
    again = await world.paris.call("GET", "/snapshot")
    assert datetime.fromisoformat(again.headers[DATABASE_TIME]) - told >= timedelta(seconds=FRESH_S / 2)


async def test_unchanged_snapshot_is_304_with_no_body(world: World) -> None:
    first = await world.paris.call("GET", "/snapshot")
    assert first.headers["etag"] == f'"{first.json()["version"]}"'
    world.clock.advance(1)
    for tags in (first.headers["etag"], f'"other", W/{first.headers["etag"]}'):
        again = await world.paris.call("GET", "/snapshot", **{"if-none-match": tags})
        assert (again.status_code, again.content) == (304, b"")
        assert again.headers["etag"] == first.headers["etag"]
    assert (await world.paris.call("GET", "/snapshot", **{"if-none-match": '"other"'})).status_code == 200


async def test_every_region_and_process_sees_the_same_version(world: World) -> None:
    versions = {(await cell.snapshot()).version for cell in (world.paris, world.frankfurt, world.paris)}
    assert len(versions) == 1


async def test_polls_within_the_fresh_time_read_the_database_once(world: World, settings: ControlSettings) -> None:
    database = CountingDatabase(settings.database_url)
    clock = StandingClock()
    cache = SnapshotCache(database, PEPPERS, 300, clock)
    snapshots = await asyncio.gather(*(cache.current() for _ in range(50)))
    assert (database.readings, len(set(snapshots))) == (1, 1)
    clock.monotonic_s += FRESH_S
    await asyncio.gather(*(cache.current() for _ in range(50)))
    assert database.readings == 2
    await database.close()


async def test_health_follows_heartbeats_and_changes_the_version(world: World, owner_sql: Any) -> None:
    dark = await world.paris.snapshot()
    assert (await world.paris.beat()).status_code == 204
    assert not (await world.paris.snapshot()).regions[0].healthy, "a gateway that sees nothing answer is not enough"
    await world.paris.beat(CHAT)
    lit = await world.paris.snapshot()
    assert [region.healthy for region in lit.regions] == [True, False]
    assert lit.version != dark.version
    await owner_sql("UPDATE gateway_heartbeat SET seen_at = now() - interval '5.1 seconds'")
    assert (await world.paris.snapshot()).version == dark.version


async def test_one_live_gateway_of_two_keeps_the_region_healthy(world: World, owner_sql: Any) -> None:
    await world.paris.beat(CHAT, gateway="gw-1")
    await owner_sql("UPDATE gateway_heartbeat SET seen_at = now() - interval '6 seconds'")
    await world.paris.beat(CHAT, gateway="gw-2")
    assert (await world.paris.snapshot()).regions[0].healthy
    healthy = {region["name"]: region["healthy"] for region in (await world.api("GET", "/regions")).json()["items"]}
    assert healthy == {"fr-par": True, "de-fra": False}


async def test_applying_the_same_catalogue_again_changes_nothing(world: World, database: Database) -> None:
    before = await world.paris.snapshot()
    async with database.operator() as session:
        await apply_catalogue(session, read_manifest(msgspec.json.encode(MANIFEST)), CREDENTIALS)
    assert await world.paris.snapshot() == before


async def test_new_price_is_announced_before_it_is_in_force(world: World, database: Database) -> None:
    listing = MANIFEST["listings"][0]
    dearer = msgspec.to_builtins(PRICE) | {"output_nano_per_token": 999}
    manifest = MANIFEST | {"listings": [listing | {"regions": listing["regions"] | {"fr-par": dearer}}]}
    async with database.operator() as session:
        await apply_catalogue(session, read_manifest(msgspec.json.encode(manifest)), {})
    (sold,) = (await world.paris.snapshot()).listings
    (offer,) = (offer for offer in sold.regions if offer.region == "fr-par")
    assert [version.price.output_nano_per_token for version in offer.prices] == [210, 999]
    assert (offer.prices[1].starts_at - offer.prices[0].starts_at).total_seconds() >= 300
    assert await _shown_output_price(world) == "0.000000210"
    world.clock.advance(400)
    assert await _shown_output_price(world) == "0.000000999"


async def test_offer_and_deployment_end_with_the_manifest_that_lacks_them(world: World, database: Database) -> None:
    listing = MANIFEST["listings"][0]
    manifest = MANIFEST | {
        "listings": [listing | {"regions": {"fr-par": msgspec.to_builtins(PRICE)}}],
        "deployments": MANIFEST["deployments"][:1],
    }
    async with database.operator() as session:
        await apply_catalogue(session, read_manifest(msgspec.json.encode(manifest)), {})
    (sold,) = (await world.paris.snapshot()).listings
    assert [offer.region for offer in sold.regions] == ["fr-par"]
    assert (await world.frankfurt.call("GET", "/deployments")).json() == []


async def _shown_output_price(world: World) -> str:
    (listing,) = (await world.api("GET", "/listings")).json()["items"]
    (offer,) = (offer for offer in listing["regions"] if offer["region"] == "fr-par")
    price = offer["price"]
    assert price["currency"] == "EUR"
    assert price["per_million_tokens"]["output"] == f"{int(price['per_token']['output'][2:]) / 1000:.9f}"
    shown: str = price["per_token"]["output"]
    return shown

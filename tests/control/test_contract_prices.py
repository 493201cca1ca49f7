"""What a tenant's contract says reaches gateways with its keys' facts, its own marketplace, and nobody else."""

from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec
from sqlalchemy import select

from chappe_billing.contract_terms.reckoning import TermKind
from chappe_billing.contract_terms.service import agree_term
from chappe_billing.prices.queries import own_versions
from chappe_billing.prices.service import publish_discount
from chappe_catalogue.listings.models import Listing
from chappe_kernel.rating import Price, charge
from chappe_kernel.wire import control as wire
from chappe_store.session import Database, TenantScope
from tests.control.world import CHAT, Tenant, World

HALF = Price(30, 8, 105)


async def agree(
    database: Database, tenant: Tenant, basis_points: int = 5000, starts_at: datetime | None = None
) -> UUID:
    """In fr-par, at once unless a start is given."""
    async with database.operator() as session:
        listing_id = await session.scalar(select(Listing.id).where(Listing.name == CHAT))
        assert listing_id is not None
        return await publish_discount(
            session,
            listing_id=listing_id,
            region="fr-par",
            currency="EUR",
            tenant_id=tenant.id,
            basis_points=basis_points,
            starts_at=starts_at,
            notice=timedelta(0),
        )


async def test_facts_carry_the_tenants_prices_of_the_calling_region(world: World, database: Database) -> None:
    version_id = await agree(database, world.alice)
    facts = {cell: await cell.resolve(world.alice.keys["inference"]) for cell in (world.paris, world.frankfurt)}
    at_home = facts[world.paris]
    assert at_home is not None
    ((listing, (version,)),) = at_home.prices.items()
    assert (listing, version.id, version.price) == (CHAT, version_id, HALF)
    elsewhere, other = facts[world.frankfurt], await world.paris.resolve(world.bob.keys["inference"])
    assert elsewhere is not None
    assert other is not None
    assert elsewhere.prices == other.prices == {}
    (sold,) = (await world.paris.snapshot()).listings
    assert all(price.id != version_id for offer in sold.regions for price in offer.prices)


async def test_gateways_hear_of_a_contracts_price_and_forget_that_tenants_keys_alone(
    world: World, database: Database
) -> None:
    before = await world.paris.key_changes()
    await agree(database, world.alice)
    changes = await world.paris.key_changes(before.revision, before.epoch)
    assert changes.changes == (wire.KeyChange(world.alice.id),)


async def test_usage_under_it_is_posted_and_under_anothers_it_is_not(world: World, database: Database) -> None:
    version_id = await agree(database, world.alice)
    receipts = []
    for tenant in (world.alice, world.bob):
        facts = await world.paris.resolve(tenant.keys["inference"])
        assert facts is not None
        event = world.paris.event(facts, await world.paris.lease(tenant.id), version_id)
        event = msgspec.structs.replace(event, amount_nano=charge(HALF, event.outcome, event.counts))
        answer = await world.paris.call("POST", "/usage", wire.UsageBatch("gw-1", (event,)))
        receipts.append(msgspec.json.decode(answer.content, type=wire.UsageReceipt))
    assert [(receipt.posted, receipt.quarantined) for receipt in receipts] == [(1, 0), (0, 1)]


async def test_the_marketplace_shows_each_tenant_what_it_pays(world: World, database: Database) -> None:
    await agree(database, world.alice)
    shown = {tenant.id: await _price(world, tenant) for tenant in (world.alice, world.bob)}
    assert shown[world.alice.id]["by_contract"] is True
    assert shown[world.alice.id]["per_million_tokens"]["output"] == "0.105000000"
    assert shown[world.bob.id]["by_contract"] is False
    assert shown[world.bob.id]["per_million_tokens"]["output"] == "0.210000000"
    async with database.tenant(TenantScope(world.bob.id)) as session:
        assert await own_versions(session, TenantScope(world.alice.id)) == set()


async def test_prices_say_what_holds_now_and_what_is_scheduled(world: World, database: Database) -> None:
    everybodys = await _paid(world, world.bob)
    await agree(database, world.alice)
    in_a_day = datetime.now(UTC) + timedelta(days=1)
    await agree(database, world.alice, 1000, starts_at=in_a_day)
    own = await _paid(world, world.alice)
    assert own["in_force"]["by_contract"] is True
    assert own["in_force"]["discount_basis_points"] == 5000
    assert own["in_force"]["price"]["per_million_tokens"]["output"] == "0.105000000"
    (later,) = own["scheduled"]
    assert (later["discount_basis_points"], datetime.fromisoformat(later["starts_at"])) == (1000, in_a_day)
    assert await _paid(world, world.bob) == everybodys
    assert everybodys["in_force"]["by_contract"] is False and everybodys["scheduled"] == []


async def test_an_organisation_reads_its_own_terms_and_no_others(world: World, database: Database) -> None:
    async with database.operator() as session:
        for amount_nano in (1_000_000_000, 2_000_000_000):
            await agree_term(
                session,
                TenantScope(world.alice.id),
                kind=TermKind.MINIMUM,
                first_month=date(2090, 1, 1),
                amount_nano=amount_nano,
            )
    first = (await world.api("GET", "/contract-terms", world.alice, params={"limit": 1})).json()
    rest = (await world.api("GET", "/contract-terms", world.alice, params={"cursor": first["next_cursor"]})).json()
    assert [term["amount"] for term in first["items"] + rest["items"]] == ["2.000000000", "1.000000000"]
    assert rest["next_cursor"] is None
    others = await world.api("GET", "/contract-terms", world.bob)
    assert (others.status_code, others.json()) == (200, {"items": [], "next_cursor": None})


async def _paid(world: World, tenant: Tenant) -> dict[str, Any]:
    answer = await world.api("GET", "/prices", tenant)
    assert answer.status_code == 200, answer.text
    (found,) = (item for item in answer.json()["items"] if (item["model"], item["region"]) == (CHAT, "fr-par"))
    shown: dict[str, Any] = found
    return shown


async def _price(world: World, tenant: Tenant) -> dict[str, Any]:
    answer = await world.api("GET", "/listings", tenant)
    assert answer.status_code == 200, answer.text
    (listing,) = answer.json()["items"]
    (offer,) = (offer for offer in listing["regions"] if offer["region"] == "fr-par")
    price: dict[str, Any] = offer["price"]
    return price

"""Nobody pays a draft, until all of it is published at one moment, as it was simulated."""

import asyncio
from datetime import UTC, datetime, timedelta
from uuid import UUID

import msgspec
import pytest
from sqlalchemy import select, text
from sqlalchemy.exc import DBAPIError

from chappe_billing.price_drafts.comparing import Difference, DraftLine, compare
from chappe_billing.price_drafts.service import (
    Draft,
    change_draft,
    differences,
    discard_draft,
    get_draft,
    publish_draft,
)
from chappe_billing.prices.service import publish_price
from chappe_catalogue.listings.models import Listing
from chappe_catalogue.publishers.models import Publisher
from chappe_kernel.errors import Conflict, Invalid, NotFound
from chappe_kernel.ids import TenantId, new_id
from chappe_kernel.rating import Price
from tests.billing.conftest import PRICE, Customer, MakeCustomer, Market
from tests.prices.conftest import NOW_IS_ENOUGH, Operator

DEARER = msgspec.structs.replace(PRICE, output_nano_per_token=300, image_nano=5)


async def test_nothing_of_a_draft_is_paid_before_it_is_published(market: Market, operator: Operator) -> None:
    await operator.draft(operator.line(DEARER))
    assert await market.scalar("SELECT count(*) FROM price_version") == 2


async def test_all_lines_start_at_one_moment(market: Market, operator: Operator) -> None:
    start = datetime.now(UTC) + timedelta(days=1)
    ids = await operator.publish(operator.line(DEARER), operator.line(DEARER, region="de-fra"), starts_at=start)
    for version_id, region in zip(ids, ("de-fra", "fr-par"), strict=True):
        version = await operator.version(version_id)
        assert (version.price, version.region, version.starts_at) == (DEARER, region, start)


async def test_without_a_start_it_is_one_moment_too_and_gives_notice(operator: Operator) -> None:
    draft = await operator.simulated(operator.line(DEARER), operator.line(DEARER, region="de-fra"))
    async with operator.market.database.operator() as session:
        ids = await publish_draft(session, draft, notice=timedelta(seconds=300))
    (start,) = {(await operator.version(version_id)).starts_at for version_id in ids}
    assert start > datetime.now(UTC) + timedelta(seconds=250)


async def test_a_start_too_soon_publishes_nothing(operator: Operator) -> None:
    draft = await operator.simulated(operator.line(DEARER))
    with pytest.raises(Invalid) as raised:
        async with operator.market.database.operator() as session:
            await publish_draft(session, draft, starts_at=datetime.now(UTC) + timedelta(seconds=1))
    assert raised.value.code == "price_too_soon"
    assert await operator.market.scalar("SELECT count(*) FROM price_version") == 2


async def test_what_was_not_simulated_as_it_is_cannot_be_published(operator: Operator) -> None:
    draft = await operator.simulated(operator.line(DEARER))
    async with operator.market.database.operator() as session:
        changed = await change_draft(session, draft, title="Other", lines=[operator.line(Price(1, 1, 1))])
        assert not changed.is_simulated
        with pytest.raises(Conflict) as raised:
            await publish_draft(session, changed)
    assert raised.value.code == "not_simulated"


async def test_an_empty_draft_cannot_be_published(operator: Operator) -> None:
    draft = await operator.simulated()
    async with operator.market.database.operator() as session:
        with pytest.raises(Conflict) as raised:
            await publish_draft(session, draft)
    assert raised.value.code == "empty_draft"


async def test_a_draft_is_published_once(operator: Operator) -> None:
    draft = await operator.simulated(operator.line(DEARER))

    async def publish() -> int:
        async with operator.market.database.operator() as session:
            locked = await get_draft(session, draft.row.id, lock=True)
            return len(await publish_draft(session, locked, notice=NOW_IS_ENOUGH))

    results = await asyncio.gather(*(publish() for _ in range(4)), return_exceptions=True)
    assert sum(one == 1 for one in results) == 1
    assert {one.code for one in results if isinstance(one, Conflict)} == {"draft_ended"}


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE price_draft SET title = 'x'",
        "DELETE FROM price_draft_line",
        "INSERT INTO price_draft_line SELECT draft_id, listing_id, 'de-fra', 1 FROM price_draft_line",
    ],
)
async def test_what_was_published_stays_as_it_was(operator: Operator, statement: str) -> None:
    await operator.publish(operator.line(DEARER))
    with pytest.raises(DBAPIError, match="stays as it is"):
        async with operator.market.database.operator() as session:
            await session.execute(text(statement))


async def test_a_discarded_draft_is_over(operator: Operator) -> None:
    draft = await operator.simulated(operator.line(DEARER))
    async with operator.market.database.operator() as session:
        await discard_draft(session, draft)
        over = await get_draft(session, draft.row.id)
        for attempt in (publish_draft(session, over), discard_draft(session, over)):
            with pytest.raises(Conflict):
                await attempt


async def test_an_unknown_draft_is_not_found(operator: Operator) -> None:
    async with operator.market.database.operator() as session:
        with pytest.raises(NotFound):
            await get_draft(session, new_id())


@pytest.mark.parametrize("case", ["twice", "absurd", "discount for everybody"])
async def test_impossible_lines_are_refused(operator: Operator, case: str) -> None:
    lines = {
        "twice": [operator.line(PRICE), operator.line(DEARER)],
        "absurd": [operator.line(msgspec.structs.replace(PRICE, image_nano=10**12 + 1))],
        "discount for everybody": [operator.line(discount=100)],
    }[case]
    with pytest.raises(Invalid):
        await operator.draft(*lines)


async def test_differences_are_by_component_beside_what_is_in_force(market: Market, operator: Operator) -> None:
    draft = await operator.draft(operator.line(DEARER), operator.line(PRICE, region="de-fra"))
    same, dearer = await _differences(operator, draft)
    assert same.changes == ()
    assert dearer.version_id == market.prices["fr-par"]
    assert [(one.component, one.before_nano, one.after_nano) for one in dearer.changes] == [
        ("output_nano_per_token", 210, 300),
        ("image_nano", 0, 5),
    ]


async def test_a_tenants_draft_is_compared_with_what_the_tenant_pays(operator: Operator, customer: Customer) -> None:
    draft = await operator.draft(operator.line(discount=1000), tenant_id=customer.tenant_id)
    (first,) = await _differences(operator, draft)
    assert first.price == Price(54, 14, 189, 6), "a half goes up: 13.5 and 6.3"
    await operator.publish(operator.line(DEARER), tenant_id=customer.tenant_id)
    (second,) = await _differences(operator, draft)
    assert [one.before_nano for one in second.changes if one.component == "output_nano_per_token"] == [300]


async def test_what_was_not_sold_before_differs_in_all_that_costs(operator: Operator) -> None:
    assert [(one.component, one.before_nano) for one in compare(None, Price(1, 0, 2, image_nano=3))] == [
        ("input_nano_per_token", None),
        ("output_nano_per_token", None),
        ("image_nano", None),
    ]


async def test_a_tenant_pays_its_own_price_and_others_do_not(
    operator: Operator, customer: Customer, market: Market
) -> None:
    (own,) = await operator.publish(operator.line(DEARER), tenant_id=customer.tenant_id)
    version = await operator.version(own)
    assert (version.tenant_id, version.price) == (customer.tenant_id, DEARER)
    listed: UUID = market.prices["fr-par"]
    assert (await operator.version(listed)).ends_at is None


async def test_a_discount_is_a_version_of_its_own_that_follows_the_list_price(
    operator: Operator, customer: Customer
) -> None:
    (own,) = await operator.publish(operator.line(discount=5000), tenant_id=customer.tenant_id)
    assert (await operator.version(own)).price == Price(30, 8, 105, 4)
    assert await operator.discount(customer.tenant_id, 5000) == own, "it says so already"
    await operator.list_price(Price(10, 5, 100))
    statement = (
        "SELECT array_agg(output_nano_per_token ORDER BY starts_at) FROM price_version WHERE tenant_id = :tenant"
    )
    assert await operator.market.scalar(statement, tenant=customer.tenant_id) == [105, 50]
    last = await operator.discount(customer.tenant_id, 0)
    assert (await operator.version(last)).price == Price(10, 5, 100)


async def test_a_discount_that_is_scheduled_follows_a_list_price_that_comes_before_it(
    operator: Operator, customer: Customer
) -> None:
    later = datetime.now(UTC) + timedelta(days=2)
    first = await operator.discount(customer.tenant_id, 5000, later)
    await operator.list_price(Price(10, 5, 100), later - timedelta(days=1))
    old = await operator.version(first)
    assert old.ends_at is not None
    assert old.ends_at < later, "withdrawn"
    statement = """
        SELECT array_agg(output_nano_per_token) FROM price_version v WHERE tenant_id = :tenant
        AND NOT EXISTS (SELECT FROM price_withdrawal WHERE price_version_id = v.id)
    """
    assert await operator.market.scalar(statement, tenant=customer.tenant_id) == [50]


async def test_a_discount_on_a_new_listing_is_agreed_before_it_is_sold(
    market: Market, operator: Operator, customer: Customer
) -> None:
    """It is simulated and published from the scheduled list price, to start with it, and no sooner."""
    starts_at, listing_id = datetime.now(UTC) + timedelta(days=1), new_id()
    bounds = {"context_tokens": 1, "template_tokens": 1, "default_output_tokens": 1, "max_output_tokens": 1}
    async with market.database.operator() as session:
        publisher_id = await session.scalar(select(Publisher.id).limit(1))
        named = {"name": "new-model", "publisher_id": publisher_id, "task": "chat", "currency": "EUR"}
        session.add(Listing(id=listing_id, **named, **bounds))
        await session.flush()
        await publish_price(
            session,
            listing_id=listing_id,
            region="fr-par",
            currency="EUR",
            price=Price(10, 5, 100),
            starts_at=starts_at,
        )
    line = DraftLine(listing_id, "new-model", "fr-par", "EUR", None, 5000)
    with pytest.raises(Invalid, match="no list price"):
        await operator.publish(line, starts_at=starts_at - timedelta(hours=1), tenant_id=customer.tenant_id)
    (own,) = await operator.publish(line, starts_at=starts_at, tenant_id=customer.tenant_id)
    version = await operator.version(own)
    assert (version.price, version.starts_at) == (Price(5, 3, 50), starts_at)


async def test_a_fixed_price_follows_nothing(operator: Operator, customer: Customer) -> None:
    await operator.publish(operator.line(DEARER), tenant_id=customer.tenant_id)
    await operator.list_price(Price(10, 5, 100))
    statement = "SELECT count(*) FROM price_version WHERE tenant_id = :tenant"
    assert await operator.market.scalar(statement, tenant=customer.tenant_id) == 1


async def test_a_tenant_sees_list_prices_and_its_own_alone(
    operator: Operator, customer: Customer, make_customer: MakeCustomer, market: Market
) -> None:
    await operator.publish(operator.line(DEARER), tenant_id=customer.tenant_id)
    other = await make_customer()
    seen = {}
    for one in (customer, other):
        async with market.database.tenant(one.scope) as session:
            rows = await session.execute(text("SELECT tenant_id FROM price_version"))
            seen[one.tenant_id] = [TenantId(row[0]) for row in rows if row[0] is not None]
    assert seen == {customer.tenant_id: [customer.tenant_id], other.tenant_id: []}


async def _differences(operator: Operator, draft: Draft) -> list[Difference]:
    async with operator.market.database.audit() as session:
        return await differences(session, draft, datetime.now(UTC))

"""A tenant's own prices hold from their start, for its requests alone, as soon as the gateway has heard of them."""

from datetime import UTC, datetime, timedelta

import msgspec

from chappe_gateway.access.rights import Visitor
from chappe_gateway.access.snapshot import View
from chappe_kernel.ids import new_id
from chappe_kernel.rating import Price
from chappe_kernel.wire.control import PriceVersion, price_in_force
from tests.gateway.fake_control import CHAT
from tests.gateway.test_keys import PATH
from tests.gateway.world import RunningGateway, World, auth, chat_body, until

NOW = datetime.now(UTC)
YESTERDAY, TOMORROW = NOW - timedelta(days=1), NOW + timedelta(days=1)
OWN = PriceVersion(new_id(), YESTERDAY, Price(30, 7, 100, 5))
LATER = PriceVersion(new_id(), TOMORROW, Price(1, 1, 1))


async def test_a_request_is_held_and_settled_under_its_tenants_own_price(world: World, gateway: RunningGateway) -> None:
    other = world.control.new_key(world.control.new_tenant())
    assert (await gateway.http.post(PATH, json=chat_body(), headers=auth(world.key))).status_code == 200
    facts = world.control.keys[world.key]
    world.control.keys[world.key] = msgspec.structs.replace(facts, prices={CHAT: (OWN, LATER)})
    world.control.announce(world.tenant)
    await until(lambda: gateway.gateway.key_feed.revision == world.control.revision)
    for key in (world.key, other):
        assert (await gateway.http.post(PATH, json=chat_body(), headers=auth(key))).status_code == 200
    events = await world.events(3)
    listed = world.control.price_version(CHAT)
    assert sorted((event.price_version == OWN.id, event.tenant_id == world.tenant) for event in events) == [
        (False, False),
        (False, True),
        (True, True),
    ]
    for event in events:
        price = OWN.price if event.price_version == OWN.id else Price(60, 15, 210, 0)
        assert event.price_version in {OWN.id, listed}
        assert (
            event.amount_nano == 6 * price.input_nano_per_token + 8 * price.output_nano_per_token + price.request_nano
        )


async def test_before_its_start_everybodys_price_holds(world: World, gateway: RunningGateway) -> None:
    view = View(world.control.snapshot(), "fr-par")
    facts = msgspec.structs.replace(world.control.keys[world.key], prices={CHAT: (LATER,)})
    visitor = Visitor(view, facts, ("fr-par",), None, 0)
    listed = visitor.price_in_force(CHAT, NOW)
    assert listed is not None
    assert listed.id == world.control.price_version(CHAT)
    assert visitor.price_in_force(CHAT, TOMORROW) == LATER


def test_the_last_that_has_started_is_in_force() -> None:
    assert price_in_force((OWN, LATER), NOW) == OWN
    assert price_in_force((OWN, LATER), TOMORROW) == LATER
    assert price_in_force((OWN, LATER), YESTERDAY - timedelta(seconds=1)) is None
    assert price_in_force((), NOW) is None

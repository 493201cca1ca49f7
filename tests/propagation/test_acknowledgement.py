"""A page says at how many gateways the tenant's last change is in force, and never more than is true."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest

from chappe_catalogue.regions.models import GatewayHeartbeat
from chappe_control.portal.acknowledgement import Acknowledgement, Follower, acknowledge
from chappe_kernel.ids import new_id
from chappe_kernel.wire.control import Heartbeat
from chappe_store.models import KeyChange
from tests.portal.world import Customer, PortalWorld, unlike

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
MAX_AGE_S = 300.0
GRACE_S = MAX_AGE_S + 60
CHANGE = KeyChange(revision=7, tenant_id=new_id(), key_id=None, changed_at=NOW)


def beats(*found: tuple[str, int, float], at: datetime = NOW) -> list[GatewayHeartbeat]:
    """Region, revision, and how long ago it was seen."""
    return [
        GatewayHeartbeat(
            region=region, gateway=f"gw-{number}", keys_revision=revision, seen_at=at - timedelta(seconds=ago)
        )
        for number, (region, revision, ago) in enumerate(found)
    ]


def told(heartbeats: Sequence[GatewayHeartbeat], now: datetime = NOW) -> tuple[int, int, tuple[str, ...]]:
    found = acknowledge(CHANGE, heartbeats, now, MAX_AGE_S)
    return found.in_force, len(found.followers), found.missing


@pytest.mark.parametrize(
    ("heartbeats", "in_force", "gateways", "missing"),
    [
        (beats(), 0, 0, ()),
        (beats(("fr-par", 7, 0), ("de-fra", 9, 0)), 2, 2, ()),
        (beats(("fr-par", 7, 0), ("de-fra", 6, 0), ("de-fra", 0, 0)), 1, 3, ("de-fra",)),
        # Silent, but it may still serve by what it knew.
        (beats(("fr-par", 7, 0), ("de-fra", 6, GRACE_S - 1)), 1, 2, ("de-fra",)),
        # Silent for so long that it serves no more.
        (beats(("fr-par", 7, 0), ("de-fra", 6, GRACE_S + 1)), 1, 1, ()),
    ],
)
def test_a_gateway_counts_when_it_has_acknowledged(
    heartbeats: list[GatewayHeartbeat], in_force: int, gateways: int, missing: tuple[str, ...]
) -> None:
    assert told(heartbeats) == (in_force, gateways, missing)


def test_a_gateway_without_word_for_too_long_has_failed_closed() -> None:
    """It beats and does not follow: however that may be, by then it knows the change or does not serve."""
    for after_s, in_force in ((GRACE_S - 1, 0), (GRACE_S, 1)):
        now = NOW + timedelta(seconds=after_s)
        assert told(beats(("fr-par", 6, 0), at=now), now)[:2] == (in_force, 1)
    assert acknowledge(CHANGE, beats(), NOW, MAX_AGE_S).complete_by == NOW + timedelta(seconds=GRACE_S)


def test_without_a_change_there_is_nothing_to_wait_for() -> None:
    assert acknowledge(None, beats(("fr-par", 0, 0)), NOW, MAX_AGE_S) == Acknowledgement((Follower("fr-par", "gw-0"),))


async def beat(portal: PortalWorld, region: str, gateway: str, revision: int, *, leaving: bool = False) -> None:
    heartbeat = Heartbeat(gateway, "", (), keys_revision=revision, leaving=leaving)
    assert (await portal.cells[region].call("POST", "/heartbeat", heartbeat)).status_code == 204


async def line(customer: Customer, path: str = "/acknowledgement/live") -> str:
    return " ".join((await customer.visitor.get(path)).text.split())


@pytest.fixture
async def customer(portal: PortalWorld) -> Customer:
    """Nobody else's gateways are there."""
    await portal.sql("DELETE FROM gateway_heartbeat")
    return await portal.sign_up(unlike())


async def test_the_page_follows_the_gateways(portal: PortalWorld, customer: Customer) -> None:
    assert "No gateway is connected" in await line(customer)
    before = await portal.cells["fr-par"].keys_revision()
    for region in ("fr-par", "de-fra"):
        await beat(portal, region, "gw-0", before)
    assert "In force at 2 of 2 gateways" in await line(customer)
    await portal.sql("UPDATE tenant SET allowed_regions = '{fr-par}' WHERE id = $1", customer.id)
    waiting = await line(customer)
    assert "In force at 0 of 2 gateways" in waiting
    assert "Not yet in de-fra, fr-par" in waiting
    await beat(portal, "fr-par", "gw-0", await portal.cells["fr-par"].keys_revision())
    one = await line(customer)
    assert "In force at 1 of 2 gateways" in one
    assert "de-fra / gw-0</span>: waiting" in one and "fr-par / gw-0</span>: in force" in one
    await beat(portal, "de-fra", "gw-0", before, leaving=True)
    done = await line(customer)
    assert "In force at 1 of 1 gateways" in done and "Not yet" not in done


async def test_the_keys_page_shows_it_and_fetches_it_again(portal: PortalWorld, customer: Customer) -> None:
    await customer.make_key("app")
    await beat(portal, "fr-par", "gw-0", 0)
    page = await line(customer, "/keys")
    assert 'data-live="/acknowledgement/live"' in page
    assert "In force at 1 of 1 gateways" in page


async def test_another_tenants_change_is_not_ours(portal: PortalWorld, customer: Customer) -> None:
    other = await portal.sign_up(unlike())
    await beat(portal, "fr-par", "gw-0", 0)
    await portal.sql("UPDATE tenant SET allowed_regions = '{FR}' WHERE id = $1", other.id)
    assert "In force at 1 of 1 gateways" in await line(customer)
    assert "In force at 0 of 1 gateways" in await line(other)


@pytest.mark.parametrize("revision", [-1, 2**63])
async def test_a_revision_that_cannot_be_is_400(portal: PortalWorld, revision: int) -> None:
    answer = await portal.cells["fr-par"].call("POST", "/heartbeat", Heartbeat("gw", "", (), keys_revision=revision))
    assert answer.status_code == 400

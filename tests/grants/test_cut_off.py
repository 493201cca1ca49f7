"""A cell that is cut off for longer than its grants last, and events that come when their grant is gone."""

import asyncio
import time
from collections.abc import AsyncIterator

import pytest

from tests.grants.conftest import SHORT
from tests.grants.world import Buyer, Fleet, exact_hold_nano

PARIS, FRANKFURT = "fr-par-gateway-0", "de-fra-gateway-0"
TOKENS = 20
COST_NANO = exact_hold_nano(TOKENS)
"""Of one request, to the nano: its prompt is exact, and its answer as long as it may be."""
ADMIT_S, RELEASE_S = SHORT["grant_admit_s"], SHORT["grant_release_s"]


@pytest.fixture(autouse=True)
async def whole_lines(short_fleet: Fleet) -> AsyncIterator[None]:
    short_fleet.engine.script.tokens = TOKENS
    yield
    for line in short_fleet.lines.values():
        line.refused = None
        line.mend()


async def spend_until_refused(fleet: Fleet, buyer: Buyer, for_s: float) -> tuple[int, float]:
    """One request after another at Paris: how many were served, and when the last one of them was asked for."""
    served, last_at, give_up_at = 0, 0.0, time.monotonic() + for_s
    while time.monotonic() < give_up_at:
        answer = await fleet.ask(PARIS, buyer.key, max_tokens=TOKENS)
        if answer.status != 200:
            assert (answer.status, answer.code) == (503, "control_unreachable")
            break
        served, last_at = served + 1, answer.asked_at
        await asyncio.sleep(0.05)
    return served, last_at


async def test_prepaid_stops_exactly_and_nothing_doubles_when_the_cell_is_back(short_fleet: Fleet) -> None:
    fleet = short_fleet
    buyer = await fleet.buyer(40 * COST_NANO)
    leased_at = time.monotonic()
    assert (await fleet.ask(PARIS, buyer.key, max_tokens=TOKENS)).status == 200
    fleet.lines[PARIS].cut()
    served, last_at = await spend_until_refused(fleet, buyer, 3 * ADMIT_S)
    assert 1 <= served <= 10, "what was leased before the cut, and no more"
    assert last_at <= leased_at + 2 * ADMIT_S
    # Until the release that money is nobody's: 503, and never 402. Then others have it.
    assert (await fleet.ask_until(FRANKFURT, buyer.key, 200, 402, max_tokens=TOKENS)).status == 200
    fleet.lines[PARIS].mend()
    events = await fleet.until_posted(buyer, 1 + served + 1)
    assert len({event[0] for event in events}) == len(events)
    assert (await fleet.budget(buyer))[1] == len(events) * COST_NANO
    assert sum(event[3] for event in events) == 0
    await fleet.verify()


async def test_postpaid_goes_on_within_its_credit(short_fleet: Fleet) -> None:
    fleet = short_fleet
    buyer = await fleet.buyer(0, credit_limit_nano=400 * COST_NANO)
    assert (await fleet.ask(PARIS, buyer.key, max_tokens=TOKENS)).status == 200
    cut_at = time.monotonic()
    fleet.lines[PARIS].cut()
    served, last_at = await spend_until_refused(fleet, buyer, RELEASE_S + 1)
    assert last_at > cut_at + RELEASE_S, "longer than anybody prepaid"
    assert served <= 100
    fleet.lines[PARIS].mend()
    events = await fleet.until_posted(buyer, 1 + served)
    funds, posted, pending = await fleet.budget(buyer)
    assert (funds, posted) == (0, len(events) * COST_NANO)
    assert posted + pending <= 400 * COST_NANO
    assert sum(event[3] for event in events) == 0
    await fleet.verify()


async def test_events_after_the_release_are_a_write_off_and_never_an_overdraft(short_fleet: Fleet) -> None:
    """The returns of the grant came before them: nothing is freed twice."""
    fleet = short_fleet
    buyer = await fleet.buyer(4 * COST_NANO)
    fleet.lines[PARIS].refused = b"/internal/v1/usage"
    for _ in range(2):
        assert (await fleet.ask(PARIS, buyer.key, max_tokens=TOKENS)).status == 200
    # What was spent at Paris is nobody's until the release: then it is free, and others spend all there is.
    for _ in range(4):
        answer = await fleet.ask_until(FRANKFURT, buyer.key, 200, 402, max_tokens=TOKENS)
        assert answer.status == 200
    await fleet.until_posted(buyer, 4)
    assert (await fleet.ask(FRANKFURT, buyer.key, max_tokens=TOKENS)).code == "insufficient_funds"
    fleet.lines[PARIS].refused = None
    events = await fleet.until_posted(buyer, 6)
    assert sum(event[1] for event in events) == 6 * COST_NANO
    assert sum(event[3] for event in events) == 2 * COST_NANO, "the operator's loss, to the nano"
    assert (await fleet.budget(buyer))[:2] == (4 * COST_NANO, 4 * COST_NANO)
    await fleet.verify()


async def test_returns_that_overtake_their_events_free_nothing_twice(short_fleet: Fleet) -> None:
    fleet = short_fleet
    buyer = await fleet.buyer(4 * COST_NANO)
    fleet.lines[PARIS].refused = b"/internal/v1/usage"
    assert (await fleet.ask(PARIS, buyer.key, max_tokens=TOKENS)).status == 200
    returned_nano = 0
    async with asyncio.timeout(RELEASE_S):
        while not returned_nano:
            returned_nano = sum(grant[3] for grant in await fleet.grants(buyer))
            # Somebody needs it: that is why it comes back, as soon as it is idle.
            assert (await fleet.ask_until(FRANKFURT, buyer.key, 200, max_tokens=TOKENS)).status == 200
    fleet.lines[PARIS].refused = None
    funds, posted, pending = await fleet.budget(buyer)
    assert posted + pending <= funds
    async with asyncio.timeout(15):
        while (await fleet.ask_until(FRANKFURT, buyer.key, 200, 402, max_tokens=TOKENS)).status == 200:
            pass
    events = await fleet.until_posted(buyer, 4)
    assert sum(event[1] - event[3] for event in events) == buyer.funds_nano
    assert sum(event[3] for event in events) == 0
    await fleet.verify()


async def test_a_killed_gateways_money_is_free_again_at_the_release(short_fleet: Fleet) -> None:
    fleet = short_fleet
    buyer = await fleet.buyer(4 * COST_NANO)
    assert (await fleet.ask(PARIS, buyer.key, max_tokens=TOKENS)).status == 200
    fleet.kill(PARIS)
    try:
        # What it was charging is settled by another gateway of its cell; what it had leased is in nobody's hands.
        for _ in range(3):
            assert (await fleet.ask_until(FRANKFURT, buyer.key, 200, 402, max_tokens=TOKENS)).status == 200
        events = await fleet.until_posted(buyer, 4)
    finally:
        await fleet.start(PARIS)
    assert sum(event[1] - event[3] for event in events) == buyer.funds_nano
    await fleet.verify()

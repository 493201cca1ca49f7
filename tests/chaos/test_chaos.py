"""Whatever is killed, in whatever order, under load: no charge is lost, none is made twice, and the books balance.

`make chaos MINUTES=10` runs it for longer, `SEED=…` again as it was. A run prints its seed and its sums.
"""

import asyncio
import os
import random
import secrets
import time
from collections import Counter
from uuid import UUID

import pytest

from chappe_kernel.ids import REQUEST, encode_id
from tests.chaos.books import BUDGETS, EVENTS, Sums, check_books, check_budgets
from tests.chaos.load import Seen, run_clients
from tests.chaos.realm import CONTROL, POSTGRES, WORKER, Realm
from tests.gateway.spool_files import spooled

GATEWAYS = ("gw-0", "gw-1")
ENGINES = ("engine-0", "engine-1")
CLIENTS = 16
SETTLED_WITHIN_S = 120.0
LONGEST_LOSS_S = 1.0
"""Between two reports of an engine. Beyond it comes what a busy machine makes of a second."""
_SLACK_S = 1.0

SECONDS = 60 * float(os.environ.get("CHAPPE_CHAOS_MINUTES", "0.25"))
SEED = os.environ.get("CHAPPE_CHAOS_SEED") or secrets.token_hex(4)
pytestmark = [pytest.mark.alone, pytest.mark.timeout(2 * SECONDS + 400)]


async def test_books_balance_after_any_part_was_killed_at_any_time(realm: Realm) -> None:
    dice = random.Random(SEED)  # noqa: S311 -- a test's dice
    realm.has_worker = True
    await realm.start(CONTROL, WORKER, *ENGINES)
    await realm.start(*GATEWAYS)
    # The last one runs out of money in mid-run: it is refused, and never overdrawn.
    payers = [await realm.new_payer(f"payer {number}") for number in range(3)]
    payers.append(await realm.new_payer("a poor one", funds_nano=3_000_000))
    over = asyncio.Event()
    load = asyncio.create_task(
        run_clients([realm.url(name) for name in GATEWAYS], payers, clients=CLIENTS, until=over, seed=SEED)
    )
    killed = await _kill_for(realm, SECONDS, dice)
    over.set()
    seen = await load
    await _settle(realm)
    sums, events = await _check(realm, seen)
    statuses = Counter(one.status for one in seen)
    report = f"seed {SEED}, {SECONDS:.0f} s: killed {dict(killed)}, answers {dict(statuses)}, {events} events, {sums}"
    print(report)  # noqa: T201 -- what `make chaos` is run for
    assert statuses[200] > 0
    assert sums.charged > 0
    assert sums.longest_loss_s <= LONGEST_LOSS_S + _SLACK_S


async def _kill_for(realm: Realm, seconds: float, dice: random.Random) -> Counter[str]:
    """Kill one part after the other, each to come back soon; sometimes another goes while one is away."""
    killed: Counter[str] = Counter()
    comings: dict[str, asyncio.Task[None]] = {}
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        await asyncio.sleep(dice.uniform(0.2, 2.0))
        name = dice.choice([*GATEWAYS, *ENGINES, CONTROL, WORKER, POSTGRES])
        if name in comings and not comings[name].done():
            continue
        realm.kill(name)
        killed[name] += 1
        comings[name] = asyncio.create_task(_come_back(realm, name, dice.uniform(0.0, 1.0)))
    await asyncio.gather(*comings.values())
    return killed


async def _come_back(realm: Realm, name: str, after_s: float) -> None:
    await asyncio.sleep(after_s)
    await realm.start(name)


async def _settle(realm: Realm) -> None:
    """Until each reported request has its event, everything is shipped, and every grant's time is over."""

    async def is_settled() -> bool:
        return not await _unsettled(realm)

    try:
        await realm.until(is_settled, SETTLED_WITHIN_S)
    except TimeoutError:
        left = [encode_id(REQUEST, request_id) for request_id in await _unsettled(realm)]
        logs = [realm.log(name)[-3000:] for name in GATEWAYS]
        pytest.fail("\n".join([f"seed {SEED}: {left} are not settled", *logs]))

    async def is_free() -> bool:
        return not await realm.rows(
            "SELECT 1 FROM budget_grant WHERE released_at IS NULL AND release_at > now()"
            " AND amount_nano > returned_nano + posted_nano"
        )

    await realm.until(is_free, SETTLED_WITHIN_S)


async def _unsettled(realm: Realm) -> set[UUID]:
    posted = {row["request_id"] for row in await realm.rows("SELECT request_id FROM usage_event")}
    reported = set(await realm.reports()) - posted
    return reported | await asyncio.to_thread(_unshipped, realm)


def _unshipped(realm: Realm) -> set[UUID]:
    found: set[UUID] = set()
    for path in (realm.folder / "spool").glob("*.sqlite"):
        found |= {UUID(bytes=row.key[:16]) for row in spooled(path) if not row.is_shipped}
    return found


async def _check(realm: Realm, seen: list[Seen]) -> tuple[Sums, int]:
    events = await realm.rows(EVENTS)
    sums = check_books(realm.truth(), await realm.reports(), events, seen)
    check_budgets(await realm.rows(BUDGETS), events)
    assert await realm.rows("SELECT * FROM usage_quarantine") == []
    verified = await realm.verify()
    assert verified.returncode == 0, verified.stdout + verified.stderr
    return sums, len(events)

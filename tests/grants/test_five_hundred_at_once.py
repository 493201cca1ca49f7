"""500 requests at once through four gateways, on money for ten: never an overdraft, and nobody is refused falsely."""

import asyncio
import random
import time
from collections import Counter
from collections.abc import AsyncIterator

import pytest

from tests.grants.world import Answer, Fleet, exact_hold_nano

pytestmark = pytest.mark.alone

REQUESTS = 500
MAX_ASKS = 100
"""Of the control plane, by all four gateways: it is asked for all who wait. On a busy machine there were 14."""
MAX_TOKENS = 40
LATE, PATIENCE_S = "control_unreachable", 3.0
"""On a machine without CPU time to spare the control plane answers late. So long a gateway waits for it: whoever is
told so sooner was told it for another reason, which there must not be."""
HOLD_NANO = exact_hold_nano(MAX_TOKENS)


@pytest.fixture(autouse=True)
async def engine(fleet: Fleet) -> AsyncIterator[None]:
    script = fleet.engine.script
    # All holds stand at once.
    script.delay_s = 0.01
    yield
    script.tokens, script.delay_s = 8, 0.0


@pytest.mark.parametrize("tokens", [MAX_TOKENS, 7])
async def test_money_for_ten(fleet: Fleet, tokens: int) -> None:
    """With answers as long as they may be, ten is all there is; with short ones, what comes back is spent as well."""
    fleet.engine.script.tokens = tokens
    buyer = await fleet.buyer(10 * HOLD_NANO)
    asked_before = sum(line.asks for line in fleet.lines.values())
    asked = [fleet.ask(fleet.names[number % 4], buyer.key, max_tokens=MAX_TOKENS) for number in range(REQUESTS)]
    began_at = time.monotonic()
    answers: list[Answer] = await asyncio.gather(*asked)
    found = Counter((answer.status, answer.code) for answer in answers)
    served = found[200, ""]
    lent = {(503, "budget_unavailable"), (503, LATE)}
    assert set(found) <= {(200, ""), (402, "insufficient_funds"), *lent}, found
    late = [answer.answered_at - began_at for answer in answers if answer.code == LATE]
    assert min(late, default=PATIENCE_S) >= PATIENCE_S, "refused, with time left to answer"
    assert sum(line.asks for line in fleet.lines.values()) - asked_before <= MAX_ASKS
    # Whoever is told to try again does, until the answer is final.
    dice = random.Random(7)  # noqa: S311 -- a test's dice, the same each time
    while True:
        answers.append(await fleet.ask_until(dice.choice(fleet.names), buyer.key, 200, 402, max_tokens=MAX_TOKENS))
        if answers[-1].status == 402:
            break
        served += 1
    events = await fleet.until_posted(buyer, served)
    charged = sum(event[1] for event in events)
    assert 0 <= buyer.funds_nano - charged < HOLD_NANO
    assert sum(event[3] for event in events) == 0, "nothing was written off"
    assert (await fleet.budget(buyer))[1] == charged
    # What was spent by then leaves less than a hold: whatever was held, or lent and idle, no more could have come back.
    for answer in (one for one in answers if one.status == 402):
        assert buyer.funds_nano - sum(event[1] for event in events if event[5] < answer.wall_time) < HOLD_NANO
    await fleet.verify()

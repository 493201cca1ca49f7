"""Limits by model, tokens per minute over any number of gateways, and grants that keep to monthly budgets."""

import asyncio
from collections import Counter
from itertools import pairwise

import httpx
import pytest
import redis.asyncio
from hypothesis import given
from hypothesis import strategies as st

from chappe_gateway.edge.errors import RequestLimitExceeded
from chappe_gateway.limits.limit_leases import RateLimiter
from chappe_gateway.limits.limits import Unit, Window, meters
from chappe_kernel.clock import SystemClock
from chappe_kernel.ids import new_id
from chappe_kernel.wire.control import MonthlyBudget, RateLimit
from tests.gateway.fake_control import CHAT, EMBEDDINGS
from tests.gateway.test_answers_shape import check_error
from tests.gateway.world import RunningGateway, World, auth, chat_body

PATH = "/v1/chat/completions"


def test_a_request_is_counted_by_what_names_its_model_or_none() -> None:
    limits = [
        RateLimit("tenant:t", 10),
        RateLimit("tenant:t", 5, "m"),
        RateLimit("tenant:t", 4, "n"),
        RateLimit("project:p", tokens_per_minute=100),
        RateLimit("key:k", concurrent_requests=1),
    ]
    assert [(meter.key, meter.unit, meter.limit, meter.amount) for meter in meters(limits, "m", 30)] == [
        ("tenant:t", Unit.REQUESTS, 10, 1),
        ("tenant:t:m", Unit.REQUESTS, 5, 1),
        ("project:p:tokens", Unit.TOKENS, 100, 30),
    ]


@given(st.lists(st.tuples(st.integers(1, 50), st.integers(0, 50)), max_size=40), st.integers(1, 200))
def test_what_is_given_back_is_never_more_than_was_taken(uses: list[tuple[int, int]], block: int) -> None:
    window = Window(block)
    window.lease(0.0, 1, block, 60.0, 0)
    used = 0
    for bound, actual in uses:
        if window.take(1.0, bound):
            window.give_back(1.0, 1, max(0, bound - actual))
            used += min(bound, actual)
    assert window.left == block - used >= 0


def test_the_next_minute_gets_nothing_back() -> None:
    window = Window(10)
    window.lease(0.0, 1, 5, 30.0, 5)
    assert window.take(1.0, 5)
    window.lease(31.0, 2, 5, 60.0, 5)
    window.give_back(32.0, 1, 5)
    assert window.left == 5


async def test_a_model_has_its_own_limit(world: World, gateway: RunningGateway) -> None:
    key = world.control.new_key(world.control.new_tenant())
    tenant = world.control.keys[key].tenant_id
    world.control.set_quotas(key, RateLimit(f"tenant:{tenant}", 1000), RateLimit(f"tenant:{tenant}", 2, CHAT))
    answers = [await gateway.http.post(PATH, json=chat_body(), headers=auth(key)) for _ in range(4)]
    statuses = Counter(answer.status_code for answer in answers)
    assert statuses[200] == 2 or _minute_turned(answers, "requests")
    refused = next(answer for answer in answers if answer.status_code == 429)
    assert CHAT in refused.json()["error"]["message"]
    embedded = await gateway.http.post("/v1/embeddings", json={"model": EMBEDDINGS, "input": "x"}, headers=auth(key))
    assert embedded.status_code == 200


async def test_tokens_are_never_exceeded_by_two_gateways(gateway_redis_url: str, world: World) -> None:
    client = redis.asyncio.Redis.from_url(gateway_redis_url)
    limiters = [RateLimiter(client, SystemClock()) for _ in range(2)]
    limit = RateLimit("tenant:tokens", tokens_per_minute=1000)

    async def ask(number: int) -> int:
        try:
            await limiters[number % 2].admit([limit], tokens=30)
        except RequestLimitExceeded as refusal:
            assert (refusal.unit, refusal.limit) == ("tokens", 1000)
            return 0
        return 30

    taken = sum(await asyncio.gather(*(ask(number) for number in range(100))))
    # Each gateway may be left with less than one request needs. The minute may turn during the burst.
    assert 940 <= taken <= 1000 or 1940 <= taken <= 2000
    await client.aclose()


async def test_tokens_that_were_not_used_serve_others_in_the_same_minute(gateway_redis_url: str, world: World) -> None:
    client = redis.asyncio.Redis.from_url(gateway_redis_url)
    limiter = RateLimiter(client, SystemClock())
    limit = RateLimit("tenant:unused", tokens_per_minute=100)
    for _ in range(20):
        taken = await limiter.admit([limit], tokens=50)
        assert dict(taken.headers)[b"x-ratelimit-limit-tokens"] == b"100"
        taken.settle(2)
    await client.aclose()


async def test_a_request_larger_than_the_limit_says_so(gateway_redis_url: str, world: World) -> None:
    client = redis.asyncio.Redis.from_url(gateway_redis_url)
    limiter = RateLimiter(client, SystemClock())
    with pytest.raises(RequestLimitExceeded, match="max_tokens"):
        await limiter.admit([RateLimit("tenant:large", tokens_per_minute=100)], tokens=101)
    await client.aclose()


async def test_settled_tokens_come_back_through_the_gateway(world: World, gateway: RunningGateway) -> None:
    """The bound counts bytes and the whole answer that was asked for: several times what is used."""
    key = world.control.new_key(world.control.new_tenant())
    world.control.set_quotas(key, RateLimit(f"key:{new_id()}", tokens_per_minute=600))
    body = chat_body(max_tokens=300)
    answers = [await gateway.http.post(PATH, json=body, headers=auth(key)) for _ in range(5)]
    assert [answer.status_code for answer in answers] == [200] * 5
    assert answers[0].headers["x-ratelimit-limit-tokens"] == "600"


async def test_requests_are_paid_from_grants_within_their_monthly_budget(world: World, gateway: RunningGateway) -> None:
    control = world.control
    free = control.new_key(control.new_tenant())
    bound = control.new_key(control.keys[free].tenant_id)
    budget, other_models = new_id(), new_id()
    control.monthly = {budget: 1_000_000, other_models: 0}
    limits = control.keys[bound].limits
    control.set_quotas(bound, *limits, budgets=(MonthlyBudget(budget), MonthlyBudget(other_models, EMBEDDINGS)))
    for key in (free, bound):
        answer = await gateway.http.post(PATH, json=chat_body(), headers=auth(key))
        assert answer.status_code == 200
    assert {grant.ask.budgets for grant in control.grants.values()} == {(), (budget,)}
    answer = await gateway.http.post("/v1/embeddings", json={"model": EMBEDDINGS, "input": "x"}, headers=auth(bound))
    assert "project P" in check_error(answer, 402, "monthly_budget_reached", "project")


async def test_idle_money_of_one_budget_is_recalled_for_another(world: World, gateway: RunningGateway) -> None:
    control = world.control
    first = control.new_key(control.new_tenant(funds_nano=400_000))
    second = control.new_key(control.keys[first].tenant_id)
    budget = new_id()
    control.monthly = {budget: 10**9}
    control.set_quotas(second, *control.keys[second].limits, budgets=(MonthlyBudget(budget),))
    for key in (first, second, first):
        answer = await gateway.http.post(PATH, json=chat_body(), headers=auth(key))
        assert answer.status_code == 200, answer.text


def _minute_turned(answers: list[httpx.Response], unit: str) -> bool:
    left = [int(answer.headers[f"x-ratelimit-reset-{unit}"].rstrip("s")) for answer in answers]
    return any(later > earlier + 30 for earlier, later in pairwise(sorted(left)))

"""A gateway or a replica dies at the worst moment of a request: it is charged once, and as the outcome table says."""

import asyncio
import json
import time
from collections import Counter
from uuid import UUID

import httpx
import pytest

from chappe_kernel.ids import REQUEST, encode_id
from tests.cell_faults.dying_gateway import DIE
from tests.chaos.load import Seen, ask
from tests.chaos.realm import RELEASE_S, Payer, Realm
from tests.control.world import PRICE

pytestmark = pytest.mark.timeout(240)  # processes that start


async def delivering(seen: Seen, tokens: int) -> None:
    async with asyncio.timeout(60):
        while seen.delivered < tokens:  # noqa: ASYNC110 -- another task's work
            await asyncio.sleep(0.01)


async def budget(realm: Realm, payer: Payer) -> tuple[int, int]:
    """Posted, and what open grants could still spend."""
    [row] = await realm.rows(
        "SELECT b.posted_nano, (SELECT coalesce(sum(g.amount_nano - g.returned_nano - g.posted_nano), 0)::bigint"
        " FROM budget_grant g WHERE g.tenant_id = b.tenant_id AND g.released_at IS NULL AND g.release_at > now())"
        " FROM budget b WHERE tenant_id = $1",
        payer.tenant_id,
    )
    return row[0], row[1]


def cost_nano(prompt_tokens: int, completion_tokens: int) -> int:
    return prompt_tokens * PRICE.input_nano_per_token + completion_tokens * PRICE.output_nano_per_token


async def test_a_stream_of_a_killed_gateway_is_charged_and_its_grant_released_in_time(
    realm: Realm, payer: Payer, http: httpx.AsyncClient
) -> None:
    await realm.start("gw-one", "gw-two")
    seen = Seen(payer)
    asking = asyncio.create_task(ask(http, realm.url("gw-one"), payer, seen=seen))
    await delivering(seen, 20)
    killed_at = time.monotonic()
    realm.kill("gw-one")
    await asking
    assert seen.request_id is not None
    assert not seen.whole
    event = await realm.event(seen.request_id)
    [report] = (await realm.reports())[seen.request_id].values()
    assert (event["outcome"], event["settled_by"]) == ("disconnected", "engine")
    assert event["completion_tokens"] == report.counts.completion_tokens >= seen.delivered
    assert event["amount_nano"] == cost_nano(report.counts.prompt_tokens, report.counts.completion_tokens)

    async def is_free() -> bool:
        return await budget(realm, payer) == (event["amount_nano"], 0)

    await realm.until(is_free)
    # What the dead gateway had leased and not used: nobody gave it back, and its time ended it.
    assert time.monotonic() - killed_at < RELEASE_S + 3


@pytest.mark.parametrize("stream", [True, False])
async def test_a_gateway_killed_between_commit_and_response_has_charged_once_and_a_repeat_is_answered(
    realm: Realm, payer: Payer, http: httpx.AsyncClient, stream: bool
) -> None:
    await realm.rows("UPDATE tenant SET answers_kept_for_s = 600 WHERE id = $1", payer.tenant_id)
    realm.gateway_module = "tests.cell_faults.dying_gateway"
    try:
        await realm.start("gw-dies", "gw-lives")
    finally:
        realm.gateway_module = None
    (realm.folder / DIE).touch()
    first = await ask(http, realm.url("gw-dies"), payer, key="once", stream=stream)
    assert not first.whole
    again = [await ask(http, realm.url("gw-lives"), payer, key="once", stream=stream) for _ in range(2)]
    assert [(one.whole, one.replayed, one.delivered) for one in again] == 2 * [(True, True, 120)]
    other = await ask(http, realm.url("gw-lives"), payer, key="once", stream=stream, prompt="another")
    assert other.status == httpx.codes.CONFLICT

    async def is_posted() -> bool:
        return (await budget(realm, payer))[0] > 0

    await realm.until(is_posted)
    [event] = await realm.rows("SELECT * FROM usage_event WHERE tenant_id = $1", payer.tenant_id)
    assert (event["outcome"], event["completion_tokens"]) == ("completed", 120)
    assert (await budget(realm, payer))[0] == event["amount_nano"] == cost_nano(event["prompt_tokens"], 120)


async def test_a_repeat_that_the_region_has_forgotten_is_charged_once(
    realm: Realm, payer: Payer, http: httpx.AsyncClient
) -> None:
    await realm.start("gw-five")
    first = await ask(http, realm.url("gw-five"), payer, key="once", max_tokens=10)
    await realm.forget_repeats()
    second = await ask(http, realm.url("gw-five"), payer, key="once", max_tokens=10)
    assert (first.whole, second.whole, second.replayed) == (True, True, False)
    assert first.request_id is not None
    assert second.request_id is not None
    charged, free = await realm.event(first.request_id), await realm.event(second.request_id)
    assert charged["amount_nano"] == cost_nano(charged["prompt_tokens"], 10)
    assert free["repeats"] == first.request_id
    assert (await budget(realm, payer))[0] == charged["amount_nano"]


async def test_a_replica_that_dies_before_the_first_token_is_one_retry_and_one_charge(
    realm: Realm, payer: Payer, http: httpx.AsyncClient
) -> None:
    await realm.start("gw-three")
    realm.condemn(0)
    seen = await ask(http, realm.url("gw-three"), payer)
    assert (seen.status, seen.whole) == (200, True), seen.last
    assert seen.request_id is not None
    event = await realm.event(seen.request_id)
    assert (event["outcome"], event["completion_tokens"]) == ("completed", seen.delivered)
    assert attempts_of(realm, seen.request_id) == {2: seen.delivered}
    assert [process.poll() for name, process in realm.running.items() if name.startswith("engine")].count(None) == 1


async def test_a_replica_that_dies_after_the_first_token_is_an_error_without_replay(
    realm: Realm, payer: Payer, http: httpx.AsyncClient
) -> None:
    await realm.start("gw-four")
    realm.condemn(100)
    seen = await ask(http, realm.url("gw-four"), payer)
    assert seen.request_id is not None
    last = seen.last.rstrip().rpartition(b"\n\n")[2]
    assert json.loads(last.removeprefix(b"data: "))["error"]["code"] == "engine_error"
    event = await realm.event(seen.request_id)
    assert event["outcome"] == "failed"
    assert set(attempts_of(realm, seen.request_id)) == {1}
    # The smaller of what went out and what the engine could still report.
    [report] = (await realm.reports())[seen.request_id].values()
    assert event["completion_tokens"] == min(seen.delivered, report.counts.completion_tokens) > 0
    assert event["amount_nano"] == cost_nano(event["prompt_tokens"], event["completion_tokens"])


async def test_before_anything_went_out_another_replica_does_it_all_again_and_one_is_charged(
    realm: Realm, payer: Payer, http: httpx.AsyncClient
) -> None:
    await realm.start("gw-six")
    realm.condemn(70)
    seen = await ask(http, realm.url("gw-six"), payer, stream=False)
    assert (seen.status, seen.whole) == (200, True), seen.last
    assert seen.request_id is not None
    event = await realm.event(seen.request_id)
    assert attempts_of(realm, seen.request_id) == {1: 69, 2: 120}
    assert event["amount_nano"] == cost_nano(event["prompt_tokens"], 120)


def attempts_of(realm: Realm, request_id: UUID) -> Counter[int]:
    """What engines really made, by attempt."""
    public_id = encode_id(REQUEST, request_id)
    return Counter(token.attempt for token in realm.truth() if token.request_id == public_id)

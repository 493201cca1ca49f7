"""A request that is sent again with its `Idempotency-Key` has one charge, and one answer if its tenant keeps any."""

import asyncio
import json
from typing import Any

import httpx
import msgspec
import pytest
import redis.asyncio
from hypothesis import given
from hypothesis import strategies as st
from openai import ConflictError

from chappe_gateway.limits import repeats
from chappe_gateway.limits.repeats import Answer, RepeatSeal, _decrypt, _encrypt, read_key
from chappe_kernel.errors import Invalid
from chappe_kernel.ids import REQUEST, decode_id, new_id
from chappe_kernel.rating import Outcome
from chappe_kernel.wire.control import RateLimit
from tests.gateway.fake_control import EMBEDDINGS
from tests.gateway.test_answers_shape import check_error
from tests.gateway.world import RawClient, RunningGateway, World, auth, chat_body, until

PATH = "/v1/chat/completions"
KEY = {"idempotency-key": "order-17"}


def keep_answers(world: World, key: str | None = None, for_s: float = 3600.0) -> str:
    """The tenant wants that its answers are kept."""
    key = key or world.key
    world.control.keys[key] = msgspec.structs.replace(world.control.keys[key], answers_kept_for_s=for_s)
    return key


async def ask(
    gateway: RunningGateway, key: str, headers: dict[str, str] = KEY, path: str = PATH, **fields: Any
) -> httpx.Response:
    body = chat_body(**fields) if path == PATH else {"model": EMBEDDINGS, "input": "hello", **fields}
    return await gateway.http.post(path, json=body, headers={**auth(key), **headers})


@pytest.mark.parametrize("stream", [False, True])
async def test_a_repeat_gets_the_same_bytes_and_one_charge(world: World, gateway: RunningGateway, stream: bool) -> None:
    key = keep_answers(world)
    fields: dict[str, Any] = {"stream": True, "stream_options": {"include_usage": True}} if stream else {}
    first, again = [await ask(gateway, key, **fields) for _ in range(2)]
    assert (first.status_code, again.status_code) == (200, 200)
    assert again.content == first.content
    assert again.headers["content-type"] == first.headers["content-type"]
    assert again.headers["idempotent-replayed"] == "true"
    assert again.headers["x-original-request-id"] == first.headers["x-request-id"] != again.headers["x-request-id"]
    [event] = await world.events(1)
    assert event.request_id == decode_id(REQUEST, first.headers["x-request-id"])
    assert event.idempotency_digest is not None
    assert len(world.engine.generations()) == 1


async def test_an_embedding_is_repeated_too(world: World, gateway: RunningGateway) -> None:
    key = keep_answers(world)
    first, again = [await ask(gateway, key, path="/v1/embeddings") for _ in range(2)]
    assert again.content == first.content
    await world.events(1)


@pytest.mark.parametrize("stream", [False, True])
async def test_who_keeps_nothing_is_told_that_it_was_completed(
    world: World, gateway: RunningGateway, stream: bool
) -> None:
    first, again = [await ask(gateway, world.key, stream=stream) for _ in range(2)]
    assert first.status_code == 200
    check_error(again, 409, "already_completed", "Idempotency-Key")
    assert again.headers["x-should-retry"] == "false"
    assert first.headers["x-request-id"] in again.text
    await world.events(1)
    async with redis.asyncio.Redis.from_url(world.redis_url) as client:
        assert await client.keys("chappe:repeat:answer*") == []


async def test_openais_client_does_not_ask_a_third_time(world: World, gateway: RunningGateway) -> None:
    async with world.openai(gateway.url) as client:
        eager = client.with_options(max_retries=3)
        await eager.chat.completions.create(**chat_body(), extra_headers=KEY)
        asked = len(world.control.calls)
        with pytest.raises(ConflictError) as caught:
            await eager.chat.completions.create(**chat_body(), extra_headers=KEY)
    assert caught.value.code == "already_completed"
    assert len(world.control.calls) <= asked + 50
    await world.events(1)


@pytest.mark.parametrize("kept", [False, True])
async def test_fifty_at_once_are_one_charge(world: World, kept: bool) -> None:
    key = keep_answers(world) if kept else world.key
    world.engine.script.delay_s = 0.02
    async with world.gateway() as one, world.gateway(gateway_id="gw-2", port=world.ports["de-fra"]) as two:
        answers = await asyncio.gather(*(ask((one, two)[number % 2], key) for number in range(50)))
        served = [answer for answer in answers if answer.status_code == 200]
        assert ["idempotent-replayed" in answer.headers for answer in served].count(False) == 1
        assert len({answer.content for answer in served}) == 1
        assert {answer.json()["error"]["code"] for answer in answers if answer.status_code != 200} <= {
            "request_in_progress",
            "already_completed",
        }
        later = await ask(two, key)
        assert later.status_code == (200 if kept else 409)
    await world.events(1)
    assert len(world.engine.generations()) == 1


async def test_who_asks_while_it_runs_is_told_to_ask_again(world: World, gateway: RunningGateway) -> None:
    held = asyncio.Event()
    world.engine.script.held = held
    first = asyncio.create_task(ask(gateway, world.key))
    await until(lambda: bool(world.engine.generations()))
    again = await ask(gateway, world.key)
    check_error(again, 409, "request_in_progress")
    assert again.headers["retry-after"] == "1"
    held.set()
    assert (await first).status_code == 200


@pytest.mark.parametrize("finished", [False, True])
async def test_the_same_key_with_another_body_is_a_conflict(
    world: World, gateway: RunningGateway, finished: bool
) -> None:
    key = keep_answers(world)
    held = asyncio.Event()
    world.engine.script.held = held
    first = asyncio.create_task(ask(gateway, key))
    await until(lambda: bool(world.engine.generations()))
    if finished:
        held.set()
        await first
    other = await ask(gateway, key, content="something else")
    check_error(other, 409, "idempotency_key_reused", "Idempotency-Key")
    held.set()
    assert (await first).status_code == 200
    await world.events(1)


async def test_projects_and_regions_have_keys_of_their_own(world: World, gateway: RunningGateway) -> None:
    neighbour = world.control.new_key(world.tenant)
    async with world.gateway("de-fra", "gw-2") as frankfurt:
        answers = [await ask(gateway, world.key), await ask(gateway, neighbour), await ask(frankfurt, world.key)]
    assert [answer.status_code for answer in answers] == [200, 200, 200]
    events = await world.events(3)
    assert len({event.idempotency_digest for event in events}) == 3


async def test_what_cost_nothing_may_be_tried_again(world: World, gateway: RunningGateway) -> None:
    world.engine.script.drop_times = 2
    assert (await ask(gateway, world.key)).status_code == 503
    assert (await ask(gateway, world.key)).status_code == 200
    failed, completed = sorted(await world.events(2), key=lambda event: event.amount_nano)
    assert (failed.outcome, failed.idempotency_digest) == (Outcome.FAILED, None)
    assert completed.idempotency_digest is not None


@pytest.mark.parametrize("refusal", ["funds", "limit", "body"])
async def test_what_was_refused_may_be_tried_again(world: World, gateway: RunningGateway, refusal: str) -> None:
    control = world.control
    tenant = control.new_tenant(0 if refusal == "funds" else 10_000_000_000)
    key = control.new_key(tenant)
    if refusal == "limit":
        control.set_quotas(key, RateLimit(f"key:{key}", 0))
    fields: dict[str, Any] = {"max_tokens": 100_000} if refusal == "body" else {}
    assert (await ask(gateway, key, **fields)).status_code in (400, 402, 429)
    control.funds[tenant] = 10_000_000_000
    control.set_quotas(key, RateLimit(f"key:{key}", 100))
    control.announce(tenant)
    await asyncio.sleep(0.2)
    assert (await ask(gateway, key)).status_code == 200


async def test_who_left_pays_and_cannot_have_it_again_for_nothing(world: World, gateway: RunningGateway) -> None:
    key = keep_answers(world)
    world.engine.script.tokens, world.engine.script.delay_s = 500, 0.01
    body = json.dumps(chat_body(stream=True)).encode()
    async with RawClient.to(gateway.port) as client:
        client.send_head(PATH, key, content_length=str(len(body)), idempotency_key=KEY["idempotency-key"])
        client.writer.write(body)
        await client.reader.readuntil(b'" tok"')
    [event] = await world.events(1)
    assert event.outcome is Outcome.DISCONNECTED
    again = await gateway.http.post(
        PATH, content=body, headers={**auth(key), **KEY, "content-type": "application/json"}
    )
    check_error(again, 409, "already_completed", "Idempotency-Key")
    await world.events(1)


async def test_without_redis_one_gateway_still_knows_what_it_is_doing(world: World) -> None:
    world.engine.script.delay_s = 0.02
    async with world.gateway(redis_url="unix:///nowhere/valkey.sock") as gateway:
        answers = await asyncio.gather(*(ask(gateway, world.key) for _ in range(10)))
    assert sorted(answer.status_code for answer in answers) == [200] + 9 * [409]
    await world.events(1)


async def test_without_redis_a_repeat_runs_and_its_event_says_that_it_is_one(world: World) -> None:
    async with world.gateway(redis_url="unix:///nowhere/valkey.sock") as gateway:
        answers = [await ask(gateway, world.key) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [200, 200]
    one, two = await world.events(2)
    assert one.idempotency_digest == two.idempotency_digest is not None


async def test_without_the_header_nothing_is_asked_of_redis_and_nothing_told(
    world: World, gateway: RunningGateway
) -> None:
    answers = [await ask(gateway, world.key, {}) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [200, 200]
    assert {event.idempotency_digest for event in await world.events(2)} == {None}
    async with redis.asyncio.Redis.from_url(world.redis_url) as client:
        assert await client.keys("chappe:repeat:*") == []


async def test_redis_holds_no_word_of_key_body_and_answer(world: World, gateway: RunningGateway) -> None:
    key = keep_answers(world)
    answer = await ask(gateway, key, content="a very private question")
    async with redis.asyncio.Redis.from_url(world.redis_url) as client:
        names = [name async for name in client.scan_iter("chappe:repeat:*")]
        values = [await client.dump(name) for name in names]
        times = [await client.pttl(name) for name in names if b"answers" not in name and b"marks" not in name]
    assert len(names) == 4
    everything = b"".join(names) + b"".join(value for value in values if value)
    for word in (b"order-17", b"private", b" tok", b"chatcmpl", key.encode(), answer.content):
        assert word not in everything
    assert all(0 < left_ms <= 24 * 3600 * 1000 for left_ms in times)


async def test_an_answer_is_kept_no_longer_than_the_tenant_wants(world: World, gateway: RunningGateway) -> None:
    key = keep_answers(world, for_s=0.2)
    assert (await ask(gateway, key)).status_code == 200
    await asyncio.sleep(0.3)
    check_error(await ask(gateway, key), 409, "already_completed", "Idempotency-Key")


async def test_redis_keeps_so_many_and_forgets_the_oldest(
    world: World, gateway: RunningGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = keep_answers(world)
    monkeypatch.setattr(repeats, "_MAX_ANSWERS", 2)
    for number in range(4):
        assert (await ask(gateway, key, {"idempotency-key": str(number)})).status_code == 200
    statuses = [(await ask(gateway, key, {"idempotency-key": str(number)})).status_code for number in range(4)]
    assert statuses == [409, 409, 200, 200]


async def test_an_answer_that_is_too_long_is_not_kept(world: World, gateway: RunningGateway) -> None:
    key = keep_answers(world)
    world.engine.script.text = "x" * repeats.MAX_ANSWER_BYTES
    for stream in (False, True):
        headers = {"idempotency-key": f"long {stream}"}
        assert (await ask(gateway, key, headers, stream=stream)).status_code == 200
        check_error(await ask(gateway, key, headers, stream=stream), 409, "already_completed", "Idempotency-Key")


@pytest.mark.parametrize("keys", [[""], ["x" * 256], ["é"], ["one", "two"]])
async def test_a_key_that_is_none_is_400(world: World, gateway: RunningGateway, keys: list[str]) -> None:
    headers = [("authorization", f"Bearer {world.key}"), *(("idempotency-key", key.encode()) for key in keys)]
    answer = await gateway.http.post(PATH, json=chat_body(), headers=headers)  # type: ignore[arg-type]  # it takes both
    check_error(answer, 400, "invalid_idempotency_key", "Idempotency-Key")
    await world.events(0)


@given(st.binary(max_size=300))
def test_a_key_is_printable_ascii_or_refused(key: bytes) -> None:
    good = 1 <= len(key) <= 255 and key.isascii() and key.decode().isprintable()
    try:
        assert read_key([(b"idempotency-key", key)]) == key
    except Invalid:
        assert not good
    else:
        assert good


_keys = st.tuples(st.uuids(), st.binary(max_size=40), st.sampled_from(["/a", "/a\n", "/ab"]), st.binary(max_size=40))


@given(_keys, _keys)
def test_two_requests_have_one_digest_only_if_they_are_the_same(one: Any, other: Any) -> None:
    seal = RepeatSeal("credential", "fr-par")

    def claim(asked: Any, seal: RepeatSeal = seal) -> repeats.Claim:
        project_id, key, path, body = asked
        return seal.claim("req", project_id=project_id, key=key, path=path, body=body, kept_for_s=1)

    assert claim(one) == claim(one)
    assert (claim(one).digest == claim(other).digest) == (one == other)
    assert (claim(one).mark_key == claim(other).mark_key) == (one[:2] == other[:2])
    for stranger in (RepeatSeal("credential", "de-fra"), RepeatSeal("another", "fr-par")):
        assert claim(one, stranger).digest != claim(one).digest


def test_a_kept_answer_opens_with_its_own_key_and_body_alone() -> None:
    seal, project_id = RepeatSeal("credential", "fr-par"), new_id()

    def claim(key: bytes, body: bytes) -> repeats.Claim:
        return seal.claim("req", project_id=project_id, key=key, path="/", body=body, kept_for_s=1)

    answer = Answer("req_1", b"application/json", b"{}")
    kept = _encrypt(claim(b"key", b"body"), answer)
    assert _decrypt(claim(b"key", b"body"), kept) == answer
    assert _decrypt(claim(b"another", b"body"), kept) is None
    assert _decrypt(claim(b"key", b"another"), kept) is None
    assert _decrypt(claim(b"key", b"body"), kept[:-1]) is None
    assert _decrypt(claim(b"key", b"body"), b"") is None

"""Anthropic's API: the `anthropic` package works unchanged, through the same money, limits and regions as OpenAI's."""

import json
from typing import Any

import anthropic
import httpx
import msgspec
import pytest
from anthropic import AsyncAnthropic
from anthropic.types import Message, RawMessageStreamEvent
from anthropic.types.shared import ErrorResponse
from pydantic import TypeAdapter

from chappe_kernel.ids import REQUEST, decode_id, encode_id
from chappe_kernel.rating import Counts, Outcome
from chappe_kernel.wire.control import RateLimit
from chappe_kernel.wire.engine import END_HEADER, END_MARK, START_MARK, End, EngineError, GenerateRequest, Sampling
from chappe_kernel.wire.engine import Message as Said
from tests.gateway.fake_control import CHAT, ELSEWHERE_ONLY, EMBEDDINGS
from tests.gateway.real_engine import real_engine
from tests.gateway.world import RunningGateway, World, auth, chat_body

PATH = "/v1/messages"
COUNT = "/v1/messages/count_tokens"
HELLO: list[Any] = [{"role": "user", "content": "hello there"}]


def client_of(world: World, gateway: RunningGateway, key: str | None = None, **options: Any) -> AsyncAnthropic:
    return AsyncAnthropic(base_url=gateway.url, api_key=key or world.key, max_retries=0, **options)


def body_of(**fields: Any) -> dict[str, Any]:
    return {"model": CHAT, "max_tokens": 100, "messages": HELLO, **fields}


async def post(world: World, gateway: RunningGateway, path: str = PATH, **fields: Any) -> httpx.Response:
    body = body_of(**fields)
    if path == COUNT:
        body.pop("max_tokens")
    return await gateway.http.post(path, content=json.dumps(body), headers=headers_of(world.key))


def headers_of(key: str) -> dict[str, str]:
    return {"x-api-key": key, "content-type": "application/json"}


def seen(world: World) -> GenerateRequest:
    return msgspec.json.decode(world.engine.generations()[-1].body, type=GenerateRequest)


def check_refusal(answer: httpx.Response, status: int, kind: str, *words: str) -> None:
    """Anthropic's shape, no more and no less, and what it must speak of."""
    assert answer.status_code == status, answer.text
    error = TypeAdapter(ErrorResponse).validate_python(answer.json(), strict=True)
    assert set(answer.json()) == {"type", "error", "request_id"}
    assert set(answer.json()["error"]) == {"type", "message"}
    assert error.error.type == kind if kind != "request_too_large" else True
    assert error.request_id == answer.headers["request-id"] == answer.headers["x-request-id"]
    decode_id(REQUEST, answer.headers["request-id"])
    for word in words:
        assert word in error.error.message


async def test_whole_and_streamed_answers_say_and_cost_the_same(world: World, gateway: RunningGateway) -> None:
    async with real_engine(world), client_of(world, gateway) as client:
        whole = await client.messages.create(**body_of())
        async with client.messages.stream(**body_of()) as stream:
            texts = [text async for text in stream.text_stream]
            streamed = await stream.get_final_message()
        events = await world.events(2)
    assert whole.model_dump(exclude={"id"}) == streamed.model_dump(exclude={"id", "content"}) | {
        "content": [block.model_dump(exclude={"parsed_output"}) for block in streamed.content]
    }
    assert whole.content[0].type == "text"
    assert "".join(texts) == whole.content[0].text
    assert (whole.stop_reason, whole.stop_sequence) == ("end_turn", None)
    assert whole._request_id == encode_id(REQUEST, events[0].request_id)
    assert {event.counts for event in events} == {Counts(whole.usage.input_tokens, 0, whole.usage.output_tokens)}
    assert {event.outcome for event in events} == {Outcome.COMPLETED}
    assert {event.amount_nano for event in events} == {whole.usage.input_tokens * 60 + 5 * 210}


async def test_every_answer_and_event_is_of_anthropics_types(world: World, gateway: RunningGateway) -> None:
    async with real_engine(world):
        whole = await post(world, gateway, max_tokens=2)
        streamed = await post(world, gateway, stream=True)
    message = TypeAdapter(Message).validate_json(whole.content, strict=True)
    assert message.stop_reason == "max_tokens"
    kinds: TypeAdapter[Any] = TypeAdapter(RawMessageStreamEvent)
    names = []
    for event in streamed.text.removesuffix("\n\n").split("\n\n"):
        name, data = event.split("\n")
        assert json.loads(data.removeprefix("data: "))["type"] == name.removeprefix("event: ")
        names.append(name.removeprefix("event: "))
        if names[-1] != "ping":
            kinds.validate_json(data.removeprefix("data: "), strict=True)
    assert names[:3] == ["message_start", "content_block_start", "ping"]
    assert names[-3:] == ["content_block_stop", "message_delta", "message_stop"]
    assert set(names[3:-3]) == {"content_block_delta"}


async def test_tokens_from_the_cache_are_told_apart(world: World, gateway: RunningGateway) -> None:
    world.engine.script.cached = 4
    async with client_of(world, gateway) as client:
        whole = await client.messages.create(**body_of())
        stream = await client.messages.create(**body_of(), stream=True)
        events = [event async for event in stream]
    assert (whole.usage.input_tokens, whole.usage.cache_read_input_tokens) == (2, 4)
    [start] = [event for event in events if event.type == "message_start"]
    [delta] = [event for event in events if event.type == "message_delta"]
    for usage in (start.message.usage, delta.usage):
        assert (usage.input_tokens, usage.cache_read_input_tokens) == (2, 4)
    assert delta.usage.output_tokens == 8


async def test_what_is_asked_reaches_the_engine(world: World, gateway: RunningGateway) -> None:
    hint = {"type": "ephemeral"}
    answer = await post(
        world,
        gateway,
        system=[{"type": "text", "text": "Be brief.", "cache_control": hint}],
        messages=[
            {"role": "user", "content": "one"},
            {"role": "user", "content": [{"type": "text", "text": "two", "cache_control": hint}]},
            {"role": "assistant", "content": [{"type": "text", "text": "three", "citations": None}]},
            {"role": "user", "content": "four"},
        ],
        temperature=0.25,
        top_p=0.5,
        top_k=7,
        stop_sequences=["a", "b", "c", "d", "e"],
        metadata={"user_id": "somebody"},
        thinking={"type": "disabled"},
        tools=[],
        tool_choice={"type": "auto"},
        max_tokens=17,
    )
    assert answer.status_code == 200, answer.text
    asked = seen(world)
    assert asked.messages == (
        Said("system", "Be brief."),
        Said("user", "one\ntwo"),
        Said("assistant", "three"),
        Said("user", "four"),
    )
    assert asked.sampling == Sampling(temperature=0.25, top_p=0.5, top_k=7, stop=("a", "b", "c", "d", "e"))
    assert (asked.max_completion_tokens, asked.max_tokens_given) == (17, True)
    assert b"somebody" not in world.engine.generations()[-1].body


@pytest.mark.parametrize("stream", [False, True])
async def test_the_stop_sequence_that_ended_it_is_told(world: World, gateway: RunningGateway, stream: bool) -> None:
    world.engine.script.stopped_by = 1
    async with client_of(world, gateway) as client:
        body = body_of(stop_sequences=["never", "now"])
        if stream:
            async with client.messages.stream(**body) as events:
                message: Message = await events.get_final_message()
        else:
            message = await client.messages.create(**body)
    assert (message.stop_reason, message.stop_sequence) == ("stop_sequence", "now")


async def test_tokens_are_counted_as_they_are_charged_and_for_free(world: World, gateway: RunningGateway) -> None:
    system = "Speak like a semaphore."
    async with real_engine(world), client_of(world, gateway) as client:
        counted = await client.messages.count_tokens(model=CHAT, messages=HELLO, system=system)
        answered = await client.messages.create(**body_of(system=system))
        [event] = await world.events(1)
    assert counted.input_tokens == answered.usage.input_tokens == event.counts.prompt_tokens
    assert gateway.gateway.live == set()


BAD: list[tuple[dict[str, Any], str]] = [
    ({"max_tokens": None}, "max_tokens"),
    ({"max_tokens": 0}, "max_tokens"),
    ({"max_tokens": 5000}, "max_tokens"),
    ({"messages": []}, "messages"),
    ({"messages": [{"role": "user", "content": ""}]}, "messages[0].content"),
    ({"messages": [{"role": "user", "content": []}]}, "messages[0].content"),
    ({"messages": [{"role": "system", "content": "x"}]}, "messages[0].role"),
    ({"messages": [{"role": "user", "content": "a\0b"}]}, "messages[0].content"),
    ({"messages": [{"role": "user", "content": [{"type": "image", "source": {}}]}]}, "messages[0].content[0].type"),
    ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "messages[0].content[0]"),
    ({"messages": [{"role": "user", "content": [{"type": "text", "text": "a", "x": 1}]}]}, "messages[0].content[0].x"),
    ({"system": [{"type": "text", "text": "a", "cache_control": {"type": "no"}}]}, "system[0]"),
    ({"temperature": 1.5}, "temperature"),
    ({"top_p": -1}, "top_p"),
    ({"top_k": -1}, "top_k"),
    ({"stop_sequences": [""]}, "stop_sequences"),
    ({"stop_sequences": ["x"] * 65}, "stop_sequences"),
    ({"tools": [{"name": "f", "input_schema": {"type": "object"}}]}, "tools"),
    ({"tool_choice": {"type": "any"}}, "tool_choice"),
    ({"thinking": {"type": "enabled", "budget_tokens": 1024}}, "thinking"),
    ({"service_tier": "priority"}, "service_tier"),
    ({"inference_geo": "us"}, "inference_geo"),
    ({"container": "c"}, "container"),
    ({"mcp_servers": [{"type": "url"}]}, "mcp_servers"),
    ({"context_management": {"edits": []}}, "context_management"),
    ({"metadata": {"colour": "red"}}, "metadata.colour"),
    ({"n": 2}, "n"),
    ({"model": EMBEDDINGS}, "model"),
]


async def test_bad_requests_name_their_parameter_and_are_free(world: World, gateway: RunningGateway) -> None:
    for fields, param in BAD:
        check_refusal(await post(world, gateway, **fields), 400, "invalid_request_error", param)
    check_refusal(await post(world, gateway, COUNT, tools=[{}]), 400, "invalid_request_error", "tools")
    check_refusal(await post(world, gateway, COUNT, stream=True), 400, "invalid_request_error", "stream")
    assert world.engine.seen == []
    await world.events(0)


async def test_other_versions_and_betas_are_refused(world: World, gateway: RunningGateway) -> None:
    for name, value in (("anthropic-version", "2099-01-01"), ("anthropic-beta", "context-1m-2025-08-07")):
        headers = {**headers_of(world.key), name: value}
        check_refusal(
            await gateway.http.post(PATH, json=body_of(), headers=headers), 400, "invalid_request_error", name
        )


async def test_the_edges_own_refusals_are_in_anthropics_shape(world: World, gateway: RunningGateway) -> None:
    async def ask(key: str, path: str = PATH, **fields: Any) -> httpx.Response:
        return await gateway.http.post(path, json=body_of(**fields), headers=headers_of(key))

    check_refusal(await ask("ck_no"), 401, "authentication_error")
    check_refusal(await gateway.http.post(PATH, json=body_of()), 401, "authentication_error")
    check_refusal(await ask(world.control.new_key(world.tenant, regions=())), 403, "permission_error")
    check_refusal(await ask(world.key, model="nonesuch"), 404, "not_found_error", "nonesuch")
    check_refusal(await ask(world.key, model=ELSEWHERE_ONLY), 404, "not_found_error", "de-fra")
    check_refusal(await ask(world.key, PATH + "/batches"), 404, "not_found_error")
    check_refusal(await ask(world.control.new_key(world.control.new_tenant(0))), 402, "billing_error")
    answer = await ask(world.control.new_key(world.tenant, regions=("de-fra",)), COUNT)
    check_refusal(answer, 421, "invalid_request_error", world.control.gateway_urls["de-fra"])
    assert answer.headers["location"] == world.control.gateway_urls["de-fra"] + COUNT
    check_refusal(await gateway.http.get(PATH, headers=headers_of(world.key)), 405, "invalid_request_error")
    big = body_of(messages=[{"role": "user", "content": "x" * 2**21}])
    answer = await gateway.http.post(PATH, json=big, headers=headers_of(world.key))
    assert (answer.status_code, answer.json()["error"]["type"]) == (413, "request_too_large")


async def test_limits_are_shared_with_the_other_apis(world: World, gateway: RunningGateway) -> None:
    key = world.control.new_key(world.tenant, requests_per_minute=2)
    openai = await gateway.http.post("/v1/chat/completions", json=chat_body(), headers=auth(key))
    counted = await gateway.http.post(
        COUNT, json={k: v for k, v in body_of().items() if k != "max_tokens"}, headers=headers_of(key)
    )
    assert (openai.status_code, counted.status_code) == (200, 200)
    answer = await gateway.http.post(PATH, json=body_of(), headers=headers_of(key))
    check_refusal(answer, 429, "rate_limit_error")
    assert int(answer.headers["retry-after"]) >= 1


async def test_the_packages_own_errors(world: World, gateway: RunningGateway) -> None:
    async with client_of(world, gateway, "ck_no") as client:
        with pytest.raises(anthropic.AuthenticationError):
            await client.messages.create(**body_of())
    async with client_of(world, gateway) as client:
        with pytest.raises(anthropic.BadRequestError, match="tools"):
            await client.messages.create(**body_of(tools=[{"name": "f", "input_schema": {"type": "object"}}]))
        world.engine.script.refuse = (503, EngineError("overloaded", "busy"))
        with pytest.raises(anthropic.APIStatusError) as busy:
            await client.messages.create(**body_of())
    assert busy.value.status_code == 529


async def test_an_engine_that_breaks_off_ends_the_stream_with_an_error(world: World, gateway: RunningGateway) -> None:
    world.engine.script.die_after = 3
    got = ""
    async with client_of(world, gateway) as client:
        with pytest.raises(anthropic.APIStatusError):  # what came before it counts too
            async with client.messages.stream(**body_of()) as stream:
                async for text in stream.text_stream:
                    got += text
    assert got == " tok" * 3
    [event] = await world.events(1)
    assert (event.outcome, event.counts.completion_tokens) == (Outcome.FAILED, 3)


@pytest.mark.parametrize("stream", [False, True])
async def test_a_repeat_gets_the_same_bytes_and_one_charge(world: World, gateway: RunningGateway, stream: bool) -> None:
    facts = world.control.keys[world.key]
    world.control.keys[world.key] = msgspec.structs.replace(facts, answers_kept_for_s=3600.0)
    headers = {**headers_of(world.key), "idempotency-key": "once"}
    first, again = [await gateway.http.post(PATH, json=body_of(stream=stream), headers=headers) for _ in range(2)]
    assert first.status_code == 200, first.text
    assert again.content == first.content
    assert again.headers["idempotent-replayed"] == "true"
    await world.events(1)


async def test_token_limits_hold_here_too(world: World, gateway: RunningGateway) -> None:
    facts = world.control.keys[world.key]
    limit = RateLimit(f"key:{facts.key_id}", 10**6, tokens_per_minute=50)
    world.control.keys[world.key] = msgspec.structs.replace(facts, limits=(limit,))
    check_refusal(await post(world, gateway, max_tokens=1000), 429, "rate_limit_error")


_COUNTS = Counts(6, 0, 1)
_STREAMED = (
    START_MARK
    + b'{"prompt_tokens":6,"cached_tokens":0}\n\ndata: {"choices":[]}\n\n'
    + END_MARK
    + msgspec.json.encode(End("completed", _COUNTS))
    + b"\n\n"
)


@pytest.mark.parametrize("stream", [False, True])
async def test_an_answer_that_cannot_be_translated_is_an_error_and_free(
    world: World, gateway: RunningGateway, stream: bool
) -> None:
    body = _STREAMED if stream else b'{"choices":[]}'
    end = b"" if stream else b"%b: %b\r\n" % (END_HEADER.encode(), msgspec.json.encode(End("completed", _COUNTS)))
    world.engine.script.raw = b"HTTP/1.1 200 X\r\n%bcontent-length: %d\r\n\r\n%b" % (end, len(body), body)
    check_refusal(await post(world, gateway, stream=stream), 503, "api_error")
    [event] = await world.events(1)
    assert (event.outcome, event.amount_nano) == (Outcome.FAILED, 0)


async def test_the_package_lists_models(world: World, gateway: RunningGateway) -> None:
    async with client_of(world, gateway) as client:
        [model] = [model async for model in client.models.list()]
        assert (model.id, model.display_name, model.type, model.lifecycle) == (CHAT, CHAT, "model", "active")
        assert model.created_at.tzinfo is not None
        assert model.max_tokens is not None and model.max_input_tokens is not None
        assert (await client.models.retrieve(CHAT)).to_dict() == model.to_dict()
        assert (await client.models.list(limit=1, after_id=CHAT)).data == []
        assert (await client.models.list(limit=1, before_id=CHAT)).data == []
        with pytest.raises(anthropic.NotFoundError) as missing:
            await client.models.retrieve("nonesuch")
        assert missing.value.request_id is not None
        with pytest.raises(anthropic.BadRequestError, match="after_id"):
            await client.models.list(after_id="nonesuch")
        with pytest.raises(anthropic.BadRequestError, match="limit"):
            await client.models.list(limit=0)
    # OpenAI's packages, which name no version of Anthropic's, get their own form.
    told = await gateway.http.get("/v1/models", headers=auth(world.key))
    assert [one["object"] for one in told.json()["data"]] == ["model", "model"]
    await world.events(0)

"""Bad input is a clear 4xx that names the parameter, reaches no engine, and is free."""

import json
from typing import Any

import pytest

from chappe_kernel.ids import REQUEST, encode_id
from tests.gateway.fake_control import CHAT, EMBEDDINGS
from tests.gateway.test_answers_shape import check_error
from tests.gateway.world import RawClient, RunningGateway, World, auth, chat_body

CHAT_PATH = "/v1/chat/completions"
EMBED_PATH = "/v1/embeddings"
MESSAGES = [{"role": "user", "content": "hi"}]


def good(**fields: Any) -> bytes:
    return json.dumps({"model": CHAT, "messages": MESSAGES, **fields}).encode()


DEEP: dict[str, Any] = {"type": "integer"}
for _ in range(20):
    DEEP = {"type": "array", "items": DEEP}

LARGE = {"description": "x" * 15_000}


def function(name: str = "f", **fields: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, **fields}}


def chosen(name: str) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name}}


def called(**fields: Any) -> bytes:
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}", **fields}}
    return good(messages=[{"role": "assistant", "tool_calls": [call]}])


BAD_CHAT: list[tuple[bytes, str, str | None]] = [
    (b"", "invalid_json", None),
    (b"{", "invalid_json", None),
    (b"null", "invalid_type", None),
    (b"[]", "invalid_type", None),
    (b'"text"', "invalid_type", None),
    (b'\xef\xbb\xbf{"model":"x"}', "invalid_json", None),
    (b'{"model":"x\xff","messages":[]}', "invalid_json", None),
    (good() + b" {}", "invalid_json", None),
    (good().replace(b'"hi"', b'"\\ud800"'), "invalid_json", None),
    (good().replace(b'"hi"', b'"a\\u0000b"'), "invalid_value", "messages[0].content"),
    (good().replace(b'"hi"', b'"a\x00b"'), "invalid_json", None),
    (good().replace(b"}]", b'}],"temperature":NaN'), "invalid_json", None),
    (good().replace(b"}]", b'}],"temperature":1e999'), "invalid_type", "temperature"),
    (good().replace(b"}]", b'}],"metadata":' + b"[" * 90_000 + b"]" * 90_000), "invalid_json", None),
    (b'{"messages":[]}', "missing_required_parameter", "model"),
    (json.dumps({"model": CHAT}).encode(), "missing_required_parameter", "messages"),
    (good(messages=[]), "empty_array", "messages"),
    (good(messages="hi"), "invalid_type", "messages"),
    (good(messages=[{"role": "user"}]), "invalid_type", "messages[0].content"),
    (good(messages=[{"role": "user", "content": None}]), "invalid_type", "messages[0].content"),
    (good(messages=[{"role": "user", "content": 7}]), "invalid_type", "messages[0].content"),
    (good(messages=[{"role": "wizard", "content": "x"}]), "invalid_value", "messages[0].role"),
    (good(messages=[{"role": "function", "content": "x"}]), "invalid_value", "messages[0].role"),
    (good(messages=[{"role": "tool", "content": "x"}]), "missing_required_parameter", "messages[0].tool_call_id"),
    (good(messages=[{"role": "tool", "content": "x", "tool_call_id": "c"}]), "invalid_value", "messages"),
    (
        good(messages=[{"role": "user", "content": "x", "tool_call_id": "c"}]),
        "invalid_value",
        "messages[0].tool_call_id",
    ),
    (good(messages=[{"role": "user", "content": "x", "tool_calls": [{}]}]), "invalid_value", "messages[0].tool_calls"),
    (called(arguments="no json"), "invalid_value", "messages[0].tool_calls[0].function.arguments"),
    (called(arguments="[1]"), "invalid_value", "messages[0].tool_calls[0].function.arguments"),
    (called(name="a b"), "invalid_value", "messages[0].tool_calls[0].function.name"),
    (good(messages=[{"role": "user", "content": "x", "name": "bob"}]), "unsupported_parameter", "messages[0].name"),
    (
        good(messages=[{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]),
        "unsupported_value",
        "messages[0].content[0].type",
    ),
    (good(model=7), "invalid_type", "model"),
    (good(tempreature=1), "unknown_parameter", "tempreature"),
    (good(n=2), "unsupported_parameter", "n"),
    (good(n=True), "invalid_type", "n"),
    (good(n=0), "invalid_value", "n"),
    (good(n=9), "invalid_value", "n"),
    (good(store=0), "unsupported_parameter", "store"),
    (good(tools=[{"type": "function"}]), "missing_required_parameter", "tools[0].function"),
    (good(tools=[{"type": "web_search"}]), "unsupported_value", "tools[0].type"),
    (good(tools=[function()]), "unsupported_parameter", "tools"),
    (good(tools=[function(), function()]), "invalid_value", "tools"),
    (good(tools=[function(name=str(n)) for n in range(65)]), "array_too_long", "tools"),
    (good(tools=[function(name=f"f{n}", parameters=LARGE) for n in range(5)]), "invalid_json_schema", "tools"),
    (good(tools=[function(name="")]), "invalid_value", "tools[0].function.name"),
    (good(tools=[function(parameters=DEEP)]), "invalid_json_schema", "tools[0].function.parameters" + ".items" * 16),
    (
        good(tools=[function(parameters={"properties": {"a": {"pattern": "(a|b)*"}}}, strict=True)]),
        "unsupported_parameter",
        "tools[0].function.parameters.properties.a.pattern",
    ),
    (good(tool_choice="required"), "invalid_value", "tool_choice"),
    (good(tools=[function()], tool_choice="always"), "invalid_value", "tool_choice"),
    (good(tools=[function()], tool_choice=chosen("g")), "invalid_value", "tool_choice"),
    (good(functions=[{"name": "f"}]), "unsupported_parameter", "functions"),
    (good(top_logprobs=2), "invalid_value", "top_logprobs"),
    (good(logprobs=True, top_logprobs=21), "invalid_value", "top_logprobs"),
    (good(logit_bias={"a": 5}), "invalid_value", "logit_bias"),
    (good(logit_bias={"1": 101}), "invalid_value", "logit_bias"),
    (good(logit_bias={str(n): 1 for n in range(301)}), "invalid_value", "logit_bias"),
    (good(response_format={"type": "xml"}), "unsupported_value", "response_format.type"),
    (good(response_format={"type": "json_schema"}), "missing_required_parameter", "response_format.json_schema"),
    (
        good(response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": DEEP}}),
        "invalid_json_schema",
        "response_format.json_schema.schema" + ".items" * 16,
    ),
    (good(logprobs=True), "unsupported_parameter", "logprobs"),
    (good(logit_bias={"1": 5}), "unsupported_parameter", "logit_bias"),
    (good(response_format={"type": "json_object"}), "unsupported_parameter", "response_format"),
    (good(audio={"voice": "alloy"}), "unsupported_parameter", "audio"),
    (good(store=True), "unsupported_parameter", "store"),
    (good(metadata={"a": "b"}), "unsupported_parameter", "metadata"),
    (good(service_tier="priority"), "unsupported_parameter", "service_tier"),
    (good(reasoning_effort="high"), "unsupported_parameter", "reasoning_effort"),
    (good(temperature=3), "invalid_value", "temperature"),
    (good(temperature="hot"), "invalid_type", "temperature"),
    (good(top_p=-0.1), "invalid_value", "top_p"),
    (good(seed=2**70), "invalid_value", "seed"),
    (good(stop=["a", "b", "c", "d", "e"]), "invalid_value", "stop"),
    (good(stop=""), "invalid_value", "stop"),
    (good(stop="\0"), "invalid_value", "stop"),
    (good(max_tokens=0), "invalid_value", "max_tokens"),
    (good(max_tokens=True), "invalid_type", "max_tokens"),
    (good(max_tokens=1.5), "invalid_type", "max_tokens"),
    (good(max_tokens=1025), "integer_above_max_value", "max_tokens"),
    (good(max_completion_tokens=10**30), "integer_above_max_value", "max_completion_tokens"),
    (good(max_tokens=5, max_completion_tokens=6), "invalid_value", "max_tokens"),
    (good(stream="yes"), "invalid_type", "stream"),
    (good(stream_options={"include_usage": True}), "invalid_value", "stream_options"),
    (good(stream=True, stream_options={"x": 1}), "unknown_parameter", "stream_options.x"),
]

BAD_EMBEDDINGS: list[tuple[dict[str, Any], str, str]] = [
    ({"model": EMBEDDINGS}, "missing_required_parameter", "input"),
    ({"model": EMBEDDINGS, "input": [1, 2, 3]}, "unsupported_value", "input"),
    ({"model": EMBEDDINGS, "input": [[1, 2]]}, "unsupported_value", "input"),
    ({"model": EMBEDDINGS, "input": []}, "invalid_type", "input"),
    ({"model": EMBEDDINGS, "input": ""}, "invalid_value", "input"),
    ({"model": EMBEDDINGS, "input": ["a", ""]}, "invalid_value", "input"),
    ({"model": EMBEDDINGS, "input": "a\0b"}, "invalid_value", "input"),
    ({"model": EMBEDDINGS, "input": 5}, "invalid_type", "input"),
    ({"model": EMBEDDINGS, "input": ["a"] * 2049}, "array_too_long", "input"),
    ({"model": EMBEDDINGS, "input": "a", "encoding_format": "hex"}, "invalid_type", "encoding_format"),
    ({"model": EMBEDDINGS, "input": "a", "dimensions": 0}, "invalid_value", "dimensions"),
]

HARMLESS: list[dict[str, Any]] = [
    {"n": 1, "tools": [], "tool_choice": "auto", "logprobs": False, "store": False, "metadata": {}},
    {"n": None, "tools": None, "stop": None, "temperature": None, "max_tokens": None, "stream": None, "seed": None},
    {"user": "u", "safety_identifier": "s", "prompt_cache_key": "k", "response_format": {"type": "text"}},
    {"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}]},
    {"messages": [{"role": "assistant", "content": "a", "refusal": None, "tool_calls": None}, *MESSAGES]},
    {"temperature": 0, "top_p": 1, "seed": -5, "stop": ["x"], "max_completion_tokens": 4, "max_tokens": 4},
]


async def post(gateway: RunningGateway, world: World, path: str, body: bytes, **headers: str) -> Any:
    headers = {"content-type": "application/json", **auth(world.key), **headers}
    return await gateway.http.post(path, content=body, headers=headers)


async def test_bad_chat_requests_name_their_parameter_and_are_free(world: World, gateway: RunningGateway) -> None:
    for body, code, param in BAD_CHAT:
        check_error(await post(gateway, world, CHAT_PATH, body), 400, code, param)
    assert world.engine.seen == []
    assert world.control.grants == {}
    assert gateway.gateway.live == set()
    await world.events(0)


async def test_bad_embedding_requests_name_their_parameter(world: World, gateway: RunningGateway) -> None:
    for body, code, param in BAD_EMBEDDINGS:
        check_error(await post(gateway, world, EMBED_PATH, json.dumps(body).encode()), 400, code, param)
    assert world.engine.seen == []


@pytest.mark.parametrize("fields", HARMLESS)
async def test_values_that_change_nothing_pass(world: World, gateway: RunningGateway, fields: dict[str, Any]) -> None:
    answer = await post(gateway, world, CHAT_PATH, good(**fields))
    assert answer.status_code == 200, answer.text


async def test_content_codings_and_other_media_types_are_415(world: World, gateway: RunningGateway) -> None:
    answer = await post(gateway, world, CHAT_PATH, good(), **{"content-encoding": "gzip"})
    check_error(answer, 415, "unsupported_media_type", "content-encoding")
    answer = await post(gateway, world, CHAT_PATH, good(), **{"content-type": "text/plain"})
    check_error(answer, 415, "unsupported_media_type", "content-type")


async def test_announced_bodies_over_the_limit_are_413_before_they_come(world: World, gateway: RunningGateway) -> None:
    async with RawClient.to(gateway.port) as client:
        client.send_head(CHAT_PATH, world.key, content_length=str(2**30), expect="100-continue")
        status, _ = await client.read_head()
    assert status == 413


async def test_chunked_bodies_stop_at_the_limit(world: World, gateway: RunningGateway) -> None:
    async with RawClient.to(gateway.port) as client:
        client.send_head(CHAT_PATH, world.key, transfer_encoding="chunked")
        block = b"x" * 65536
        for _ in range(20):
            client.writer.write(b"%x\r\n%b\r\n" % (len(block), block))
        status, headers = await client.read_head()
    assert status == 413
    assert headers["connection"] == "close"
    assert gateway.gateway.live == set()


async def test_a_body_that_never_ends_is_given_up(world: World) -> None:
    async with world.gateway(body_timeout_s=0.2) as gateway, RawClient.to(gateway.port) as client:
        client.send_head(CHAT_PATH, world.key, content_length="100")
        client.writer.write(b"{")
        status, _ = await client.read_head()
    assert status == 400


async def test_over_long_prompts_are_refused_and_leave_no_event(world: World, gateway: RunningGateway) -> None:
    answer = await gateway.http.post(CHAT_PATH, json=chat_body("word " * 3000), headers=auth(world.key))
    check_error(answer, 400, "context_length_exceeded", "messages")
    assert gateway.gateway.grants.open_holds() == 0
    good = await gateway.http.post(CHAT_PATH, json=chat_body(), headers=auth(world.key))
    # The refused one left no event: the only one is the good one's.
    [event] = await world.events(1)
    assert encode_id(REQUEST, event.request_id) == good.headers["x-request-id"]

"""The Responses API without state: the `openai` package works unchanged, every event is what OpenAI's document says."""

import json
from typing import Any

import httpx
import msgspec
import pytest
from openai import APIStatusError, AsyncAzureOpenAI, BadRequestError
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

from chappe_kernel.rating import Counts, Outcome
from chappe_kernel.wire.engine import GenerateRequest, Message, Sampling
from tests.gateway.fake_control import CHAT, EMBEDDINGS
from tests.gateway.openai_document import check, document_path
from tests.gateway.real_engine import real_engine
from tests.gateway.test_answers_shape import check_error
from tests.gateway.world import RunningGateway, World, auth

PATH = "/v1/responses"


def body_of(**fields: Any) -> dict[str, Any]:
    return {"model": CHAT, "input": "hello there", **fields}


async def post(world: World, gateway: RunningGateway, **fields: Any) -> httpx.Response:
    headers = {"content-type": "application/json", **auth(world.key)}
    return await gateway.http.post(PATH, content=json.dumps(body_of(**fields)), headers=headers)


def seen(world: World) -> GenerateRequest:
    return msgspec.json.decode(world.engine.generations()[-1].body, type=GenerateRequest)


def events_of(answer: httpx.Response) -> list[dict[str, Any]]:
    events = []
    for event in answer.text.removesuffix("\n\n").split("\n\n"):
        name, data = event.split("\n")
        events.append(json.loads(data.removeprefix("data: ")))
        assert events[-1]["type"] == name.removeprefix("event: ")
    return events


async def test_whole_and_streamed_answers_say_and_cost_the_same(world: World, gateway: RunningGateway) -> None:
    async with real_engine(world), world.openai(gateway.url) as client:
        whole = await client.responses.create(**body_of(instructions="Be brief."), store=False)
        async with client.responses.stream(**body_of(instructions="Be brief."), store=False) as stream:
            deltas = [event.delta async for event in stream if event.type == "response.output_text.delta"]
            streamed = await stream.get_final_response()
        events = await world.events(2)
    assert whole.status == streamed.status == "completed"
    assert whole.output_text == streamed.output_text == "".join(deltas)
    assert len(whole.output_text.split()) == 5
    assert whole.usage is not None
    assert streamed.usage == whole.usage
    assert {event.counts for event in events} == {Counts(whole.usage.input_tokens, 0, whole.usage.output_tokens)}
    assert {event.outcome for event in events} == {Outcome.COMPLETED}
    assert (whole.model_extra or {})["store"] is False


@pytest.mark.parametrize("max_output_tokens", [2, 100])
async def test_every_answer_and_event_is_what_the_document_says(
    world: World, gateway: RunningGateway, max_output_tokens: int
) -> None:
    async with real_engine(world):
        whole = await post(world, gateway, max_output_tokens=max_output_tokens)
        streamed = events_of(await post(world, gateway, max_output_tokens=max_output_tokens, stream=True))
    ended = "incomplete" if max_output_tokens == 2 else "completed"
    TypeAdapter(Response).validate_json(whole.content, strict=True)
    kinds: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)
    for event in streamed:
        kinds.validate_json(json.dumps(event), strict=True)
    if document_path().exists():
        check("Response", whole.json())
        for event in streamed:
            check("ResponseStreamEvent", event)
    names = [event["type"].removeprefix("response.") for event in streamed]
    assert names[:4] == ["created", "in_progress", "output_item.added", "content_part.added"]
    assert names[-4:] == ["output_text.done", "content_part.done", "output_item.done", ended]
    assert set(names[4:-4]) == {"output_text.delta"}
    assert [event["sequence_number"] for event in streamed] == list(range(len(streamed)))
    last = streamed[-1]["response"]
    assert last["output"][0]["content"][0]["text"] == whole.json()["output"][0]["content"][0]["text"]
    assert last["incomplete_details"] == ({"reason": "max_output_tokens"} if ended == "incomplete" else None)


async def test_what_is_asked_reaches_the_engine(world: World, gateway: RunningGateway) -> None:
    answer = await post(world, gateway)
    said = answer.json()["output"]
    again = await post(
        world,
        gateway,
        instructions="Be brief.",
        input=[
            {"role": "user", "content": "one"},
            *said,
            {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "two"}]},
        ],
        temperature=0.25,
        top_p=0.5,
        max_output_tokens=17,
        text={"format": {"type": "text"}},
        tools=[],
        store=False,
    )
    assert again.status_code == 200, again.text
    asked = seen(world)
    assert asked.messages == (
        Message("developer", "Be brief."),
        Message("user", "one"),
        Message("assistant", " tok" * 8),
        Message("user", "two"),
    )
    assert asked.sampling == Sampling(temperature=0.25, top_p=0.5)
    assert (asked.max_completion_tokens, asked.max_tokens_given) == (17, True)


BAD: list[tuple[dict[str, Any], str, str]] = [
    ({"store": True}, "unsupported_parameter", "store"),
    ({"previous_response_id": "resp_1"}, "unsupported_parameter", "previous_response_id"),
    ({"conversation": "conv_1"}, "unsupported_parameter", "conversation"),
    ({"background": True}, "unsupported_parameter", "background"),
    ({"tools": [{"type": "web_search"}]}, "unsupported_value", "tools[0].type"),
    ({"tools": [{"type": "function", "name": "f"}]}, "unsupported_parameter", "tools"),
    ({"tool_choice": "required"}, "invalid_value", "tool_choice"),
    ({"text": {"format": {"type": "json_object"}}}, "unsupported_parameter", "text.format"),
    ({"text": {"format": {"type": "json_schema", "name": "x"}}}, "missing_required_parameter", "text.format.schema"),
    ({"reasoning": {"effort": "high"}}, "unsupported_parameter", "reasoning"),
    # This engine has none.
    ({"include": ["message.output_text.logprobs"]}, "unsupported_parameter", "include"),
    ({"include": ["reasoning.encrypted_content"]}, "unsupported_parameter", "include[0]"),
    ({"include": ["message.output_text.logprobs", "file_search_call.results"]}, "unsupported_parameter", "include[1]"),
    ({"include": "message.output_text.logprobs"}, "invalid_type", "include"),
    ({"truncation": "auto"}, "unsupported_parameter", "truncation"),
    ({"metadata": {"a": 1}}, "invalid_type", "metadata"),
    ({"metadata": {"a" * 65: "b"}}, "invalid_value", "metadata"),
    ({"metadata": {"a": "b" * 513}}, "invalid_value", "metadata"),
    ({"metadata": {str(number): "" for number in range(17)}}, "invalid_value", "metadata"),
    ({"prompt": {"id": "p"}}, "unsupported_parameter", "prompt"),
    ({"service_tier": "flex"}, "unsupported_parameter", "service_tier"),
    ({"top_logprobs": 3}, "invalid_value", "top_logprobs"),
    ({"top_logprobs": 21, "include": ["message.output_text.logprobs"]}, "invalid_value", "top_logprobs"),
    ({"top_logprobs": -1}, "invalid_value", "top_logprobs"),
    ({"top_logprobs": True}, "invalid_type", "top_logprobs"),
    ({"stream_options": {}}, "invalid_value", "stream_options"),
    ({"reasoning": {"summary": "auto"}}, "unsupported_parameter", "reasoning"),
    ({"seed": 1}, "unknown_parameter", "seed"),
    ({"stop": "x"}, "unknown_parameter", "stop"),
    (
        {"stream": True, "stream_options": {"include_obfuscation": True}},
        "unsupported_parameter",
        "stream_options.include_obfuscation",
    ),
    ({"stream": True, "stream_options": {"include_usage": True}}, "unknown_parameter", "stream_options.include_usage"),
    ({"messages": []}, "unknown_parameter", "messages"),
    ({"input": ""}, "empty_array", "input"),
    ({"input": []}, "empty_array", "input"),
    ({"input": 5}, "invalid_type", "input"),
    ({"input": [{"role": "wizard", "content": "x"}]}, "invalid_value", "input[0].role"),
    ({"input": [{"role": "user"}]}, "invalid_type", "input[0].content"),
    (
        {"input": [{"role": "user", "content": [{"type": "input_image"}]}]},
        "unsupported_value",
        "input[0].content[0].type",
    ),
    ({"input": [{"role": "user", "content": "x", "name": "n"}]}, "unknown_parameter", "input[0].name"),
    ({"input": [{"type": "item_reference", "id": "msg_1"}]}, "unsupported_value", "input[0].type"),
    ({"input": [{"type": "function_call_output", "output": "x"}]}, "missing_required_parameter", "input[0].call_id"),
    ({"input": [{"type": "function_call_output", "call_id": "c", "output": "x"}]}, "invalid_value", "input"),
    ({"input": "a\0b"}, "invalid_value", "input"),
    ({"temperature": 3}, "invalid_value", "temperature"),
    ({"max_output_tokens": 0}, "invalid_value", "max_output_tokens"),
    ({"max_output_tokens": 5000}, "integer_above_max_value", "max_output_tokens"),
    ({"model": EMBEDDINGS}, "wrong_task", "model"),
]


async def test_bad_requests_name_their_parameter_and_are_free(world: World, gateway: RunningGateway) -> None:
    for fields, code, param in BAD:
        check_error(await post(world, gateway, **fields), 400, code, param)
    assert world.engine.seen == []
    await world.events(0)


async def test_metadata_comes_back_with_the_answer(world: World, gateway: RunningGateway) -> None:
    async with world.openai(gateway.url) as client:
        whole = await client.responses.create(**body_of(), metadata={"order": "42"}, store=False)
        async with client.responses.stream(**body_of(), metadata={"order": "43"}, store=False) as stream:
            streamed = await stream.get_final_response()
    assert (whole.metadata, streamed.metadata) == ({"order": "42"}, {"order": "43"})
    # It says nothing to the engine, and goes nowhere else.
    assert all(b"order" not in asked.body for asked in world.engine.generations())


async def test_an_engines_refusal_has_this_apis_names(world: World, gateway: RunningGateway) -> None:
    async with real_engine(world, context_tokens=64):
        check_error(await post(world, gateway, input="word " * 70), 400, "context_length_exceeded", "input")
        answer = await post(world, gateway, max_output_tokens=63)
        check_error(answer, 400, "context_length_exceeded", "max_output_tokens")


async def test_the_packages_own_errors(world: World, gateway: RunningGateway) -> None:
    async with world.openai(gateway.url) as client:
        with pytest.raises(BadRequestError) as refused:
            await client.responses.create(**body_of(), previous_response_id="resp_1")
    assert refused.value.param == "previous_response_id"
    poor = world.control.new_key(world.control.new_tenant(0))
    async with world.openai(gateway.url, poor) as client:
        with pytest.raises(APIStatusError) as unpaid:
            await client.responses.create(**body_of())
    assert unpaid.value.status_code == 402


async def test_an_engine_that_breaks_off_ends_the_stream_as_failed(world: World, gateway: RunningGateway) -> None:
    world.engine.script.die_after = 3
    *_, failed = events_of(await post(world, gateway, stream=True))
    assert failed["type"] == "response.failed"
    assert failed["response"]["error"]["code"] == "server_error"
    assert failed["response"]["output"][0]["content"][0]["text"] == " tok" * 3
    TypeAdapter(Response).validate_json(json.dumps(failed["response"]), strict=True)
    if document_path().exists():
        check("ResponseFailedEvent", failed)
    [event] = await world.events(1)
    assert (event.outcome, event.counts.completion_tokens) == (Outcome.FAILED, 3)


@pytest.mark.parametrize("stream", [False, True])
async def test_a_repeat_gets_the_same_bytes_and_one_charge(world: World, gateway: RunningGateway, stream: bool) -> None:
    facts = world.control.keys[world.key]
    world.control.keys[world.key] = msgspec.structs.replace(facts, answers_kept_for_s=3600.0)
    headers = {**auth(world.key), "idempotency-key": "once"}
    first, again = [await gateway.http.post(PATH, json=body_of(stream=stream), headers=headers) for _ in range(2)]
    assert first.status_code == 200, first.text
    assert again.content == first.content
    assert again.headers["idempotent-replayed"] == "true"
    await world.events(1)


async def test_azures_undated_path_serves_it_too(world: World, gateway: RunningGateway) -> None:
    async with AsyncAzureOpenAI(
        base_url=gateway.url + "/openai/v1", api_key=world.key, api_version="preview", max_retries=0
    ) as client:
        assert (await client.responses.create(**body_of())).output_text == " tok" * 8

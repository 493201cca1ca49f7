"""Tools, schemas, several answers and probabilities, with the real model: what the engine says is by the grammar."""

from typing import Any

import jsonschema_rs
import msgspec
import pytest

from chappe_kernel.errors import Invalid
from chappe_kernel.wire.engine import (
    Calling,
    CountRequest,
    GenerateRequest,
    Message,
    ResponseFormat,
    Sampling,
    Start,
    Tool,
    ToolCall,
)
from chappe_serving.engine import ArgumentsDelta, CallBegun, Delta, Event, GeneratingEngine, Next
from chappe_serving.engines.registry import AnyEngine
from tests.serving.conftest import chat
from tests.serving.test_engine_contract import collect, end_of, text_of

CITY = {
    "type": "object",
    "properties": {
        "city": {"type": "string", "maxLength": 20},
        "unit": {"enum": ["c", "f"]},
        "days": {"type": "integer", "minimum": 1, "maximum": 7},
    },
    "required": ["city", "unit"],
}
SUM = {"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}}, "required": ["a", "b"]}


def tool(name: str, schema: Any, **changes: Any) -> Tool:
    return Tool(name, f"This is {name}", msgspec.Raw(msgspec.json.encode(schema)), **changes)


TOOLS = (tool("get_weather", CITY), tool("add", SUM))


@pytest.fixture
def generating(llama: AnyEngine) -> GeneratingEngine:
    assert isinstance(llama, GeneratingEngine)
    return llama


def calls_of(events: list[Event]) -> list[tuple[str, Any]]:
    """Name and arguments of each call."""
    calls: list[tuple[str, list[str]]] = []
    for event in events:
        if isinstance(event, CallBegun):
            calls.append((event.name, []))
        elif isinstance(event, ArgumentsDelta):
            calls[-1][1].append(event.text)
    return [(name, msgspec.json.decode("".join(parts))) for name, parts in calls]


def formatted(schema: Any, *, strict: bool = False) -> ResponseFormat:
    return ResponseFormat(msgspec.Raw(msgspec.json.encode(schema)), strict)


@pytest.mark.parametrize("seed", range(3))
async def test_a_forced_call_is_one_of_the_tools_and_by_its_schema(generating: GeneratingEngine, seed: int) -> None:
    hot = Sampling(temperature=1.5, seed=seed)
    request = chat("Hello!", max_tokens=100, calling=Calling(TOOLS, "required", parallel=False), sampling=hot)
    events = await collect(generating, request)
    [(name, arguments)] = calls_of(events)
    jsonschema_rs.validate({"get_weather": CITY, "add": SUM}[name], arguments)
    assert end_of(events).finish_reason == "tool_calls"
    assert text_of(events) == ""


async def test_a_named_call_is_of_that_tool(generating: GeneratingEngine) -> None:
    calling = Calling(TOOLS, "required", ("add",), parallel=False)
    [(name, arguments)] = calls_of(await collect(generating, chat("Weather in Rome?", max_tokens=60, calling=calling)))
    assert name == "add"
    jsonschema_rs.validate(SUM, arguments)


async def test_left_to_itself_the_model_may_just_answer(generating: GeneratingEngine) -> None:
    events = await collect(generating, chat("Say hello.", max_tokens=12, calling=Calling(TOOLS)))
    assert calls_of(events) == []
    assert text_of(events)


async def test_tools_are_part_of_the_prompt_and_counted_as_they_run(generating: GeneratingEngine) -> None:
    plain = chat("Hello!", max_tokens=8)
    request = msgspec.structs.replace(
        plain,
        request_id="other",
        messages=(
            *plain.messages,
            Message("assistant", "", (ToolCall("call_1", "add", '{"a":1,"b":2}'),)),
            Message("tool", "3", tool_call_id="call_1"),
        ),
        calling=Calling(TOOLS),
    )
    counted = await generating.count_prompt(CountRequest(messages=request.messages, tools=TOOLS))
    start = next(event for event in await collect(generating, request) if isinstance(event, Start))
    assert counted == start.prompt_tokens
    assert counted > 150 + await generating.count_prompt(CountRequest(messages=plain.messages))


@pytest.mark.parametrize("seed", range(3))
async def test_an_answer_by_a_schema_is(generating: GeneratingEngine, seed: int) -> None:
    schema = {
        "$defs": {"node": {"type": "object", "properties": {"v": {"type": "integer"}}, "required": ["v"]}},
        "type": "object",
        "properties": {
            "list": {"type": "array", "maxItems": 3, "items": {"$ref": "#/$defs/node"}},
            "ok": {"type": "boolean"},
        },
        "required": ["list", "ok"],
        "additionalProperties": False,
    }
    hot = Sampling(temperature=1.5, seed=seed)
    request = chat("Hello!", max_tokens=150, response_format=formatted(schema, strict=True), sampling=hot)
    events = await collect(generating, request)
    assert end_of(events).finish_reason == "stop"
    jsonschema_rs.validate(schema, msgspec.json.decode(text_of(events)))


async def test_a_strict_schema_that_cannot_be_kept_is_refused_and_another_one_is_a_hint(
    generating: GeneratingEngine,
) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "integer", "multipleOf": 7}}, "required": ["a"]}
    with pytest.raises(Invalid) as refusal:
        await collect(generating, chat("x", response_format=formatted(schema, strict=True)))
    assert refusal.value.param == "response_format.properties.a.multipleOf"
    events = await collect(generating, chat("x", response_format=formatted(schema)))
    assert isinstance(msgspec.json.decode(text_of(events))["a"], int)


async def test_several_answers_count_their_prompt_once(generating: GeneratingEngine) -> None:
    request = chat("Tell me a story.", max_tokens=6, n=3, sampling=Sampling(temperature=1.2, seed=7))
    events = await collect(generating, request)
    end = end_of(events)
    assert [event.finish_reason for event in events if isinstance(event, Next)] == ["length"] * 2
    assert end.counts.completion_tokens == 18
    alone = end_of(await collect(generating, msgspec.structs.replace(request, request_id="alone", n=1)))
    assert end.counts.prompt_tokens == alone.counts.prompt_tokens
    texts = [""]
    for event in events:
        if isinstance(event, Next):
            texts.append("")
        elif isinstance(event, Delta):
            texts[-1] += event.text
    assert len(set(texts)) == 3


async def test_an_abort_among_several_answers_counts_all_of_them(generating: GeneratingEngine) -> None:
    request = chat("Count to one hundred.", max_tokens=40, n=3)
    aborted, events = False, list[Event]()
    async for event in generating.generate(request):
        events.append(event)
        if isinstance(event, Delta) and any(isinstance(each, Next) for each in events) and not aborted:
            aborted = generating.abort(request.request_id, request.attempt)
    end = end_of(events)
    assert end.outcome == "aborted"
    assert 40 < end.counts.completion_tokens < 120


async def test_an_abort_between_two_answers_counts_none_twice(generating: GeneratingEngine) -> None:
    request = chat("Count to one hundred.", max_tokens=12, n=3)
    events = list[Event]()
    async for event in generating.generate(request):
        events.append(event)
        if isinstance(event, Next):
            generating.abort(request.request_id, request.attempt)
    end = end_of(events)
    assert end.outcome == "aborted"
    assert end.counts.completion_tokens == 12


async def test_each_token_has_its_probability(generating: GeneratingEngine) -> None:
    events = await collect(generating, chat("Say hello.", max_tokens=5, logprobs=2))
    deltas = [event for event in events if isinstance(event, Delta)]
    told = [one for delta in deltas for one in delta.logprobs]
    assert "".join(one.token for one in told) == text_of(events)
    assert all(one.logprob <= 0 and len(one.likeliest) == 2 for one in told)


async def test_a_bias_forbids_a_token(generating: GeneratingEngine) -> None:
    request = chat("Say hello.", max_tokens=1, logprobs=1)
    first = text_of(await collect(generating, request))
    tokens = await _tokens_of(generating, first)
    biased = msgspec.structs.replace(
        request, request_id="biased", sampling=Sampling(temperature=0.0, logit_bias=((tokens[0], -100.0),))
    )
    assert text_of(await collect(generating, biased)) != first
    beyond = msgspec.structs.replace(request, sampling=Sampling(logit_bias=((10**9, 1.0),)))
    with pytest.raises(Invalid) as refusal:
        await collect(generating, beyond)
    assert refusal.value.param == "logit_bias"


async def _tokens_of(engine: Any, text: str) -> list[int]:
    tokens: list[int] = await engine._tokenize(text)  # nothing else tells a token's number
    return tokens


async def test_what_is_asked_for_reaches_the_wire(generating: GeneratingEngine) -> None:
    request = chat("x", calling=Calling(TOOLS), response_format=formatted({}), n=2, logprobs=0)
    again = msgspec.json.decode(msgspec.json.encode(request), type=GenerateRequest)
    assert again.needs == ("tools", "response_format", "n", "logprobs")
    assert set(again.needs) <= generating.features

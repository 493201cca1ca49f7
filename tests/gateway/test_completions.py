"""`/v1/completions`: the `openai` package works unchanged, and the prompt goes to the engine as it came."""

import json
from typing import Any

import msgspec
import pytest

from chappe_kernel.rating import Counts
from chappe_kernel.wire.engine import GenerateRequest
from tests.gateway.fake_control import CHAT, EMBEDDINGS
from tests.gateway.real_engine import real_engine
from tests.gateway.test_answers_shape import check_error
from tests.gateway.world import RunningGateway, World, auth

PATH = "/v1/completions"


def seen(world: World) -> GenerateRequest:
    return msgspec.json.decode(world.engine.generations()[-1].body, type=GenerateRequest)


async def test_whole_and_streamed_answers_are_charged_alike(world: World, gateway: RunningGateway) -> None:
    async with real_engine(world), world.openai(gateway.url) as client:
        whole = await client.completions.create(model=CHAT, prompt="one two three", seed=1)
        stream = await client.completions.create(
            model=CHAT, prompt="one two three", seed=1, stream=True, stream_options={"include_usage": True}
        )
        chunks = [chunk async for chunk in stream]
        events = await world.events(2)
    text = whole.choices[0].text
    assert len(text.split()) == 5
    assert "".join(chunk.choices[0].text for chunk in chunks if chunk.choices) == text
    assert chunks[-2].choices[0].finish_reason == whole.choices[0].finish_reason == "stop"
    assert chunks[-1].choices == []
    assert chunks[-1].usage == whole.usage
    assert {event.counts for event in events} == {Counts(3, 0, 5)}
    assert {event.amount_nano for event in events} == {3 * 60 + 5 * 210}


@pytest.mark.parametrize(
    ("sent", "passed_on"), [("a b", "a b"), (["a b"], "a b"), ([5, 7], (5, 7)), ([[5, 7]], (5, 7))]
)
async def test_a_prompt_is_a_text_or_tokens(
    world: World, gateway: RunningGateway, sent: Any, passed_on: object
) -> None:
    body = {"model": CHAT, "prompt": sent, "temperature": 0.5, "stop": ["\n"]}
    answer = await gateway.http.post(PATH, json=body, headers=auth(world.key))
    assert answer.status_code == 200, answer.text
    asked = seen(world)
    assert asked.prompt == passed_on
    assert asked.messages == ()
    assert asked.max_completion_tokens == 16
    assert asked.sampling.stop == ("\n",)
    assert asked.sampling.temperature == 0.5


BAD: list[tuple[dict[str, Any], str, str]] = [
    ({}, "missing_required_parameter", "prompt"),
    ({"prompt": ""}, "invalid_value", "prompt"),
    ({"prompt": []}, "invalid_type", "prompt"),
    ({"prompt": 5}, "invalid_type", "prompt"),
    ({"prompt": ["a", "b"]}, "unsupported_parameter", "prompt"),
    ({"prompt": [[1], [2]]}, "unsupported_parameter", "prompt"),
    ({"prompt": [1, -1]}, "invalid_value", "prompt"),
    ({"prompt": [1, True]}, "invalid_type", "prompt"),
    ({"prompt": "a\0b"}, "invalid_value", "prompt"),
    ({"prompt": "a", "n": 2}, "unsupported_parameter", "n"),
    ({"prompt": "a", "best_of": 3}, "unsupported_parameter", "best_of"),
    ({"prompt": "a", "echo": True}, "unsupported_parameter", "echo"),
    ({"prompt": "a", "logprobs": 0}, "unsupported_parameter", "logprobs"),
    ({"prompt": "a", "logit_bias": {"5": 1}}, "unsupported_parameter", "logit_bias"),
    ({"prompt": "a", "suffix": "z"}, "unsupported_parameter", "suffix"),
    ({"prompt": "a", "messages": []}, "unknown_parameter", "messages"),
    ({"prompt": "a", "max_tokens": 0}, "invalid_value", "max_tokens"),
    ({"prompt": "a", "max_tokens": 5000}, "integer_above_max_value", "max_tokens"),
    ({"prompt": "a", "top_p": 2}, "invalid_value", "top_p"),
    ({"prompt": "a", "stream_options": {}}, "invalid_value", "stream_options"),
    ({"prompt": "a", "model": EMBEDDINGS}, "wrong_task", "model"),
]


async def test_bad_requests_name_their_parameter_and_are_free(world: World, gateway: RunningGateway) -> None:
    for fields, code, param in BAD:
        body = json.dumps({"model": CHAT} | fields).encode()
        headers = {"content-type": "application/json", **auth(world.key)}
        check_error(await gateway.http.post(PATH, content=body, headers=headers), 400, code, param)
    assert world.engine.seen == []
    await world.events(0)


async def test_an_over_long_prompt_names_the_prompt(world: World, gateway: RunningGateway) -> None:
    async with real_engine(world, context_tokens=16):
        body = {"model": CHAT, "prompt": "word " * 30}
        answer = await gateway.http.post(PATH, json=body, headers=auth(world.key))
    check_error(answer, 400, "context_length_exceeded", "prompt")
    assert gateway.gateway.grants.open_holds() == 0


async def test_an_engine_that_breaks_off_ends_the_stream_with_an_error(world: World, gateway: RunningGateway) -> None:
    world.engine.script.die_after = 3
    body = {"model": CHAT, "prompt": "x", "stream": True}
    answer = await gateway.http.post(PATH, json=body, headers=auth(world.key))
    *chunks, error = [json.loads(event.removeprefix("data: ")) for event in answer.text.split("\n\n")[:-1]]
    assert "".join(chunk["choices"][0]["text"] for chunk in chunks) == " tok" * 3
    assert error["error"]["code"] == "engine_error"
    [event] = await world.events(1)
    assert event.counts.completion_tokens == 3

"""Mistral's package works unchanged: its API is OpenAI's with a few names of its own."""

import msgspec
import pytest
from mistralai.client import Mistral
from mistralai.client.errors import SDKError

from chappe_kernel.rating import Counts
from chappe_kernel.wire.engine import GenerateRequest, Sampling
from tests.gateway.fake_control import CHAT, EMBEDDINGS
from tests.gateway.real_engine import real_engine
from tests.gateway.world import RunningGateway, World


def client_of(world: World, gateway: RunningGateway) -> Mistral:
    return Mistral(api_key=world.key, server_url=gateway.url, timeout_ms=20_000)


async def test_whole_and_streamed_answers(world: World, gateway: RunningGateway) -> None:
    async with real_engine(world), client_of(world, gateway) as client:
        talk = [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "one"},
            {"role": "assistant", "content": "two"},
            {"role": "user", "content": [{"type": "text", "text": "three"}]},
        ]
        whole = await client.chat.complete_async(model=CHAT, messages=talk, random_seed=7)
        stream = await client.chat.stream_async(model=CHAT, messages=talk, random_seed=7)
        chunks = [event.data async for event in stream]
        events = await world.events(2)
    text = whole.choices[0].message.content
    assert isinstance(text, str)
    assert len(text.split()) == 5
    assert "".join(str(chunk.choices[0].delta.content or "") for chunk in chunks) == text
    assert chunks[-1].choices[0].finish_reason == whole.choices[0].finish_reason == "stop"
    assert {event.counts for event in events} == {Counts(whole.usage.prompt_tokens or 0, 0, 5)}


async def test_its_own_names_reach_the_engine(world: World, gateway: RunningGateway) -> None:
    async with client_of(world, gateway) as client:
        await client.chat.complete_async(
            model=CHAT,
            messages=[{"role": "user", "content": "hi"}],
            random_seed=7,
            top_k=5,
            stop=["x"],
            max_tokens=9,
            safe_prompt=False,
            service_tier="auto",
        )
    asked = msgspec.json.decode(world.engine.generations()[-1].body, type=GenerateRequest)
    assert asked.sampling == Sampling(seed=7, top_k=5, stop=("x",))
    assert asked.max_completion_tokens == 9


async def test_embeddings(world: World, gateway: RunningGateway) -> None:
    async with real_engine(world), client_of(world, gateway) as client:
        made = await client.embeddings.create_async(model=EMBEDDINGS, inputs=["one", "two"])
    assert [len(item.embedding or []) for item in made.data] == [384, 384]


async def test_models(world: World, gateway: RunningGateway) -> None:
    async with client_of(world, gateway) as client:
        listed = await client.models.list_async()
        one = await client.models.retrieve_async(model_id=CHAT)
    assert [model.id for model in listed.data or []] == [CHAT, EMBEDDINGS]
    assert one.id == CHAT


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"safe_prompt": True}, "safe_prompt"),
        ({"top_k": -1}, "top_k"),
        ({"prompt_mode": "reasoning"}, "prompt_mode"),
        ({"min_tokens": 3}, "min_tokens"),
        ({"repetition_penalty": 1.1}, "repetition_penalty"),
        ({"n": 2}, "n"),
        ({"tools": [{"type": "function", "function": {"name": "f", "parameters": {}}}]}, "tools"),
    ],
)
async def test_what_is_not_served_is_named(
    world: World, gateway: RunningGateway, fields: dict[str, object], param: str
) -> None:
    async with client_of(world, gateway) as client:
        with pytest.raises(SDKError) as refused:
            await client.chat.complete_async(
                model=CHAT,
                messages=[{"role": "user", "content": "hi"}],
                **fields,
            )
    assert refused.value.status_code == 400
    assert msgspec.json.decode(refused.value.body)["error"]["param"] == param
    assert world.engine.seen == []

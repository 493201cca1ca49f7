"""The `openai` package works unchanged, and each answer is one exact event."""

from chappe_kernel.rating import Counts, Outcome
from tests.gateway.fake_control import CHAT, EMBEDDINGS
from tests.gateway.world import RunningGateway, World, chat_body


async def test_stream_with_usage_is_charged_as_the_engine_counted(world: World, gateway: RunningGateway) -> None:
    async with world.openai(gateway.url) as client:
        stream = await client.chat.completions.create(
            **chat_body(), stream=True, stream_options={"include_usage": True}
        )
        chunks = [chunk async for chunk in stream]
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == " tok" * 8
    usage = chunks[-1].usage
    assert usage is not None
    assert chunks[-1].choices == []
    assert chunks[-1].id == chunks[0].id == "chatcmpl-1"
    [event] = await world.events(1)
    assert event.counts == Counts(usage.prompt_tokens, 0, usage.completion_tokens) == Counts(6, 0, 8)
    assert event.outcome is Outcome.COMPLETED
    assert event.amount_nano == 6 * 60 + 8 * 210
    assert event.tenant_id == world.tenant
    assert event.ttft_ms is not None


async def test_whole_answer_is_charged_as_the_engine_counted(world: World, gateway: RunningGateway) -> None:
    world.engine.script.cached = 2
    async with world.openai(gateway.url) as client:
        answer = await client.chat.completions.create(**chat_body(max_tokens=3))
    assert answer.choices[0].message.content == " tok" * 3
    [event] = await world.events(1)
    assert event.counts == Counts(6, 2, 3)
    assert event.amount_nano == 4 * 60 + 2 * 15 + 3 * 210


async def test_embeddings_in_both_formats(world: World, gateway: RunningGateway) -> None:
    async with world.openai(gateway.url) as client:
        coded = await client.embeddings.create(model=EMBEDDINGS, input=["one two", "three"])
        plain = await client.embeddings.create(model=EMBEDDINGS, input="one two", encoding_format="float")
    assert [len(item.embedding) for item in coded.data] == [2, 2]
    assert plain.data[0].embedding == [0.5, -0.5]
    events = await world.events(2)
    assert sorted(event.counts.prompt_tokens for event in events) == [2, 3]


async def test_models_are_those_of_this_region_and_key(world: World, gateway: RunningGateway) -> None:
    async with world.openai(gateway.url) as client:
        assert [model.id async for model in client.models.list()] == [CHAT, EMBEDDINGS]
        assert (await client.models.retrieve(CHAT)).owned_by == "huggingface"
    only_chat = world.control.new_key(world.tenant, models=(CHAT,))
    async with world.openai(gateway.url, only_chat) as client:
        assert [model.id async for model in client.models.list()] == [CHAT]

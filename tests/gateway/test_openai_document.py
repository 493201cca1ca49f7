"""Every answer, in one piece, chunk by chunk and as an error, is what OpenAI's own document says."""

from typing import Any

import httpx
import msgspec
import pytest

from tests.gateway.fake_control import CHAT, EMBEDDINGS
from tests.gateway.openai_document import check, needs_document
from tests.gateway.real_engine import real_engine
from tests.gateway.world import RunningGateway, World, auth, chat_body

pytestmark = needs_document

PROMPT = {"model": CHAT, "prompt": "once upon a time"}
USAGE = {"stream": True, "stream_options": {"include_usage": True}}


async def post(world: World, gateway: RunningGateway, path: str, body: dict[str, Any]) -> httpx.Response:
    answer = await gateway.http.post(path, json=body, headers=auth(world.key))
    assert answer.status_code == 200, answer.text
    return answer


def chunks_of(answer: httpx.Response) -> list[Any]:
    events = answer.text.removesuffix("\n\n").split("\n\n")
    assert events[-1] == "data: [DONE]"
    return [msgspec.json.decode(event.removeprefix("data: ")) for event in events[:-1]]


@pytest.mark.parametrize("max_tokens", [3, 100])
async def test_chat_completions(world: World, gateway: RunningGateway, max_tokens: int) -> None:
    body = chat_body(max_tokens=max_tokens)
    async with real_engine(world):
        check("CreateChatCompletionResponse", (await post(world, gateway, "/v1/chat/completions", body)).json())
        for streaming in ({"stream": True}, USAGE):
            answer = await post(world, gateway, "/v1/chat/completions", body | streaming)
            for chunk in chunks_of(answer):
                check("CreateChatCompletionStreamResponse", chunk)


def without_nulls(chunk: dict[str, Any]) -> dict[str, Any]:
    """A chunk says null for the usage, and for why it ends, before their turn: the document's example has these, its
    schema of the whole answer, the only one for chunks too, does not."""
    choices = [c | {"finish_reason": c["finish_reason"] or "stop"} for c in chunk["choices"]]
    return {k: v for k, v in chunk.items() if v is not None} | {"choices": choices}


@pytest.mark.parametrize("max_tokens", [3, 100])
async def test_completions(world: World, gateway: RunningGateway, max_tokens: int) -> None:
    body = PROMPT | {"max_tokens": max_tokens}
    async with real_engine(world):
        whole = (await post(world, gateway, "/v1/completions", body)).json()
        check("CreateCompletionResponse", whole)
        for streaming in ({"stream": True}, USAGE):
            chunks = chunks_of(await post(world, gateway, "/v1/completions", body | streaming))
            for chunk in chunks:
                check("CreateCompletionResponse", without_nulls(chunk))
            assert "".join(c["choices"][0]["text"] for c in chunks if c["choices"]) == whole["choices"][0]["text"]
    assert whole["usage"]["completion_tokens"] == min(max_tokens, 5)


async def test_embeddings(world: World, gateway: RunningGateway) -> None:
    body = {"model": EMBEDDINGS, "input": ["one", "two three"]}
    async with real_engine(world):
        for fields in ({}, {"encoding_format": "float"}, {"dimensions": 8}):
            answer = (await post(world, gateway, "/v1/embeddings", body | fields)).json()
            check("CreateEmbeddingResponse", answer)
            assert len(answer["data"][1]["embedding"]) == fields.get("dimensions", 384)
        coded = (await post(world, gateway, "/v1/embeddings", body | {"encoding_format": "base64"})).json()
    assert isinstance(coded["data"][0]["embedding"], str)


async def test_models(world: World, gateway: RunningGateway) -> None:
    listed = (await gateway.http.get("/v1/models", headers=auth(world.key))).json()
    check("ListModelsResponse", listed)
    check("Model", (await gateway.http.get(f"/v1/models/{CHAT}", headers=auth(world.key))).json())


async def test_errors(world: World, gateway: RunningGateway) -> None:
    for path, body, key in (
        ("/v1/chat/completions", chat_body(), "ck_i_no"),
        ("/v1/chat/completions", chat_body(n=2), world.key),
        ("/v1/completions", PROMPT | {"echo": True}, world.key),
        ("/v1/embeddings", {"model": EMBEDDINGS, "input": []}, world.key),
        ("/v1/nothing", {}, world.key),
    ):
        answer = await gateway.http.post(path, json=body, headers=auth(key))
        assert answer.status_code in (400, 401, 404)
        check("Error", answer.json()["error"])

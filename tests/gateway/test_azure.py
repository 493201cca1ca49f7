"""Azure OpenAI's paths and header: the `openai` package's Azure client works unchanged."""

import httpx
import pytest
from openai import AsyncAzureOpenAI, AsyncOpenAI, BadRequestError, NotFoundError

from chappe_kernel.rating import Counts
from tests.gateway.fake_control import CHAT, ELSEWHERE_ONLY, EMBEDDINGS
from tests.gateway.test_answers_shape import check_error
from tests.gateway.world import RunningGateway, World, auth, chat_body

VERSION = "2024-10-21"
CHAT_PATH = f"/openai/deployments/{CHAT}/chat/completions"


def azure(world: World, gateway: RunningGateway) -> AsyncAzureOpenAI:
    return AsyncAzureOpenAI(
        azure_endpoint=gateway.url, api_key=world.key, api_version=VERSION, max_retries=0, timeout=20
    )


async def test_the_azure_client_works_unchanged(world: World, gateway: RunningGateway) -> None:
    async with azure(world, gateway) as client:
        whole = await client.chat.completions.create(**chat_body())
        stream = await client.chat.completions.create(**chat_body(), stream=True)
        text = "".join([chunk.choices[0].delta.content or "" async for chunk in stream])
        completed = await client.completions.create(model=CHAT, prompt="a b")
        embedded = await client.embeddings.create(model=EMBEDDINGS, input="one two")
    assert whole.choices[0].message.content == text == completed.choices[0].text == " tok" * 8
    assert embedded.data[0].embedding == [0.5, -0.5]
    events = await world.events(4)
    assert {event.counts for event in events} == {Counts(6, 0, 8), Counts(0, 0, 8), Counts(2, 0, 0)}


async def test_the_deployment_of_the_path_is_the_model(world: World, gateway: RunningGateway) -> None:
    async with AsyncAzureOpenAI(
        azure_endpoint=gateway.url, azure_deployment=CHAT, api_key=world.key, api_version=VERSION, max_retries=0
    ) as client:
        answer = await client.chat.completions.create(model="whatever", messages=[{"role": "user", "content": "hi"}])
        assert answer.model == CHAT
        with pytest.raises(BadRequestError) as refused:
            await client.chat.completions.create(model="", messages=[{"role": "user", "content": "hi"}], n=2)
    assert refused.value.param == "n"
    body = {"messages": chat_body()["messages"]}
    answer_without = await gateway.http.post(f"{CHAT_PATH}?api-version={VERSION}", json=body, headers=auth(world.key))
    assert answer_without.json()["model"] == CHAT


async def test_the_undated_api_is_openais(world: World, gateway: RunningGateway) -> None:
    async with AsyncOpenAI(base_url=gateway.url + "/openai/v1/", api_key=world.key, max_retries=0) as client:
        assert (await client.chat.completions.create(**chat_body())).choices[0].message.content
        assert (await client.embeddings.create(model=EMBEDDINGS, input="one")).data
        assert [model.id async for model in client.models.list()] == [CHAT, EMBEDDINGS]
        assert (await client.models.retrieve(CHAT)).id == CHAT
        with pytest.raises(NotFoundError):
            await client.chat.completions.create(**chat_body() | {"model": "nonesuch"})


@pytest.mark.parametrize("query", ["", "?api-version=", "?api-version=soon", "?api-version=2024-10-21%0d%0ax:1"])
async def test_a_dated_path_needs_a_version(world: World, gateway: RunningGateway, query: str) -> None:
    answer = await gateway.http.post(CHAT_PATH + query, json=chat_body(), headers={"api-key": world.key})
    code = "invalid_value" if "=s" in query or "=2" in query else "missing_required_parameter"
    check_error(answer, 400, code, "api-version")


@pytest.mark.parametrize("path", ["/openai", "/openai/deployments", "/openai/deployments/a/b", "/openai/v1/files"])
async def test_other_paths_are_404(world: World, gateway: RunningGateway, path: str) -> None:
    check_error(await gateway.http.post(path, json={}, headers={"api-key": world.key}), 404, "not_found")


async def test_a_key_counts_once_whatever_header_it_comes_in(world: World, gateway: RunningGateway) -> None:
    async def ask(*headers: tuple[str, str]) -> httpx.Response:
        return await gateway.http.post("/v1/chat/completions", json=chat_body(), headers=list(headers))

    for name, value in (("api-key", world.key), ("x-api-key", world.key), ("authorization", f"Bearer {world.key}")):
        assert (await ask((name, value))).status_code == 200
        check_error(await ask((name, value + "x")), 401, "invalid_api_key")
    other = world.control.new_key(world.tenant)
    check_error(await ask(("api-key", world.key), ("x-api-key", other)), 401, "invalid_api_key")
    check_error(await ask(("api-key", other), ("api-key", world.key)), 401, "invalid_api_key")
    check_error(await ask(("authorization", f"Bearer {other}"), ("api-key", world.key)), 401, "invalid_api_key")


async def test_limits_count_for_all_headers_together(world: World, gateway: RunningGateway) -> None:
    key = world.control.new_key(world.tenant, requests_per_minute=2)
    headers = [{"api-key": key}, {"x-api-key": key}, auth(key)]
    path = f"{CHAT_PATH}?api-version={VERSION}"
    answers = [await gateway.http.post(path, json=chat_body(), headers=each) for each in headers]
    assert [answer.status_code for answer in answers] == [200, 200, 429]


async def test_another_region_is_named_with_the_same_path(world: World, gateway: RunningGateway) -> None:
    key = world.control.new_key(world.tenant, regions=("de-fra",))
    path = f"{CHAT_PATH}?api-version={VERSION}"
    answer = await gateway.http.post(path, json=chat_body(), headers={"api-key": key})
    assert answer.status_code == 421
    assert answer.headers["location"] == world.control.gateway_urls["de-fra"] + path
    elsewhere = f"/openai/deployments/{ELSEWHERE_ONLY}/chat/completions?api-version={VERSION}"
    answer = await gateway.http.post(elsewhere, json=chat_body(), headers={"api-key": world.key})
    check_error(answer, 404, "model_not_found", "model")

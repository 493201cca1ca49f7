"""Azure OpenAI's paths and header: the `openai` package's Azure client works unchanged."""

from typing import Any

import httpx
import pytest
from openai import AsyncAzureOpenAI, AsyncOpenAI, BadRequestError, NotFoundError

from chappe_kernel.rating import Counts
from tests.gateway.fake_control import CHAT, ELSEWHERE_ONLY, EMBEDDINGS
from tests.gateway.test_answers_shape import check_error
from tests.gateway.test_batches import begin, lines_of, until_over
from tests.gateway.test_files import line
from tests.gateway.test_kept_responses import keeping, new_key_of
from tests.gateway.world import RunningGateway, World, auth, chat_body

__all__ = ["keeping"]
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


@pytest.mark.parametrize(
    "path",
    [
        "/openai",
        "/openai/v1",
        "/openai/deployments",
        "/openai/deployments/a/b",
        "/openai/v1/filesx",
        "/openai/v1/uploads",
    ],
)
async def test_other_paths_are_404(world: World, gateway: RunningGateway, path: str) -> None:
    check_error(await gateway.http.post(path, json={}, headers={"api-key": world.key}), 404, "not_found")


@pytest.mark.parametrize("path", ["/openai/files", "/openai/batches", "/openai/models", "/openai/responses"])
async def test_what_belongs_to_no_deployment_needs_a_version_at_its_dated_path(
    keeping: World, gateway: RunningGateway, path: str
) -> None:
    key = {"api-key": keeping.key}
    check_error(await gateway.http.get(path, headers=key), 400, "missing_required_parameter", "api-version")
    check_error(await gateway.http.get(path + "?api-version=soon", headers=key), 400, "invalid_value", "api-version")
    undated = path.replace("/openai", "/openai/v1")
    check_error(await gateway.http.get(undated + "?api-version=soon", headers=key), 400, "invalid_value", "api-version")
    if not path.endswith("responses"):
        for good in (f"{path}?api-version={VERSION}", undated, undated + "?api-version=preview"):
            answer = await gateway.http.get(good, headers=key)
            assert (answer.status_code, answer.json()["object"]) == (200, "list"), answer.text
    if path.endswith(("files", "batches")):
        refused = await gateway.http.get(f"{path}?api-version={VERSION}&$orderby=x", headers=key)
        check_error(refused, 400, "unknown_parameter", "$orderby")


@pytest.mark.parametrize("endpoint", ["/chat/completions", "/v1/chat/completions", "/responses", "/embeddings"])
async def test_the_azure_client_runs_a_batch(keeping: World, gateway: RunningGateway, endpoint: str) -> None:
    bodies: dict[str, Any] = {
        "/responses": {"model": CHAT, "input": "hi"},
        "/embeddings": {"model": EMBEDDINGS, "input": "hi"},
    }
    body = bodies.get(endpoint, {"model": CHAT, "messages": [{"role": "user", "content": "hi"}]})
    lines = [{"custom_id": "one", "method": "POST", "url": endpoint, "body": body}]
    async with azure(keeping, gateway) as client:
        batch = await begin(client, lines, endpoint=endpoint)
        done = await until_over(client, batch)
        assert done.status == "completed", done
        [answer] = await lines_of(client, done.output_file_id)
        assert (answer["custom_id"], answer["response"]["status_code"]) == ("one", 200)
        assert [one.id async for one in client.batches.list()] == [batch.id]
        assert [one.id async for one in client.files.list(purpose="batch", limit=1)] == [batch.input_file_id]
        assert (await client.files.delete(batch.input_file_id)).deleted
    # The same things as at OpenAI's own paths.
    async with keeping.openai(gateway.url) as client:
        assert (await client.batches.retrieve(batch.id)).endpoint == "/v1" + endpoint.removeprefix("/v1")
    await keeping.events(1)


async def test_the_azure_client_cancels_lists_models_and_goes_on(keeping: World, gateway: RunningGateway) -> None:
    keeping.engine.script.delay_s = 0.2
    body = {"model": CHAT, "messages": [{"role": "user", "content": "hi"}]}
    lines = [
        {"custom_id": str(number), "method": "POST", "url": "/chat/completions", "body": body} for number in range(40)
    ]
    async with azure(keeping, gateway) as client:
        batch = await begin(client, lines, endpoint="/chat/completions")
        assert (await client.batches.cancel(batch.id)).status == "cancelling"
        assert (await until_over(client, batch)).status == "cancelled"
        keeping.engine.script.delay_s = 0.0
        assert [model.id async for model in client.models.list()] == [CHAT, EMBEDDINGS]
        first = await client.responses.create(model=CHAT, input="one")
        second = await client.responses.create(model=CHAT, input="two", previous_response_id=first.id)
        assert (await client.responses.retrieve(second.id)).previous_response_id == first.id


async def test_anothers_files_and_batches_are_not_found_at_azures_paths(
    keeping: World, gateway: RunningGateway
) -> None:
    async with azure(keeping, gateway) as client:
        batch = await begin(client, [line()])
    for other in (new_key_of(keeping), new_key_of(keeping, same_tenant=False)):
        for path in (f"/openai/files/{batch.input_file_id}", f"/openai/files/{batch.input_file_id}/content"):
            answer = await gateway.http.get(f"{path}?api-version={VERSION}", headers={"api-key": other})
            check_error(answer, 404, "file_not_found")
        answer = await gateway.http.get(f"/openai/v1/batches/{batch.id}", headers={"api-key": other})
        check_error(answer, 404, "batch_not_found")
        answer = await gateway.http.post(
            f"/openai/batches/{batch.id}/cancel?api-version={VERSION}", headers={"api-key": other}
        )
        check_error(answer, 404, "batch_not_found")
    check_error(await gateway.http.get("/openai/v1/files", headers={"api-key": "ck_i_no"}), 401, "invalid_api_key")


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

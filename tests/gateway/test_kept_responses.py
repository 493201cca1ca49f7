"""Responses with state: kept in their region for as long as the organisation allows, and only for their project."""

import asyncio
import json
from typing import Any

import httpx
import pytest
from openai import BadRequestError, NotFoundError
from openai.types.responses import Response
from pydantic import TypeAdapter

from chappe_kernel.rating import Outcome
from chappe_kernel.wire.engine import Message
from tests.gateway.openai_document import check, document_path
from tests.gateway.real_engine import real_engine
from tests.gateway.test_answers_shape import check_error
from tests.gateway.test_responses import body_of, events_of, post, seen
from tests.gateway.world import RunningGateway, World, auth, until

PATH = "/v1/responses"
DAY_S = 24 * 3600.0


@pytest.fixture
def keeping(world: World) -> World:
    """The tenant lets its regions keep content for a day."""
    world.control.change_key(world.key, content_kept_for_s=DAY_S)
    return world


def new_key_of(world: World, *, same_project: bool = False, same_tenant: bool = True, **changes: Any) -> str:
    """Another key beside the world's, which may keep content too."""
    facts = world.control.keys[world.key]
    key = world.control.new_key(world.tenant if same_tenant else world.control.new_tenant())
    project = facts.project_id if same_project else world.control.keys[key].project_id
    world.control.change_key(key, content_kept_for_s=DAY_S, project_id=project, **changes)
    return key


async def get(gateway: RunningGateway, path: str, key: str, method: str = "GET") -> httpx.Response:
    return await gateway.http.request(method, path, headers=auth(key))


async def test_the_package_goes_on_from_what_was_said(keeping: World, gateway: RunningGateway) -> None:
    async with keeping.openai(gateway.url) as client:
        first = await client.responses.create(**body_of(instructions="Be brief."))
        second = await client.responses.create(**body_of(input="and then?"), previous_response_id=first.id)
        async with client.responses.stream(
            **body_of(input="at last?"), previous_response_id=second.id, instructions="Be loud."
        ) as stream:
            third = await stream.get_final_response()
        asked = seen(keeping)
        assert asked.messages == (
            # Instructions are one turn's alone.
            Message("developer", "Be loud."),
            Message("user", "hello there"),
            Message("assistant", " tok" * 8),
            Message("user", "and then?"),
            Message("assistant", " tok" * 8),
            Message("user", "at last?"),
        )
        for told in (first, second, third):
            again = await client.responses.retrieve(told.id)
            assert (again.id, again.output_text, again.usage) == (told.id, told.output_text, told.usage)
        assert third.previous_response_id == second.id
        assert (third.model_extra or {})["store"] is True
        items = await client.responses.input_items.list(third.id)
        assert [item.to_dict()["content"][0]["text"] for item in items.data] == ["at last?"]  # type: ignore[index]
        await client.responses.delete(second.id)
        with pytest.raises(NotFoundError):
            await client.responses.retrieve(second.id)
        with pytest.raises(NotFoundError) as broken:
            await client.responses.create(**body_of(), previous_response_id=third.id)
        assert broken.value.param == "previous_response_id"
        # What is left stands by itself.
        assert (await client.responses.retrieve(first.id)).output_text == first.output_text
    await keeping.events(3)


async def test_metadata_is_kept_with_its_response(keeping: World, gateway: RunningGateway) -> None:
    async with keeping.openai(gateway.url) as client:
        told = await client.responses.create(**body_of(), metadata={"order": "42"})
        again = await client.responses.retrieve(told.id, include=["message.output_text.logprobs"])
        assert (again.id, again.metadata) == (told.id, {"order": "42"})
        with pytest.raises(BadRequestError) as refused:
            await client.responses.retrieve(told.id, include=["reasoning.encrypted_content"])
        assert refused.value.param == "include[]"
    content = (keeping.folder / "content").rglob("*")
    assert all(b"order" not in path.read_bytes() for path in content if path.is_file())


async def test_what_a_prompt_will_cost_is_counted_before_it_runs(keeping: World, gateway: RunningGateway) -> None:
    async with real_engine(keeping), keeping.openai(gateway.url) as client:
        first = await client.responses.create(**body_of(input="one two three four"))
        asked: dict[str, Any] = {**body_of(input="five"), "previous_response_id": first.id, "instructions": "Be brief."}
        counted = await client.responses.input_tokens.count(**asked)
        second = await client.responses.create(**asked)
        assert second.usage is not None
        assert (counted.object, counted.input_tokens) == ("response.input_tokens", second.usage.input_tokens)
        with pytest.raises(BadRequestError) as refused:
            await client.responses.input_tokens.count(**body_of(), extra_body={"max_output_tokens": 5})
        assert refused.value.param == "max_output_tokens"
        with pytest.raises(NotFoundError):
            await client.responses.input_tokens.count(**body_of(), previous_response_id="resp_1")
    await keeping.events(2)


async def test_context_is_counted_and_charged_as_prompt(keeping: World, gateway: RunningGateway) -> None:
    async with real_engine(keeping), keeping.openai(gateway.url) as client:
        first = await client.responses.create(**body_of(input="one two three four"))
        second = await client.responses.create(**body_of(input="five"), previous_response_id=first.id)
        alone = await client.responses.create(**body_of(input="five"), store=False)
    events = await keeping.events(3)
    assert first.usage and second.usage and alone.usage
    assert second.usage.input_tokens > alone.usage.input_tokens + first.usage.output_tokens
    charged = sorted(event.counts.prompt_tokens for event in events)
    assert charged == sorted(told.usage.input_tokens for told in (first, second, alone) if told.usage)
    assert all(event.amount_nano <= event.hold_nano for event in events)


async def test_a_context_that_is_longer_than_a_body_may_be_is_refused(keeping: World) -> None:
    async with keeping.gateway(max_body_bytes=2000) as gateway:
        previous = None
        for _ in range(2):
            answer = await post(keeping, gateway, input="x" * 700, previous_response_id=previous)
            previous = answer.json()["id"]
        refused = await post(keeping, gateway, previous_response_id=previous)
        check_error(refused, 400, "context_length_exceeded", "previous_response_id")


@pytest.mark.parametrize("stream", [False, True])
async def test_what_is_kept_is_what_the_document_says(keeping: World, gateway: RunningGateway, stream: bool) -> None:
    answer = await post(keeping, gateway, stream=stream, max_output_tokens=2)
    told = events_of(answer)[-1]["response"] if stream else answer.json()
    kept = await get(gateway, f"{PATH}/{told['id']}", keeping.key)
    assert kept.json() == told
    TypeAdapter(Response).validate_json(kept.content, strict=True)
    if document_path().exists():
        check("Response", kept.json())
    deleted = await get(gateway, f"{PATH}/{told['id']}", keeping.key, "DELETE")
    assert deleted.json() == {"id": told["id"], "object": "response.deleted", "deleted": True}
    for method in ("GET", "DELETE"):
        gone = await get(gateway, f"{PATH}/{told['id']}", keeping.key, method)
        check_error(gone, 404, "response_not_found", None)


async def test_nothing_is_kept_unless_the_organisation_says_so(world: World, gateway: RunningGateway) -> None:
    answer = await post(world, gateway)
    assert answer.json()["store"] is False
    check_error(await get(gateway, f"{PATH}/{answer.json()['id']}", world.key), 404, "response_not_found", None)
    check_error(await post(world, gateway, store=True), 400, "unsupported_parameter", "store")
    refused = await post(world, gateway, previous_response_id="resp_1")
    check_error(refused, 400, "unsupported_parameter", "previous_response_id")
    assert not gateway.gateway.settings.content_path.exists()
    world.control.change_key(world.key, content_kept_for_s=DAY_S)
    await until(lambda: gateway.gateway.keys.generation > 0)
    unkept = await post(world, gateway, store=False)
    assert unkept.json()["store"] is False
    assert not gateway.gateway.settings.content_path.exists()


async def test_another_projects_or_tenants_id_is_not_found(keeping: World, gateway: RunningGateway) -> None:
    told = (await post(keeping, gateway)).json()
    beside = new_key_of(keeping, same_project=True)
    assert (await get(gateway, f"{PATH}/{told['id']}", beside)).json() == told
    for other in (new_key_of(keeping), new_key_of(keeping, same_tenant=False)):
        for method in ("GET", "DELETE"):
            answer = await get(gateway, f"{PATH}/{told['id']}", other, method)
            check_error(answer, 404, "response_not_found", None)
        check_error(await get(gateway, f"{PATH}/{told['id']}/input_items", other), 404, "response_not_found", None)
        headers = {"content-type": "application/json", **auth(other)}
        body = json.dumps(body_of(previous_response_id=told["id"]))
        answer = await gateway.http.post(PATH, content=body, headers=headers)
        check_error(answer, 404, "response_not_found", "previous_response_id")
    assert (await get(gateway, f"{PATH}/{told['id']}", keeping.key)).json() == told
    await keeping.events(1)


async def test_what_is_kept_in_another_region_is_named_and_not_brought(keeping: World) -> None:
    async with (
        keeping.gateway() as paris,
        keeping.gateway("de-fra", "gw-2", content_dir=str(keeping.folder / "de")) as fra,
    ):
        told = (await post(keeping, paris)).json()
        assert told["id"].endswith("_fr-par")
        there = await get(fra, f"{PATH}/{told['id']}", keeping.key)
        assert (there.status_code, there.json()["error"]["code"]) == (421, "wrong_region")
        assert there.headers["location"] == f"{paris.url}{PATH}/{told['id']}"
        goes_on = await post(keeping, fra, previous_response_id=told["id"])
        assert goes_on.status_code == 421
        assert goes_on.headers["location"] == paris.url + PATH
        # Whoever may not go there is not told that it is there.
        german = new_key_of(keeping, same_project=True, regions=("de-fra",))
        assert (await get(fra, f"{PATH}/{told['id']}", german)).status_code == 404
        assert not (keeping.folder / "de").exists()
        for bad in ("resp_1", told["id"].replace("_fr-par", "_nowhere"), told["id"] + "x", "%00", "resp_%C3%A9"):
            assert (await get(fra, f"{PATH}/{bad}", keeping.key)).status_code == 404


async def test_narrowed_residency_deletes_it(keeping: World, gateway: RunningGateway) -> None:
    told = (await post(keeping, gateway)).json()
    keeping.control.change_key(keeping.key, regions=("de-fra",))
    store = gateway.gateway.content

    async def is_gone() -> bool:
        return await store.owners() == []

    await until_true(is_gone)
    keeping.control.change_key(keeping.key, regions=("fr-par", "de-fra"))
    await until(lambda: gateway.gateway.keys.generation > 1)
    answer = await get(gateway, f"{PATH}/{told['id']}", keeping.key)
    check_error(answer, 404, "response_not_found", None)


async def test_a_shorter_retention_holds_for_what_is_there(keeping: World, gateway: RunningGateway) -> None:
    await post(keeping, gateway)
    keeping.control.change_key(keeping.key, content_kept_for_s=0.0)
    store = gateway.gateway.content

    async def is_gone() -> bool:
        return await store.owners() == []

    await until_true(is_gone)


@pytest.mark.parametrize("stream", [False, True])
async def test_an_answer_that_cannot_be_kept_is_an_error_and_not_a_whole_charge(
    keeping: World, gateway: RunningGateway, stream: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    objects = gateway.gateway.content.objects
    bounds = objects._bounds
    keeping.engine.script.first_delay_s = 0.2
    task = asyncio.create_task(post(keeping, gateway, stream=stream))
    await until(lambda: bool(keeping.engine.generations()))
    monkeypatch.setattr(objects, "_bounds", bounds._replace(min_free=2**60))
    answer = await task
    if stream:
        failed = events_of(answer)[-1]
        assert failed["type"] == "response.failed"
    else:
        check_error(answer, 503, "content_store_full", None)
    [event] = await keeping.events(1)
    assert event.outcome is Outcome.FAILED
    assert (event.amount_nano > 0) is stream


async def test_other_methods_and_paths_are_refused(keeping: World, gateway: RunningGateway) -> None:
    told = (await post(keeping, gateway)).json()
    path = f"{PATH}/{told['id']}"
    assert (await get(gateway, path, keeping.key, "POST")).status_code == 405
    assert (await get(gateway, PATH, keeping.key)).status_code == 405
    assert (await get(gateway, path + "/cancel", keeping.key, "POST")).status_code == 404
    assert (await get(gateway, PATH + "x", keeping.key)).status_code == 404
    check_error(await get(gateway, path + "?include=a", keeping.key), 400, "unknown_parameter", "include")
    assert (await get(gateway, path, "ck_nobody")).status_code == 401


async def until_true(condition: Any, within_s: float = 5.0) -> None:
    async with asyncio.timeout(within_s):
        while not await condition():  # noqa: ASYNC110 -- only asking again can tell
            await asyncio.sleep(0.02)

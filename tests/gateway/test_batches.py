"""`/v1/batches`: the `openai` package works unchanged; each line is a request like any other, at the batch price."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

import httpx
import msgspec
import pytest
from openai import AsyncOpenAI, ConflictError, NotFoundError
from openai.types import Batch

from chappe_kernel.ids import new_id
from chappe_kernel.rating import Outcome, Price, charge, discounted
from chappe_kernel.wire.control import RateLimit
from chappe_kernel.wire.engine import EmbedRequest, EngineError, GenerateRequest
from tests.gateway.fake_control import CHAT, ELSEWHERE_ONLY, EMBEDDINGS, PRICE
from tests.gateway.openai_document import check, document_path
from tests.gateway.test_answers_shape import check_error
from tests.gateway.test_files import jsonl, line, upload
from tests.gateway.test_kept_responses import keeping, new_key_of, until_true
from tests.gateway.world import RunningGateway, World, auth

__all__ = ["keeping"]
PATH = "/v1/batches"


async def begin(client: AsyncOpenAI, lines: list[dict[str, Any]], **fields: Any) -> Batch:
    source = await client.files.create(file=("in.jsonl", jsonl(lines)), purpose="batch")
    asked: dict[str, Any] = {"endpoint": "/v1/chat/completions", "completion_window": "24h", **fields}
    return await client.batches.create(input_file_id=source.id, **asked)


async def until_over(client: AsyncOpenAI, batch: Batch, within_s: float = 15.0) -> Batch:
    async with asyncio.timeout(within_s):
        while batch.status not in ("completed", "failed", "cancelled", "expired"):
            await asyncio.sleep(0.02)
            batch = await client.batches.retrieve(batch.id)
    return batch


async def lines_of(client: AsyncOpenAI, file_id: str | None) -> list[dict[str, Any]]:
    assert file_id is not None
    return [json.loads(text) for text in (await client.files.content(file_id)).text.splitlines()]


async def test_the_package_runs_a_batch_from_its_file_to_its_answers(keeping: World, gateway: RunningGateway) -> None:
    lines = [line(number, max_tokens=3 + number) for number in range(12)]
    lines.append(line(12, model="no-such-model"))
    lines.append(line(13, temperature=9))
    # What is kept here is run here: a line is not sent on.
    lines.append(line(14, model=ELSEWHERE_ONLY))
    async with keeping.openai(gateway.url) as client:
        batch = await begin(client, lines, metadata={"mine": "yes"})
        assert batch.status in ("validating", "in_progress")
        done = await until_over(client, batch)
        assert done.status == "completed", done
        assert done.request_counts is not None
        assert done.request_counts.to_dict() == {"total": 15, "completed": 12, "failed": 3}
        assert (done.metadata, done.endpoint) == ({"mine": "yes"}, "/v1/chat/completions")
        assert done.expires_at == done.created_at + 24 * 3600
        answers = await lines_of(client, done.output_file_id)
        errors = await lines_of(client, done.error_file_id)
        assert [one.id async for one in client.batches.list(limit=1)] == [batch.id]
        output = await client.files.retrieve(done.output_file_id or "")
        assert output.purpose == "batch_output"
        if document_path().exists():
            check("Batch", done.to_dict())
            check("OpenAIFile", output.to_dict())
        with pytest.raises(ConflictError):
            await client.batches.cancel(batch.id)
    assert [answer["custom_id"] for answer in answers] == [f"line-{number}" for number in range(12)]
    assert {answer["response"]["status_code"] for answer in answers} == {200}
    assert {answer["error"] for answer in answers} == {None}
    assert [error["custom_id"] for error in errors] == ["line-12", "line-13", "line-14"]
    assert [error["response"]["status_code"] for error in errors] == [404, 400, 404]
    assert errors[1]["response"]["body"]["error"]["param"] == "temperature"
    events = await keeping.events(12)
    told = {answer["response"]["request_id"] for answer in answers}
    assert len(told) == 12
    assert {event.outcome for event in events} == {Outcome.COMPLETED}
    assert len({event.idempotency_digest for event in events}) == 12
    assert None not in {event.idempotency_digest for event in events}


async def test_every_endpoint_is_served(keeping: World, gateway: RunningGateway) -> None:
    asked: dict[str, dict[str, Any]] = {
        "/v1/embeddings": {"model": EMBEDDINGS, "input": "a"},
        "/v1/completions": {"model": CHAT, "prompt": "once"},
        "/v1/responses": {"model": CHAT, "input": "once", "store": False},
    }
    async with keeping.openai(gateway.url) as client:
        for endpoint, body in asked.items():
            lines = [{"custom_id": "one", "method": "POST", "url": endpoint, "body": body}]
            done = await until_over(client, await begin(client, lines, endpoint=endpoint))
            [answer] = await lines_of(client, done.output_file_id)
            assert answer["response"]["body"]["object"] in ("list", "text_completion", "response")
    kinds = [GenerateRequest if "/generate" in seen.path else EmbedRequest for seen in keeping.engine.generations()]
    assert set(kinds) == {GenerateRequest, EmbedRequest}


async def test_responses_of_a_batch_are_kept_and_gone_on_from(keeping: World, gateway: RunningGateway) -> None:
    def asked(number: int, **body: Any) -> dict[str, Any]:
        of = {"model": CHAT, "input": f"question {number}", **body}
        return {"custom_id": f"line-{number}", "method": "POST", "url": "/v1/responses", "body": of}

    async with keeping.openai(gateway.url) as client:
        before = await client.responses.create(model=CHAT, input="at first")
        lines = [
            asked(0, metadata={"mine": "yes"}),
            asked(1, store=False),
            asked(2, previous_response_id=before.id),
            asked(3, previous_response_id="resp_1"),
            asked(4, background=True),
            asked(5, messages=[]),
        ]
        done = await until_over(client, await begin(client, lines, endpoint="/v1/responses"))
        assert (done.status, done.endpoint) == ("completed", "/v1/responses")
        if document_path().exists():
            check("Batch", done.to_dict())
        answers = {answer["custom_id"]: answer for answer in await lines_of(client, done.output_file_id)}
        errors = {error["custom_id"]: error["response"] for error in await lines_of(client, done.error_file_id)}
        told = {name: answer["response"]["body"] for name, answer in answers.items()}
        assert set(told) == {"line-0", "line-1", "line-2"}
        for name in ("line-0", "line-2"):
            again = await client.responses.retrieve(told[name]["id"])
            assert again.to_dict() == told[name]
        assert told["line-0"]["metadata"] == {"mine": "yes"}
        assert (told["line-0"]["store"], told["line-1"]["store"]) == (True, False)
        with pytest.raises(NotFoundError):
            await client.responses.retrieve(told["line-1"]["id"])
        follows = await client.responses.create(
            model=CHAT, input="and then?", previous_response_id=told["line-2"]["id"]
        )
    last = msgspec.json.decode(keeping.engine.generations()[-1].body, type=GenerateRequest)
    assert [message.content for message in last.messages] == [
        "at first",
        " tok" * 8,
        "question 2",
        " tok" * 8,
        "and then?",
    ]
    assert follows.previous_response_id == told["line-2"]["id"]
    assert {name: (error["status_code"], error["body"]["error"]["param"]) for name, error in errors.items()} == {
        "line-3": (404, "previous_response_id"),
        "line-4": (400, "background"),
        "line-5": (400, "messages"),
    }
    events = await keeping.events(5)
    assert len({event.idempotency_digest for event in events} - {None}) == 3


async def test_lines_are_held_and_charged_at_the_batch_price_to_the_nano(keeping: World) -> None:
    batch_price = discounted(Price(61, 15, 211, 7), 5000)
    assert batch_price == Price(31, 8, 106, 4)
    keeping.control.prices[CHAT] = Price(61, 15, 211, 7)
    keeping.control.batch_prices[CHAT] = batch_price
    async with keeping.gateway() as gateway, keeping.openai(gateway.url) as client:
        await client.chat.completions.create(model=CHAT, messages=[{"role": "user", "content": "question 0"}])
        done = await until_over(client, await begin(client, [line()]))
        assert done.status == "completed"
    interactive, batched = sorted(await keeping.events(2), key=lambda event: event.started_at)
    assert interactive.counts == batched.counts
    assert interactive.amount_nano == charge(Price(61, 15, 211, 7), Outcome.COMPLETED, interactive.counts)
    assert batched.amount_nano == charge(batch_price, Outcome.COMPLETED, batched.counts)
    assert batched.amount_nano < interactive.amount_nano
    assert batched.hold_nano < interactive.hold_nano
    assert batched.price_version != interactive.price_version


async def test_what_a_tenant_agreed_on_holds_for_its_batches_too(keeping: World, gateway: RunningGateway) -> None:
    async with keeping.openai(gateway.url) as client:
        assert (await until_over(client, await begin(client, [line()]))).status == "completed"
    [event] = await keeping.events(1)
    # There is no batch price here.
    assert event.amount_nano == charge(PRICE, Outcome.COMPLETED, event.counts)


async def test_a_bad_input_fails_the_batch_and_names_its_lines(keeping: World, gateway: RunningGateway) -> None:
    lines = [
        line(0),
        line(0),
        {**line(2), "method": "GET"},
        {**line(3), "url": "/v1/embeddings"},
        {**line(4), "custom_id": ""},
        {"custom_id": "x"},
        line(6, stream=True),
        {**line(7), "body": []},
    ]
    async with keeping.openai(gateway.url) as client:
        failed = await until_over(client, await begin(client, lines))
        assert failed.status == "failed"
        assert failed.errors is not None and failed.errors.data is not None
        assert [(error.line, error.code) for error in failed.errors.data] == [
            (2, "duplicate_custom_id"),
            (3, "invalid_value"),
            (4, "mismatched_url"),
            (5, "invalid_value"),
            (6, "invalid_request"),
            (7, "unsupported_parameter"),
            (8, "invalid_request"),
        ]
        if document_path().exists():
            check("Batch", failed.to_dict())
        assert (failed.output_file_id, failed.error_file_id) == (None, None)
    assert keeping.engine.generations() == []


async def post(world: World, gateway: RunningGateway, *, key: str | None = None, **fields: Any) -> httpx.Response:
    return await gateway.http.post(PATH, json=fields, headers=auth(key or world.key))


async def test_what_is_asked_is_checked(keeping: World, gateway: RunningGateway) -> None:
    source = (await upload(keeping, gateway, jsonl([line()]))).json()["id"]
    good = {"input_file_id": source, "endpoint": "/v1/chat/completions", "completion_window": "24h"}
    bad: list[tuple[dict[str, Any], int, str, str | None]] = [
        ({"endpoint": "/v1/messages"}, 400, "invalid_value", "endpoint"),
        ({"completion_window": "1h"}, 400, "invalid_value", "completion_window"),
        ({"input_file_id": "file_1"}, 404, "file_not_found", "input_file_id"),
        ({"input_file_id": source.replace("_fr", "_xx")}, 404, "file_not_found", "input_file_id"),
        ({"metadata": {"a": "x" * 513}}, 400, "invalid_value", "metadata"),
        ({"output_expires_after": {"seconds": 1}}, 400, "unsupported_parameter", "output_expires_after"),
        ({"other": 1}, 400, "unknown_parameter", "other"),
    ]
    for fields, status, code, param in bad:
        check_error(await post(keeping, gateway, **{**good, **fields}), status, code, param)
    made = await post(keeping, gateway, **good)
    batch_id = made.json()["id"]
    for other in (new_key_of(keeping), new_key_of(keeping, same_tenant=False)):
        check_error(await post(keeping, gateway, key=other, **good), 404, "file_not_found", "input_file_id")
        for method, path in (("GET", ""), ("POST", "/cancel")):
            answer = await gateway.http.request(method, f"{PATH}/{batch_id}{path}", headers=auth(other))
            check_error(answer, 404, "batch_not_found")
        assert (await gateway.http.get(PATH, headers=auth(other))).json()["data"] == []


async def test_a_key_for_repeats_is_refused_rather_than_ignored(keeping: World, gateway: RunningGateway) -> None:
    source = (await upload(keeping, gateway, jsonl([line()]))).json()["id"]
    fields = {"input_file_id": source, "endpoint": "/v1/chat/completions", "completion_window": "24h"}
    headers = {**auth(keeping.key), "idempotency-key": "once"}
    refused = await gateway.http.post(PATH, json=fields, headers=headers)
    check_error(refused, 400, "unsupported_parameter", "Idempotency-Key")
    files = {"file": ("a.jsonl", jsonl([line()]))}
    refused = await gateway.http.post("/v1/files", data={"purpose": "batch"}, files=files, headers=headers)
    check_error(refused, 400, "unsupported_parameter", "Idempotency-Key")
    assert (await gateway.http.get(PATH, headers=headers)).json()["data"] == []
    assert len((await gateway.http.get("/v1/files", headers=headers)).json()["data"]) == 1


async def test_lines_wait_for_limits_and_busy_engines(keeping: World, gateway: RunningGateway) -> None:
    keeping.engine.script.refuse = (503, EngineError("overloaded", "busy"))
    async with keeping.openai(gateway.url) as client:
        batch = await begin(client, [line(number) for number in range(3)])
        await until_true(_seen(keeping, 3))
        keeping.engine.script.refuse = None
        done = await until_over(client, batch)
        assert done.request_counts is not None and done.request_counts.completed == 3
    assert {event.outcome for event in await _charged(keeping, 3)} == {Outcome.COMPLETED}


async def test_a_tenant_without_money_or_right_gets_errors_line_by_line(keeping: World) -> None:
    keeping.engine.script.held = asyncio.Event()
    async with keeping.gateway(batch_lines_at_once=1) as gateway, keeping.openai(gateway.url) as client:
        batch = await begin(client, [line(number) for number in range(3)])
        await until_true(_seen(keeping, 1))
        facts = keeping.control.keys[keeping.key]
        keeping.control.change_key(keeping.key, models=(EMBEDDINGS,))
        done = await until_over(client, batch)
        errors = await lines_of(client, done.error_file_id)
        assert [error["response"]["status_code"] for error in errors] == [403, 404, 404]
        keeping.engine.script.held.set()
        keeping.control.change_key(keeping.key, models=facts.models)
        keeping.control.funds[keeping.tenant] = 0
    poor = keeping.control.new_key(keeping.control.new_tenant(0))
    keeping.control.change_key(poor, content_kept_for_s=1000.0)
    async with keeping.gateway() as gateway, keeping.openai(gateway.url, poor) as client:
        done = await until_over(client, await begin(client, [line()]))
        [error] = await lines_of(client, done.error_file_id)
        assert error["response"]["status_code"] == 402


async def test_residency_is_decided_anew_for_each_line(keeping: World) -> None:
    keeping.engine.script.held = asyncio.Event()
    # The project may still be here: what is kept stays.
    beside = new_key_of(keeping, same_project=True)
    async with keeping.gateway(batch_lines_at_once=1) as gateway, keeping.openai(gateway.url, beside) as client:
        async with keeping.openai(gateway.url) as narrowed:
            batch = await begin(narrowed, [line(number) for number in range(3)])
        await until_true(_seen(keeping, 1))
        keeping.control.change_key(keeping.key, regions=("de-fra",))
        await until_true(_is_cut(gateway))
        keeping.engine.script.held.set()
        done = await until_over(client, batch)
        errors = await lines_of(client, done.error_file_id)
    assert [error["response"]["status_code"] for error in errors] == [403, 421, 421]
    assert len(keeping.engine.generations()) == 1


async def test_a_cancelled_batch_lets_its_running_lines_finish_and_keeps_them(keeping: World) -> None:
    keeping.engine.script.held = asyncio.Event()
    async with keeping.gateway(batch_lines_at_once=2) as gateway, keeping.openai(gateway.url) as client:
        batch = await begin(client, [line(number) for number in range(6)])
        await until_true(_seen(keeping, 2))
        assert (await client.batches.cancel(batch.id)).status == "cancelling"
        keeping.engine.script.held.set()
        done = await until_over(client, batch)
        assert done.status == "cancelled"
        assert done.request_counts is not None
        assert done.request_counts.to_dict() == {"total": 6, "completed": 2, "failed": 0}
        assert len(await lines_of(client, done.output_file_id)) == 2
    assert len(await keeping.events(2)) == 2


@pytest.mark.parametrize("endpoint", ["/v1/chat/completions", "/v1/responses"])
async def test_another_gateway_goes_on_where_one_was_stopped(keeping: World, endpoint: str) -> None:
    keeping.engine.script.delay_s = 0.02
    lines = [line(number, max_tokens=8) for number in range(30)]
    if endpoint == "/v1/responses":
        lines = [{**one, "url": endpoint, "body": {"model": CHAT, "input": one["custom_id"]}} for one in lines]
    async with keeping.gateway(batch_lines_at_once=4) as first, keeping.openai(first.url) as client:
        batch = await begin(client, lines, endpoint=endpoint)
        await until_true(_seen(keeping, 8))
    keeping.engine.script.delay_s = 0.0
    async with keeping.gateway(gateway_id="gw-2") as second, keeping.openai(second.url) as client:
        done = await until_over(client, batch)
        assert done.request_counts is not None and done.request_counts.completed == 30
        answers = await lines_of(client, done.output_file_id)
    assert [answer["custom_id"] for answer in answers] == [one["custom_id"] for one in lines]
    charged = await _charged(keeping, 30)
    assert len({event.idempotency_digest for event in charged}) == 30
    told = {answer["response"]["request_id"] for answer in answers}
    assert len(told) == 30


async def test_batches_run_behind_everybody_else(keeping: World) -> None:
    keeping.control.capacities[CHAT] = 4
    keeping.engine.script.held = asyncio.Event()
    async with keeping.gateway(batch_lines_at_once=16) as gateway, keeping.openai(gateway.url) as client:
        await gateway.gateway.turns.poll()
        batch = await begin(client, [line(number) for number in range(12)])
        # A quarter of the places stays free for others.
        await until_true(_seen(keeping, 3))
        asked = asyncio.create_task(
            client.chat.completions.create(model=CHAT, messages=[{"role": "user", "content": "urgent"}])
        )
        await until_true(_seen(keeping, 4))
        assert b"urgent" in keeping.engine.generations()[3].body
        keeping.engine.script.held.set()
        await asked
        assert (await until_over(client, batch)).status == "completed"


async def test_a_full_store_fails_the_batch_and_costs_nothing(keeping: World) -> None:
    async with keeping.gateway(content_per_tenant_bytes=40_000) as gateway, keeping.openai(gateway.url) as client:
        done = await until_over(client, await begin(client, [line()]))
        assert done.status == "failed"
        assert done.errors is not None and done.errors.data is not None
        assert done.errors.data[0].code == "content_limit_reached"
    assert keeping.engine.generations() == []


async def test_a_browser_token_makes_no_batch(keeping: World, gateway: RunningGateway) -> None:
    source = (await upload(keeping, gateway, jsonl([line()]))).json()["id"]
    token = keeping.control.new_browser_token(keeping.key)
    fields = {"input_file_id": source, "endpoint": "/v1/chat/completions", "completion_window": "24h"}
    headers = {**auth(token), "origin": keeping.control.portal_origin}
    answer = await gateway.http.post(PATH, json=fields, headers=headers)
    check_error(answer, 403, "wrong_key_kind")


async def test_lines_keep_to_the_keys_limits(keeping: World, gateway: RunningGateway) -> None:
    keeping.control.set_quotas(keeping.key, RateLimit(f"key:{new_id()}", requests_per_minute=5))
    async with keeping.openai(gateway.url) as client:
        await begin(client, [line(number) for number in range(10)])
        await asyncio.sleep(0.5)
    assert len(keeping.engine.generations()) <= 5


def _seen(world: World, count: int) -> Callable[[], Any]:
    async def is_seen() -> bool:
        return len(world.engine.generations()) >= count

    return is_seen


def _is_cut(gateway: RunningGateway) -> Callable[[], Any]:
    """What ran has been told to end."""

    async def is_cut() -> bool:
        return all(call.cut for call in gateway.gateway.live)

    return is_cut


async def _charged(world: World, count: int) -> list[Any]:
    def charged() -> list[Any]:
        return [event for event in world.control.events.values() if event.amount_nano]

    async def are_there() -> bool:
        return len(charged()) >= count

    await until_true(are_there)
    assert len(charged()) == count
    return charged()

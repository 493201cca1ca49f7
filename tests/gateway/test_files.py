"""`/v1/files`: the `openai` package works unchanged; files are bounded, checked, and kept for one project."""

import asyncio
import json
from functools import partial
from typing import Any

import httpx
import pytest
from openai import APIStatusError, AsyncOpenAI, NotFoundError

from chappe_gateway.content.store import PIECE_BYTES
from chappe_gateway.files.lines import LineSplitter
from tests.gateway.fake_control import CHAT
from tests.gateway.openai_document import check, document_path
from tests.gateway.test_answers_shape import check_error
from tests.gateway.test_kept_responses import DAY_S, keeping, new_key_of, until_true
from tests.gateway.world import RawClient, RunningGateway, World, auth

__all__ = ["keeping"]
PATH = "/v1/files"


def line(number: int = 0, **body: Any) -> dict[str, Any]:
    asked = {"model": CHAT, "messages": [{"role": "user", "content": f"question {number}"}], **body}
    return {"custom_id": f"line-{number}", "method": "POST", "url": "/v1/chat/completions", "body": asked}


def jsonl(lines: list[dict[str, Any]]) -> bytes:
    return b"\n".join(json.dumps(one).encode() for one in lines)


async def upload(
    world: World, gateway: RunningGateway, content: bytes, *, key: str | None = None, **fields: str
) -> httpx.Response:
    data = {"purpose": "batch", **fields}
    files = {"file": ("in.jsonl", content)}
    return await gateway.http.post(PATH, data=data, files=files, headers=auth(key or world.key))


async def test_the_package_uploads_lists_reads_and_deletes(keeping: World, gateway: RunningGateway) -> None:
    content = jsonl([line(number) for number in range(5)])
    async with keeping.openai(gateway.url) as client:
        first = await client.files.create(file=("été.jsonl", content), purpose="batch")
        second = await client.files.create(
            file=("b.jsonl", content + b"\n"),
            purpose="batch",
            expires_after={"anchor": "created_at", "seconds": 3600},
        )
        assert (first.filename, first.bytes, first.purpose) == ("été.jsonl", len(content), "batch")
        assert first.id.startswith("file_") and first.id.endswith("_fr-par")
        assert second.expires_at == second.created_at + 3600
        assert first.expires_at == first.created_at + DAY_S
        if document_path().exists():
            check("OpenAIFile", first.to_dict())
        assert (await client.files.retrieve(first.id)).to_dict() == first.to_dict()
        assert (await client.files.content(first.id)).content == content
        assert [file.id async for file in client.files.list(limit=1)] == [second.id, first.id]
        assert [file.id async for file in client.files.list(order="asc")] == [first.id, second.id]
        assert [file.id async for file in client.files.list(purpose="batch_output")] == []
        assert (await client.files.delete(first.id)).deleted
        with pytest.raises(NotFoundError):
            await client.files.content(first.id)
        assert [file.id async for file in client.files.list()] == [second.id]


async def test_a_page_of_one_purpose_is_whole(keeping: World, gateway: RunningGateway) -> None:
    """Files of another purpose take no place in it, and hide nothing behind them."""
    lines = [line()]
    async with keeping.openai(gateway.url) as client:
        wanted = [(await client.files.create(file=("a.jsonl", jsonl(lines)), purpose="batch")).id for _ in range(3)]
        for _ in range(3):
            batch = await client.batches.create(
                input_file_id=wanted[0], endpoint="/v1/chat/completions", completion_window="24h"
            )
            await until_true(partial(_is_completed, client, batch.id))
        assert [one.id async for one in client.files.list(purpose="batch", limit=2)] == wanted[::-1]
        outputs = [one async for one in client.files.list(purpose="batch_output", limit=2, order="asc")]
        assert len(outputs) == 3
        assert {one.purpose for one in outputs} == {"batch_output"}
        assert len([one async for one in client.files.list(limit=4)]) == 6


async def _is_completed(client: AsyncOpenAI, batch_id: str) -> bool:
    return (await client.batches.retrieve(batch_id)).status == "completed"


async def test_a_file_of_many_pieces_comes_back_as_it_was(keeping: World, gateway: RunningGateway) -> None:
    content = jsonl([line(number, user="x" * 1000) for number in range(1000)])
    assert len(content) > 3 * PIECE_BYTES
    made = (await upload(keeping, gateway, content)).json()
    answer = await gateway.http.get(f"{PATH}/{made['id']}/content", headers=auth(keeping.key))
    assert answer.content == content
    assert answer.headers["content-disposition"] == "attachment"


async def test_what_is_no_batchs_input_is_refused_and_leaves_nothing(keeping: World) -> None:
    async with keeping.gateway(max_body_bytes=5000, max_file_bytes=20_000) as gateway:
        good = jsonl([line()])
        bad: list[tuple[bytes, dict[str, str], int, str, str | None]] = [
            (b"", {}, 400, "empty_file", "file"),
            (b"\n \r\n", {}, 400, "empty_file", "file"),
            (b"{}\n[1]", {}, 400, "invalid_json_line", "file"),
            (b'{"a": 1}\n{"b":', {}, 400, "invalid_json_line", "file"),
            (b'{"a": "\xff"}', {}, 400, "invalid_json_line", "file"),
            (b"[" * 4000, {}, 400, "invalid_json_line", "file"),
            (b'{"a": "' + b"x" * 6000 + b'"}', {}, 413, "request_too_large", "file"),
            (b'{"a": 1}\n' * 3000, {}, 413, "request_too_large", "file"),
            (b'{"a": 1}\n' * 20_000, {}, 413, "request_too_large", None),
            (good, {"purpose": "fine-tune"}, 400, "invalid_value", "purpose"),
            (good, {"other": "x"}, 400, "unknown_parameter", "other"),
            (good, {"expires_after[anchor]": "now"}, 400, "invalid_value", "expires_after.anchor"),
            (good, {"expires_after[anchor]": "created_at"}, 400, "invalid_value", "expires_after.seconds"),
            (good, {"purpose": "x" * 2000}, 400, "invalid_value", "purpose"),
        ]
        for content, fields, status, code, param in bad:
            check_error(await upload(keeping, gateway, content, **fields), status, code, param)
        headers = auth(keeping.key)
        field, kind_of_form = b"--b\r\ncontent-disposition: form-data; name=", "multipart/form-data; boundary=b"
        forms: list[tuple[bytes, str]] = [
            (b"{}", "application/json"),
            (b"x", "multipart/form-data"),
            (b"x", kind_of_form),
            (field + b"file\r\n\r\n{}", kind_of_form),
            (field + b"purpose\r\n\r\nbatch\r\n--b--\r\n", kind_of_form),
        ]
        for body, kind in forms:
            answer = await gateway.http.post(PATH, content=body, headers={**headers, "content-type": kind})
            assert answer.status_code in (400, 415), answer.text
        store = gateway.gateway.content

        async def is_empty() -> bool:
            return await store.owners() == []

        await until_true(is_empty)


async def test_a_client_that_leaves_in_the_middle_leaves_nothing(keeping: World, gateway: RunningGateway) -> None:
    async with RawClient.to(gateway.port) as client:
        head = (
            f"POST {PATH} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {keeping.key}\r\ncontent-length: 900000\r\n"
            "content-type: multipart/form-data; boundary=b\r\n\r\n--b\r\n"
            'content-disposition: form-data; name="file"; filename="a"\r\n\r\n'
        )
        client.writer.write(head.encode() + b'{"a": 1}\n' * 50_000)
        await client.writer.drain()
        store = gateway.gateway.content

        async def is_there() -> bool:
            return await store.owners() != []

        await until_true(is_there)

    async def is_gone() -> bool:
        return await store.owners() == []

    await until_true(is_gone)


async def test_files_belong_to_their_project_and_region(keeping: World, gateway: RunningGateway) -> None:
    made = (await upload(keeping, gateway, jsonl([line()]))).json()
    for other in (new_key_of(keeping), new_key_of(keeping, same_tenant=False)):
        for method, path in (("GET", ""), ("DELETE", ""), ("GET", "/content")):
            answer = await gateway.http.request(method, f"{PATH}/{made['id']}{path}", headers=auth(other))
            check_error(answer, 404, "file_not_found")
        assert (await gateway.http.get(PATH, headers=auth(other))).json()["data"] == []
    async with keeping.gateway("de-fra", "gw-2", content_dir=str(keeping.folder / "de")) as fra:
        there = await fra.http.get(f"{PATH}/{made['id']}/content", headers=auth(keeping.key))
        assert there.status_code == 421
        assert there.headers["location"].startswith(f"{gateway.url}{PATH}/{made['id']}")
    assert (await gateway.http.get(f"{PATH}/{made['id']}", headers=auth(keeping.key))).json() == made


async def test_who_lets_nothing_be_kept_has_no_files(world: World, gateway: RunningGateway) -> None:
    check_error(await upload(world, gateway, jsonl([line()])), 403, "content_not_kept")
    assert (await gateway.http.get(PATH, headers=auth(world.key))).json()["data"] == []
    assert not gateway.gateway.settings.content_path.exists()


async def test_a_tenant_that_has_kept_as_much_as_it_may_is_told_so(keeping: World) -> None:
    async with keeping.gateway(content_per_tenant_bytes=600_000) as gateway:
        content = b'{"a": 1}\n' * 40_000
        assert (await upload(keeping, gateway, content)).status_code == 200
        check_error(await upload(keeping, gateway, content), 413, "content_limit_reached")
        async with keeping.openai(gateway.url) as client:
            with pytest.raises(APIStatusError):
                await client.files.create(file=("a", content), purpose="batch")


def test_lines_are_the_same_however_they_are_cut() -> None:
    data = b"one\n\ntwo\r\n three \nfour"
    for size in range(1, len(data) + 1):
        splitter = LineSplitter(100)
        lines = [line for at in range(0, len(data), size) for line in splitter.feed(data[at : at + size])]
        assert [*lines, *splitter.end()] == [b"one", b"two", b"three", b"four"]


async def test_uploads_at_once_are_bounded(keeping: World, gateway: RunningGateway) -> None:
    uploads = gateway.gateway.content.uploads
    async with asyncio.TaskGroup() as group:
        while not uploads.locked():
            await group.create_task(uploads.acquire())
    check_error(await upload(keeping, gateway, jsonl([line()])), 503, "overloaded")

"""The whole business through the front door: real clusters, real models, the `openai` package, exact money."""

import asyncio
import base64
import contextlib
import json
import os
import re
import signal
import socket
import struct
import time
from collections.abc import Callable, Iterator
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import asyncpg
import httpx
import openai
import psutil
import pytest

from tests.instance import Instance

T = TypeVar("T")
REGIONS = ("fr-par", "de-fra")
MARK = "zq7-marked-prompt-telegraph"


def eventually(read: Callable[[], T], accept: Callable[[T], bool], within_s: float) -> T:
    """The first value that is accepted. Fails with the last one seen."""
    deadline = time.monotonic() + within_s
    value = read()
    while not accept(value):
        assert time.monotonic() < deadline, f"still {value!r} after {within_s} s"
        time.sleep(0.1)
        value = read()
    return value


def available(instance: Instance) -> Decimal:
    return Decimal(instance.management("/balance")["available"])


def events(instance: Instance) -> dict[str, dict[str, Any]]:
    """Every usage event of the demo tenant by its request id, through all pages."""
    found: dict[str, dict[str, Any]] = {}
    cursor: str | None = ""
    while cursor is not None:
        page = instance.management("/usage/events", limit=100, **({"cursor": cursor} if cursor else {}))
        found |= {item["request_id"]: item for item in page["items"]}
        cursor = page["next_cursor"]
    return found


def event_of(instance: Instance, request_id: str, within_s: float = 10) -> dict[str, Any]:
    return eventually(lambda: events(instance), lambda found: request_id in found, within_s)[request_id]


def ask(instance: Instance, region: str, text: str, **options: Any) -> tuple[str, str, Any]:
    """One streamed chat: the answer, the request id, the usage that the stream ended with."""
    client = instance.openai(region)
    with client.chat.completions.with_streaming_response.create(
        model=instance.chat_model,
        messages=[{"role": "user", "content": text}],
        stream=True,
        stream_options={"include_usage": True},
        temperature=0,
        **options,
    ) as response:
        assert response.headers["x-chappe-region"] == region
        request_id = response.headers["x-request-id"]
        chunks = list(response.parse())
    usage = [chunk.usage for chunk in chunks if chunk.usage is not None]
    assert len(usage) == 1
    assert chunks[-1].choices == []
    return "".join(c.choices[0].delta.content or "" for c in chunks if c.choices), request_id, usage[0]


def test_run_json_is_the_contract_and_private(instance: Instance) -> None:
    path = instance.state_dir / "run.json"
    assert path.stat().st_mode & 0o777 == 0o600
    run = instance.run
    assert run["version"] == 1
    assert [(r["name"], r["jurisdiction"]) for r in run["regions"]] == [("fr-par", "FR"), ("de-fra", "DE")]
    assert run["models"] == {"chat": "smollm2-135m-instruct", "embeddings": "multilingual-e5-small"}
    assert set(run["demo"]) == {
        *("tenant", "api_key", "fr_only_api_key", "management_key", "member", "operator"),
    }
    assert re.fullmatch(r"ten_[0-9a-z]{26}", run["demo"]["tenant"])
    for name in ("api_key", "fr_only_api_key", "management_key"):
        assert run["demo"][name].startswith("ck_")
    for person in ("member", "operator"):
        assert set(run["demo"][person]) == {"email", "password"}


def test_demo_tenant_has_the_welcome_credit_less_what_its_requests_cost(instance: Instance) -> None:
    """Other suites may have spent some of it already."""
    balance = instance.management("/balance")
    spent = sum((Decimal(event["amount"]) for event in events(instance).values()), Decimal(0))
    assert Decimal(balance["available"]) + spent == Decimal("10.000000000")
    assert (balance["currency"], balance["credit_limit"]) == ("EUR", "0.000000000")


@pytest.mark.parametrize("region", REGIONS)
def test_streamed_answer_is_the_models_own_and_exactly_charged(instance: Instance, region: str) -> None:
    before = available(instance)
    answer, request_id, usage = ask(instance, region, "What is the capital of France?", max_tokens=40)
    assert "Paris" in answer
    event = event_of(instance, request_id)
    assert (event["region"], event["outcome"], event["model"]) == (region, "completed", instance.chat_model)
    assert (event["prompt_tokens"], event["completion_tokens"]) == (usage.prompt_tokens, usage.completion_tokens)
    assert event["cached_tokens"] == usage.prompt_tokens_details.cached_tokens
    assert Decimal(event["amount"]) > 0
    assert before - available(instance) == Decimal(event["amount"])


def test_unary_answer_and_its_event_agree(instance: Instance) -> None:
    response = instance.openai("fr-par").chat.completions.with_raw_response.create(
        model=instance.chat_model, messages=[{"role": "user", "content": "Name a colour."}], max_tokens=8
    )
    completion = response.parse()
    assert completion.usage is not None
    assert completion.choices[0].message.content
    event = event_of(instance, response.headers["x-request-id"])
    assert event["completion_tokens"] == completion.usage.completion_tokens <= 8


def test_embeddings_keep_meaning_in_both_encodings(instance: Instance) -> None:
    client = instance.openai("fr-par")
    texts = ["hello", "bonjour", "the yearly tax filing is due"]
    model = instance.run["models"]["embeddings"]
    packed = [item.embedding for item in client.embeddings.create(model=model, input=texts).data]
    plain = [i.embedding for i in client.embeddings.create(model=model, input=texts, encoding_format="float").data]
    assert packed == [pytest.approx(vector, abs=1e-6) for vector in plain]
    hello, bonjour, tax = plain
    assert len(hello) == 384
    assert _dot(hello, bonjour) > _dot(hello, tax)
    raw = httpx.post(
        instance.gateway("fr-par") + "/v1/embeddings",
        headers=_bearer(instance),
        json={"model": model, "input": "hello", "encoding_format": "base64"},
        timeout=30,
    ).json()["data"][0]["embedding"]
    assert struct.unpack("<384f", base64.b64decode(raw)) == pytest.approx(hello, abs=1e-6)


def test_each_region_lists_only_what_it_serves(instance: Instance) -> None:
    names = {region: {model.id for model in instance.openai(region).models.list()} for region in REGIONS}
    chat, embeddings = instance.run["models"]["chat"], instance.run["models"]["embeddings"]
    assert names == {"fr-par": {chat, embeddings}, "de-fra": {chat}}
    client = instance.openai("de-fra")
    # The caller allows both regions, so the one that has the model answers; pinned to this one, nobody else may.
    raw = client.embeddings.with_raw_response.create(model=embeddings, input="hello")
    assert raw.headers["x-chappe-region"] == "fr-par"
    assert event_of(instance, raw.headers["x-request-id"])["region"] == "fr-par"
    with pytest.raises(openai.NotFoundError):
        client.embeddings.create(model=embeddings, input="hello", extra_headers={"x-chappe-region": "de-fra"})


def test_twelve_at_once_queue_and_none_is_refused(instance: Instance) -> None:
    before, known = available(instance), set(events(instance))
    answers = asyncio.run(_ask_at_once(instance, 12))
    assert len(answers) == 12
    fresh = eventually(
        lambda: {k: v for k, v in events(instance).items() if k not in known}, lambda found: len(found) == 12, 15
    )
    assert set(fresh) == set(answers)
    assert before - available(instance) == sum(Decimal(event["amount"]) for event in fresh.values())


def test_disconnect_aborts_the_engine_and_charges_what_it_made(instance: Instance) -> None:
    started = time.monotonic()
    stream = instance.openai("fr-par").chat.completions.with_streaming_response.create(
        model=instance.chat_model,
        messages=[{"role": "user", "content": "Write a very long story about a telegraph."}],
        stream=True,
        max_tokens=1000,
        temperature=0,
    )
    with stream as response:
        request_id = response.headers["x-request-id"]
        lines = response.iter_lines()
        for _ in range(20):
            next(lines)
    event = event_of(instance, request_id, within_s=8)
    assert time.monotonic() - started < 12
    assert event["outcome"] == "disconnected"
    assert 0 < event["completion_tokens"] < 600
    assert event["prompt_tokens"] > 0


def test_key_of_another_region_is_sent_on_before_its_body_is_read(instance: Instance) -> None:
    """The request's head announces a body that never comes: whoever waited for it would time out here."""
    url = urlsplit(instance.gateway("de-fra"))
    head = (
        "POST /v1/chat/completions HTTP/1.1\r\nHost: de-fra\r\n"
        f"Authorization: Bearer {instance.run['demo']['fr_only_api_key']}\r\n"
        "Content-Type: application/json\r\nContent-Length: 100000\r\n\r\n"
    )
    with socket.create_connection((url.hostname, url.port), timeout=5) as connection:
        connection.sendall(head.encode())
        answer = b""
        while block := connection.recv(65536):
            answer += block
    headers, _, body = answer.partition(b"\r\n\r\n")
    assert headers.startswith(b"HTTP/1.1 421 ")
    assert f"location: {instance.gateway('fr-par')}".encode() in headers.lower()
    assert instance.gateway("fr-par") in json.loads(body)["error"]["message"]


BAD_BODIES = {
    "malformed JSON": b'{"model": "MODEL", "messages": [',
    "no object": b'["MODEL"]',
    "bad UTF-8": b'{"model": "MODEL", "messages": [{"role": "user", "content": "\xff\xfe"}]}',
    "NUL": b'{"model": "MODEL", "messages": [{"role": "user", "content": "a\\u0000b"}]}',
    "lone surrogate": b'{"model": "MODEL", "messages": [{"role": "user", "content": "\\ud800"}]}',
    "NaN": b'{"model": "MODEL", "temperature": NaN, "messages": [{"role": "user", "content": "a"}]}',
    "wrong type": b'{"model": "MODEL", "messages": "hello"}',
    "no messages": b'{"model": "MODEL", "messages": []}',
    "unknown model": b'{"model": "gpt-5", "messages": [{"role": "user", "content": "a"}]}',
    "unknown field": b'{"model": "MODEL", "messages": [{"role": "user", "content": "a"}], "colour": "blue"}',
    "tools": b'{"model": "MODEL", "messages": [{"role": "user", "content": "a"}], "tools": [{"type": "function"}]}',
    "a hundred answers": b'{"model": "MODEL", "messages": [{"role": "user", "content": "a"}], "n": 100}',
    "negative maximum": b'{"model": "MODEL", "messages": [{"role": "user", "content": "a"}], "max_tokens": -1}',
    "huge maximum": b'{"model": "MODEL", "messages": [{"role": "user", "content": "a"}], "max_tokens": 99999999}',
    "over-long prompt": b'{"model": "MODEL", "messages": [{"role": "user", "content": "' + b"word " * 20_000 + b'"}]}',
    "deep JSON": b'{"model": "MODEL", "messages": ' + b"[" * 50_000 + b"]" * 50_000 + b"}",
    "over the limit": b'{"model": "MODEL", "messages": [{"role": "user", "content": "' + b"a" * 3_000_000 + b'"}]}',
}


def test_bad_input_is_refused_in_the_apis_own_shape_and_is_free(instance: Instance) -> None:
    before = available(instance)
    headers = {**_bearer(instance), "content-type": "application/json"}
    for name, body in BAD_BODIES.items():
        content = body.replace(b"MODEL", instance.chat_model.encode())
        url = instance.gateway("fr-par") + "/v1/chat/completions"
        answer = httpx.post(url, headers=headers, content=content, timeout=30)
        assert 400 <= answer.status_code < 500, (name, answer.status_code, answer.text)
        assert answer.status_code not in {401, 402, 403, 429}, (name, answer.text)
        assert set(answer.json()["error"]) == {"message", "type", "param", "code"}, name
        assert answer.headers["x-request-id"].startswith("req_"), name
        assert answer.headers["x-chappe-region"] == "fr-par", name
    _, request_id, _ = ask(instance, "fr-par", "Say hello.", max_tokens=4)
    event = event_of(instance, request_id)
    assert before - available(instance) == Decimal(event["amount"])


def test_unknown_and_missing_keys_are_401(instance: Instance) -> None:
    for key in ("ck_iwrong", instance.run["demo"]["api_key"][:-1] + "0", "' OR 1=1 --"):
        client = openai.OpenAI(base_url=instance.gateway("fr-par") + "/v1", api_key=key, max_retries=0)
        with pytest.raises(openai.AuthenticationError):
            client.models.list()
    assert httpx.get(instance.gateway("fr-par") + "/v1/models").status_code == 401


def test_revoked_key_stops_within_seconds(instance: Instance) -> None:
    url = f"{instance.run['control']['url']}/api/v1/keys"
    headers = {"authorization": f"Bearer {instance.run['demo']['management_key']}"}
    made = httpx.post(url, headers=headers, json={"name": "short-lived", "kind": "inference"})
    assert made.status_code == 201, made.text
    client = openai.OpenAI(base_url=instance.gateway("de-fra") + "/v1", api_key=made.json()["secret"], max_retries=0)
    assert client.models.list().data
    assert httpx.delete(f"{url}/{made.json()['id']}", headers=headers).status_code == 204

    def refused() -> bool:
        try:
            client.models.list()
        except openai.AuthenticationError:
            return True
        return False

    eventually(refused, bool, 5)


def test_killed_gateway_loses_no_ended_response_and_its_grant_comes_back(instance: Instance) -> None:
    before, known = available(instance), set(events(instance))
    ended = [ask(instance, "de-fra", f"Count to {n}.", max_tokens=6)[1] for n in range(3)]
    stream = instance.openai("de-fra").chat.completions.create(
        model=instance.chat_model,
        messages=[{"role": "user", "content": "Tell a long story."}],
        stream=True,
        max_tokens=800,
    )
    next(iter(stream))
    ended.append(ask(instance, "de-fra", "Say yes.", max_tokens=3)[1])
    os.kill(_pid(instance, "de-fra-gateway"), signal.SIGKILL)
    with pytest.raises((openai.APIConnectionError, httpx.HTTPError)):
        for _ in stream:
            pass
    found = eventually(lambda: events(instance), lambda seen: set(ended) <= set(seen), 40)
    fresh = {key: value for key, value in found.items() if key not in known}
    assert before - available(instance) == sum(Decimal(event["amount"]) for event in fresh.values())
    status = instance.status()
    assert next(part for part in status["parts"] if part["name"] == "de-fra-gateway")["restarts"] >= 1
    eventually(lambda: _answers(instance, "de-fra"), bool, 30)
    balance = eventually(lambda: instance.management("/balance"), lambda b: Decimal(b["pending"]) == 0, 90)
    assert Decimal(balance["pending"]) == 0


def test_a_killed_worker_is_started_again(instance: Instance) -> None:
    os.kill(_pid(instance, "worker"), signal.SIGKILL)

    def worker() -> dict[str, Any]:
        found: dict[str, Any] = next(part for part in instance.status()["parts"] if part["name"] == "worker")
        return found

    again = eventually(worker, lambda part: part["restarts"] >= 1 and part["state"] == "ready" and part["answers"], 100)
    assert again["reason"] == "ended by SIGKILL"


def test_stopped_region_is_503_and_nothing_of_it_runs_elsewhere(instance: Instance) -> None:
    known = set(events(instance))
    instance.chappe("stop", "fr-par-serving")
    try:
        for region in REGIONS:
            client = instance.openai(region, "fr_only_api_key")
            eventually(partial(_status, instance, client), lambda code: code == 503, 20)
        assert _status(instance, instance.openai("de-fra")) == 200
    finally:
        instance.chappe("start", "fr-par-serving")
    eventually(lambda: _answers(instance, "fr-par"), bool, 120)
    fr_only = next(key["id"] for key in instance.management("/keys")["items"] if key["name"] == "fr-only")
    fresh = [event for request_id, event in events(instance).items() if request_id not in known]
    assert {event["region"] for event in fresh if event["key_id"] == fr_only} <= {"fr-par"}
    assert any(event["region"] == "de-fra" for event in fresh)


def test_figures_agree_and_the_ledger_verifies(instance: Instance) -> None:
    total = sum(Decimal(event["amount"]) for event in events(instance).values())
    assert Decimal(10) - available(instance) == total
    summary = instance.management("/usage/summary")
    assert sum(Decimal(item["amount"]) for item in summary["items"]) == total
    assert instance.status()["phase"] == "ready"
    assert instance.chappe("ledger", "verify").returncode == 0


def test_all_processes_together_stay_under_8_gb(instance: Instance) -> None:
    total = sum(process.memory_full_info().pss for process in _processes(instance))
    assert 1e9 < total <= 8e9, f"{total / 1e9:.2f} GB"


def test_secrets_prompts_and_completions_are_nowhere(instance: Instance) -> None:
    """Searches every file of the instance, and every table (a data file may be compressed); only the files that are
    made to hold secrets have them."""
    answer, request_id, _ = ask(instance, "fr-par", f"Repeat: {MARK}", max_tokens=30)
    event_of(instance, request_id)
    client = instance.openai("fr-par")
    with pytest.raises(openai.BadRequestError):
        client.chat.completions.create(
            model=instance.chat_model,
            messages=[{"role": "user", "content": MARK}],
            extra_body={f"{MARK}-field": MARK},
        )
    marks = [MARK.encode(), *([answer.encode()] if len(answer) > 20 else [])]
    marks += [instance.run["demo"][key].encode() for key in ("api_key", "fr_only_api_key", "management_key")]
    marks += [instance.run["demo"][person]["password"].encode() for person in ("member", "operator")]
    private = {"run.json", "secrets.json", "operator.env"}
    found = [
        (str(path), mark[:12])
        for path in _files(instance)
        if path.name not in private
        for mark in marks
        if mark in path.read_bytes()
    ]
    assert found == []
    tables = asyncio.run(_tables(instance))
    assert len(tables) > 20
    assert instance.run["demo"]["member"]["email"] in tables["member"]
    written = [(mark.decode(), mark.hex()) for mark in marks]
    leaks = [
        (name, mark[:12]) for name, text in tables.items() for mark, hexed in written if mark in text or hexed in text
    ]
    assert leaks == []


def test_second_up_keeps_data_and_keys_and_down_leaves_nothing(instance: Instance) -> None:
    """Last: it takes the instance down and up again."""
    before, seen, demo = available(instance), set(events(instance)), instance.run["demo"]
    processes = _processes(instance)
    assert len(processes) > 15
    instance.chappe("down")
    assert [process for process in processes if _runs(process)] == []
    assert not (instance.state_dir / "run.json").exists()
    instance.up()
    assert instance.run["demo"] == demo
    assert available(instance) == before
    assert set(events(instance)) == seen


def _files(instance: Instance) -> Iterator[Path]:
    sockets = Path(instance.status()["runtime_dir"])
    for top in (instance.state_dir, sockets):
        for path in top.rglob("*"):
            if path.is_file() and not path.is_symlink():
                yield path


async def _tables(instance: Instance) -> dict[str, str]:
    """Everything that is in the database, as text, by table; as the superuser, whom no policy keeps from a row."""
    password = json.loads((instance.state_dir / "secrets.json").read_text())["postgres"]["superuser"]
    host = f"{instance.status()['runtime_dir']}/pg"
    connection = await asyncpg.connect(host=host, user="postgres", password=password, database="chappe")
    try:
        names = [
            row[0] for row in await connection.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
        ]
        rows = {name: await connection.fetch(f'SELECT t::text FROM public."{name}" t') for name in names}
        return {name: "\n".join(row[0] for row in found) for name, found in rows.items()}
    finally:
        await connection.close()


async def _ask_at_once(instance: Instance, count: int) -> list[str]:
    """The request ids of `count` answers that were asked for together."""
    url, key = instance.gateway("fr-par") + "/v1", instance.run["demo"]["api_key"]
    async with openai.AsyncOpenAI(base_url=url, api_key=key, max_retries=0, timeout=90) as client:

        async def one(number: int) -> str:
            response = await client.chat.completions.with_raw_response.create(
                model=instance.chat_model,
                messages=[{"role": "user", "content": f"Say the number {number}."}],
                max_tokens=12,
            )
            return str(response.headers["x-request-id"])

        return await asyncio.gather(*(one(number) for number in range(count)))


def _status(instance: Instance, client: openai.OpenAI) -> int:
    try:
        client.chat.completions.create(
            model=instance.chat_model, messages=[{"role": "user", "content": "Say hi."}], max_tokens=3
        )
    except openai.APIStatusError as error:
        return error.status_code
    return 200


def _answers(instance: Instance, region: str) -> bool:
    try:
        return _status(instance, instance.openai(region)) == 200
    except openai.APIConnectionError:
        return False


def _pid(instance: Instance, part: str) -> int:
    status = instance.status()
    return int(next(entry["pid"] for entry in status["parts"] if entry["name"] == part))


def _processes(instance: Instance) -> list[psutil.Process]:
    """The supervisor and all below it; orphans become its children."""
    supervisor = psutil.Process(instance.status()["pid"])
    return [supervisor, *supervisor.children(recursive=True)]


def _runs(process: psutil.Process) -> bool:
    """A zombie has ended; only its parent, the machine's first process for the supervisor, has not looked yet."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


def _bearer(instance: Instance) -> dict[str, str]:
    return {"authorization": f"Bearer {instance.run['demo']['api_key']}"}


def _dot(left: list[float], right: list[float]) -> float:
    return sum(a * b for a, b in zip(left, right, strict=True))

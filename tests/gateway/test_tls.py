"""A gateway with a certificate serves over TLS, and in no other way."""

import asyncio
import os
import ssl
import subprocess
import sys
from pathlib import Path

import httpx
import msgspec
import pytest

from chappe_kernel.errors import Invalid
from tests.gateway.certificates import Certificate, new_certificate
from tests.gateway.scripted_engine import Script
from tests.gateway.world import RawClient, World, auth, chat_body, until

_PATH = "/v1/chat/completions"


@pytest.fixture
def certificate(tmp_path: Path) -> Certificate:
    return new_certificate(tmp_path)


def settings_of(certificate: Certificate) -> dict[str, str]:
    return {"tls_certificate_file": str(certificate.certificate), "tls_key_file": str(certificate.key)}


async def test_answers_and_streams_over_tls_are_whole_and_charged(world: World, certificate: Certificate) -> None:
    world.engine.script = Script(tokens=200)
    trusted = ssl.create_default_context(cafile=str(certificate.certificate))
    async with world.gateway(**settings_of(certificate)) as gateway, httpx.AsyncClient(verify=trusted) as http:
        url = f"https://127.0.0.1:{gateway.port}"
        whole = await http.post(url + _PATH, json=chat_body(), headers=auth(world.key))
        assert whole.status_code == 200
        assert whole.json()["usage"]["completion_tokens"] == 200
        async with http.stream("POST", url + _PATH, json=chat_body(stream=True), headers=auth(world.key)) as stream:
            events = [line.removeprefix("data: ") async for line in stream.aiter_lines() if line]
        assert events.pop() == "[DONE]"
        chunks = [msgspec.json.decode(event)["choices"][0] for event in events]
        told = "".join(chunk["delta"].get("content") or "" for chunk in chunks)
        assert told == whole.json()["choices"][0]["message"]["content"]
        await world.events(2)


async def test_a_client_that_leaves_over_tls_ends_the_engines_work(world: World, certificate: Certificate) -> None:
    world.engine.script = Script(tokens=100_000, delay_s=0.01)
    trusted = ssl.create_default_context(cafile=str(certificate.certificate))
    async with world.gateway(**settings_of(certificate)) as gateway, httpx.AsyncClient(verify=trusted) as http:
        url = f"https://127.0.0.1:{gateway.port}{_PATH}"
        async with http.stream("POST", url, json=chat_body(stream=True), headers=auth(world.key)) as answer:
            await anext(answer.aiter_bytes())
        await until(lambda: not gateway.gateway.live, 3.0)


async def test_without_tls_nothing_is_answered(world: World, certificate: Certificate) -> None:
    async with world.gateway(**settings_of(certificate)) as gateway, RawClient.to(gateway.port) as client:
        client.send_chat(world.key)
        async with asyncio.timeout(5):
            assert await client.reader.read() == b""
        old = ssl.create_default_context(cafile=str(certificate.certificate))
        old.set_ciphers("AES128-SHA")
        old.maximum_version = ssl.TLSVersion.TLSv1_2
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await asyncio.open_connection("127.0.0.1", gateway.port, ssl=old)
        assert world.engine.seen == []


def test_a_certificate_goes_with_its_key(world: World, certificate: Certificate) -> None:
    with pytest.raises(Invalid, match="together"):
        world.settings(tls_certificate_file=str(certificate.certificate))


def test_a_file_that_is_no_certificate_is_told_in_one_line(world: World, certificate: Certificate) -> None:
    settings = world.settings(tls_certificate_file=str(certificate.key), tls_key_file=str(certificate.key))
    names = ("region", "gateway_id", "control_url", "region_credential", "serving_url", "redis_url", "spool_dir")
    environ = {
        f"CHAPPE_{name.upper()}": str(getattr(settings, name))
        for name in (*names, "tls_certificate_file", "tls_key_file")
    }
    command = [str(Path(sys.executable).with_name("chappe")), "gateway"]
    told = subprocess.run(
        command, env={**os.environ, **environ}, capture_output=True, text=True, timeout=30, check=False
    )
    assert told.returncode == 1
    assert told.stderr.splitlines()[-1].startswith("Error: a TLS certificate, its key or a CA's cannot be used")

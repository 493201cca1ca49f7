"""Whether a part answers: one try each, false for every way of not answering yet."""

import asyncio
import http.client
import json
import time
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import redis.asyncio
import redis.exceptions

from chappe_kernel.errors import Unavailable
from chappe_local import postgres
from chappe_local.backup.log import SLOT
from chappe_local.backup.tools import ReplicationUrl

_TRY_S = 5.0
_STREAM_S = 60.0
_HEARTBEAT_S = 15.0


async def http_answers(url: str) -> bool:
    """Whether a GET gives 200."""
    return await asyncio.to_thread(_status_of, url) == http.HTTPStatus.OK


async def redis_answers(url: str) -> bool:
    client = redis.asyncio.Redis.from_url(url, socket_timeout=_TRY_S, retry=None)
    try:
        return bool(await client.ping())
    except (OSError, redis.exceptions.RedisError):
        return False
    finally:
        await client.aclose()


async def database_answers(socket_dir: Path, superuser_password: str) -> bool:
    try:
        connection = await postgres.connect_superuser(socket_dir, superuser_password, deadline_s=0)
    except (OSError, TimeoutError, asyncpg.PostgresError):
        return False
    await connection.close()
    return True


async def log_streams(url: str) -> bool:
    """Whether somebody takes the database's log through our slot."""
    try:
        connection = await ReplicationUrl.parse(url).connect()
    except Unavailable:
        return False
    try:
        return bool(await connection.fetchval("SELECT active FROM pg_replication_slots WHERE slot_name = $1", SLOT))
    except (OSError, asyncpg.PostgresError):
        return False
    finally:
        await connection.close()


def touched_lately(heartbeat: Path) -> bool:
    """Whether a process that touches this file every few seconds, when its database answers, still does."""
    try:
        return time.time() - heartbeat.stat().st_mtime < _HEARTBEAT_S
    except FileNotFoundError:
        return False


async def generates(gateway_url: str, key: str, model: str) -> bool:
    """Whether the whole way works: a chat completion streams at least one token and ends as it should."""
    return await asyncio.to_thread(_streams_a_token, gateway_url, key, model)


def _status_of(url: str) -> int:
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(str(parts.hostname), parts.port, timeout=_TRY_S)
    try:
        connection.request("GET", parts.path)
        return connection.getresponse().status
    except (OSError, http.client.HTTPException):
        return 0
    finally:
        connection.close()


def _streams_a_token(gateway_url: str, key: str, model: str) -> bool:
    parts = urlsplit(gateway_url)
    connection = http.client.HTTPConnection(str(parts.hostname), parts.port, timeout=_STREAM_S)
    body = {"model": model, "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 2, "stream": True}
    headers = {"authorization": f"Bearer {key}", "content-type": "application/json"}
    try:
        connection.request("POST", "/v1/chat/completions", json.dumps(body), headers)
        answer = connection.getresponse()
        text = answer.read().decode()
    except (OSError, http.client.HTTPException, UnicodeDecodeError):
        return False
    finally:
        connection.close()
    chunks = [line.removeprefix("data: ") for line in text.splitlines() if line.startswith("data: ")]
    return answer.status == http.HTTPStatus.OK and chunks[-1:] == ["[DONE]"] and any(map(_has_content, chunks[:-1]))


def _has_content(chunk: str) -> bool:
    choices = json.loads(chunk).get("choices") or [{}]
    return bool(choices[0].get("delta", {}).get("content"))

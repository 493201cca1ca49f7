"""No final record is lost while Redis is away, and all arrive in order once it is back."""

import asyncio
from pathlib import Path

import pytest

from chappe_kernel.rating import Counts
from chappe_kernel.wire.engine import End, EngineRecord
from chappe_serving.records import RecordWriter
from tests.serving.conftest import RegionRedis


def record(number: int) -> EngineRecord:
    counts = Counts(number, 0, number)
    return EngineRecord(f"stored-{number}", 1, counts, End("completed", counts, "stop"))


@pytest.fixture
def own_redis(tmp_path_factory: pytest.TempPathFactory) -> RegionRedis:
    return RegionRedis(tmp_path_factory.mktemp("r"))


async def _arrived(redis: RegionRedis, number: int) -> list[EngineRecord]:
    async with asyncio.timeout(10):
        while len(found := await redis.records()) < number:  # noqa: ASYNC110  # Redis is asked, it does not tell
            await asyncio.sleep(0.02)
    return found


async def test_records_wait_in_a_file_while_redis_is_away(own_redis: RegionRedis, tmp_path: Path) -> None:
    writer = RecordWriter(own_redis.engine_url, tmp_path / "kept")
    await writer.start()
    for number in range(5):
        await writer.write(record(number))
    assert len(list((tmp_path / "kept").iterdir())) == 1
    own_redis.start()
    assert await _arrived(own_redis, 5) == [record(number) for number in range(5)]
    await writer.write(record(5))
    assert (await _arrived(own_redis, 6))[-1] == record(5)
    await writer.close()
    own_redis.stop()
    assert list((tmp_path / "kept").iterdir()) == []


async def test_the_next_replica_sends_what_a_dead_one_left(own_redis: RegionRedis, tmp_path: Path) -> None:
    dead = RecordWriter(own_redis.engine_url, tmp_path)
    await dead.start()
    await dead.write(record(1))
    await dead.close()
    own_redis.start()
    next_one = RecordWriter(own_redis.engine_url, tmp_path)
    await next_one.start()
    assert await _arrived(own_redis, 1) == [record(1)]
    await next_one.close()
    own_redis.stop()

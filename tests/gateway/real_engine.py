"""The simulated engine behind the real ingress, in place of a world's scripted one: its answers are production's."""

import contextlib
from collections.abc import AsyncIterator
from typing import Any

from chappe_serving.engines.registry import build_engine
from chappe_serving.ingress import Ingress
from chappe_serving.records import RecordWriter
from tests.gateway.servers import app_config, serving
from tests.gateway.world import World


@contextlib.asynccontextmanager
async def real_engine(world: World, **options: Any) -> AsyncIterator[None]:
    """Until the end; the scripted engine's port is its."""
    await world.engine.stop()
    options = {"decode_tokens_per_s": 2000, "context_tokens": 1024, "answer_tokens": 5, **options}
    engine = build_engine("simulated", options)
    records = RecordWriter(world.redis_url, world.folder / "engine-records")
    await records.start()
    await engine.start()
    ingress = Ingress(engine, records)
    try:
        async with serving(app_config(ingress, world.engine.port)):
            yield
    finally:
        await ingress.drain()

"""A real engine behind the real ingress, in place of a world's scripted one: its answers are production's."""

import contextlib
from collections.abc import AsyncIterator
from typing import Any

from chappe_serving.engines.registry import AnyEngine, build_engine
from chappe_serving.ingress import Ingress
from chappe_serving.records import RecordWriter
from tests.gateway.servers import app_config, serving
from tests.gateway.world import World


@contextlib.asynccontextmanager
async def real_engine(world: World, **options: Any) -> AsyncIterator[None]:
    """A simulated one, until the end; the scripted engine's port is its."""
    options = {"decode_tokens_per_s": 2000, "context_tokens": 1024, "answer_tokens": 5, **options}
    engine = build_engine("simulated", options)
    await engine.start()
    async with in_place_of_the_scripted(world, engine):
        yield
        await engine.drain()


@contextlib.asynccontextmanager
async def in_place_of_the_scripted(world: World, engine: AnyEngine) -> AsyncIterator[None]:
    """An engine that was started already, and goes on afterwards."""
    await world.engine.stop()
    records = RecordWriter(world.redis_url, world.folder / "engine-records")
    await records.start()
    async with serving(app_config(Ingress(engine, records), world.engine.port)):
        yield
    await records.close()

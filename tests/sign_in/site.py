"""A running control plane with its pages, shared by a suite: tests use organisations of their own."""

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

import httpx
from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncEngine

from chappe_control.settings import ControlSettings
from chappe_store.session import Database
from tests.control.conftest import serve
from tests.control.world import HandClock
from tests.pages.browser import PASSWORD, Visitor

OPERATOR = "ops@example.eu"


@dataclass(frozen=True)
class Site:
    """Where it listens (`http`), what it runs on, and what a test may change behind its back (`sql`)."""

    http: httpx.AsyncClient
    settings: ControlSettings
    database: Database
    engine: AsyncEngine
    redis: Redis
    clock: HandClock

    def visitor(self, language: str = "en") -> Visitor:
        return Visitor(self.http, self.settings.portal_url, language=language)

    async def member(self) -> tuple[Visitor, str]:
        """Somebody with an organisation of their own, signed in, and their address."""
        visitor = self.visitor()
        email = f"mia-{secrets.token_hex(6)}@example.eu"
        await visitor.sign_up(f"Test {email}", email)
        return visitor, email

    async def sql(self, statement: str, *values: Any) -> list[Any]:
        """As the superuser."""
        async with self.engine.connect() as connection:
            result = await connection.exec_driver_sql(statement, values or None)
            return [tuple(row) for row in result.all()] if result.returns_rows else []

    async def count(self, table: str) -> int:
        return int((await self.sql(f"SELECT count(*) FROM {table}"))[0][0])

    @asynccontextmanager
    async def strict(self, **changed: Any) -> AsyncIterator["Site"]:
        """The same site under other settings, in a minute that nobody has counted in."""
        self.clock.advance(3600)
        self.clock.advance(60 - self.clock.now().timestamp() % 60 + 1)
        settings = replace(self.settings, **changed)
        async with serve(settings, self.clock) as url, httpx.AsyncClient(base_url=url, timeout=20) as http:
            yield replace(self, http=http, settings=settings)


async def is_signed_in(visitor: Visitor) -> bool:
    """The sign-in page sends those on who are."""
    return (await visitor.get("/sign-in")).status_code == 303


async def try_sign_in(visitor: Visitor, email: str, password: str = PASSWORD) -> int:
    return (await visitor.post("/sign-in", email=email, password=password)).status_code


async def at_once(*work: Any) -> list[Any]:
    return list(await asyncio.gather(*work))

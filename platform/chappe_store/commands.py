"""What an operator's command does with the database: that of CHAPPE_DATABASE_URL, in the name of whoever calls it."""

import asyncio
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TypeVar

from sqlalchemy.ext.asyncio import AsyncSession

from chappe_kernel.settings import load_settings
from chappe_store.audit_log.origin import command_origin
from chappe_store.base import load_models
from chappe_store.session import Database

T = TypeVar("T")


@dataclass(frozen=True)
class _Settings:
    database_url: str = field(repr=False)


def with_database(work: Callable[[Database], Awaitable[T]]) -> T:
    """Do `work`, which makes its own transactions."""

    load_models()

    async def run() -> T:
        database = Database(load_settings(_Settings, os.environ).database_url, origin=command_origin())
        try:
            return await work(database)
        finally:
            await database.close()

    return asyncio.run(run())


def as_operator(work: Callable[[AsyncSession], Awaitable[T]]) -> T:
    """Do `work` in one transaction that may change what the operator may."""

    async def run(database: Database) -> T:
        async with database.operator() as session:
            return await work(session)

    return with_database(run)


def as_reader(work: Callable[[AsyncSession], Awaitable[T]]) -> T:
    """Do `work` in one transaction that sees everything and can change nothing."""

    async def run(database: Database) -> T:
        async with database.audit() as session:
            return await work(session)

    return with_database(run)

"""The migrations make exactly the tables that the models describe."""

import importlib
import pkgutil
from typing import Any

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection
from sqlalchemy.ext.asyncio import create_async_engine

import chappe_billing
import chappe_catalogue
import chappe_control
import chappe_store
import chappe_tenants
from chappe_store.base import Base
from tests.conftest import DatabaseUrls


async def test_tables_and_models_agree(database_urls: DatabaseUrls) -> None:
    for package in (chappe_store, chappe_tenants, chappe_catalogue, chappe_billing, chappe_control):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if module.name.endswith(".models"):
                importlib.import_module(module.name)
    engine = create_async_engine(database_urls.superuser)
    async with engine.connect() as connection:
        differences = await connection.run_sync(_compare)
    await engine.dispose()
    assert differences == []


def _compare(connection: Connection) -> list[Any]:
    return [
        difference
        for difference in compare_metadata(
            MigrationContext.configure(connection, opts={"compare_type": True}), Base.metadata
        )
        # Partitions and the migrations' own table have no models.
        if "usage_event_" not in str(difference) and "alembic_version" not in str(difference)
    ]

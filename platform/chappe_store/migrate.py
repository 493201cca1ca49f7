"""Bring a database to the newest migration. There are no downgrades: a migration expands, a later one contracts."""

import importlib.resources
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, make_url, text
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from chappe_kernel.errors import Conflict, Invalid
from chappe_store.session import Role

# Any constant will do; it makes two migrators take turns.
_MIGRATION_LOCK = 0x6368617070650001


def alembic_config(connection: Connection | None = None) -> Config:
    """Alembic's configuration without a file; the migrations travel inside the package."""
    config = Config()
    with importlib.resources.as_file(importlib.resources.files("chappe_store") / "migrations") as folder:
        config.set_main_option("script_location", str(Path(folder)))
    config.attributes["connection"] = connection
    return config


def newest_revision() -> str:
    """The one head of the migrations."""
    return str(ScriptDirectory.from_config(alembic_config()).get_current_head())


async def migrate(owner_url: str, app_url: str, revision: str = "head") -> None:
    """Run the missing migrations as the owner, in one transaction, and let the login of `app_url` use the roles.

    Safe to repeat and to run twice at once. Raises `Invalid` when the URL names no login.
    """
    login = make_url(app_url).username
    if login is None:
        raise Invalid("the application's database URL names no login", code="invalid_setting")
    engine = create_async_engine(owner_url, poolclass=NullPool)
    try:
        async with engine.begin() as connection:
            await connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _MIGRATION_LOCK})
            await connection.run_sync(lambda sync: command.upgrade(alembic_config(sync), revision))
            await connection.run_sync(_admit_login, login)
    finally:
        await engine.dispose()


async def check(app_url: str) -> None:
    """Raise `Conflict` unless the database is at the newest migration."""
    engine = create_async_engine(app_url, poolclass=NullPool)
    try:
        async with engine.connect() as connection:
            await connection.execute(text(f"SET ROLE {Role.OPERATOR}"))
            current = await connection.run_sync(lambda sync: MigrationContext.configure(sync).get_current_revision())
    finally:
        await engine.dispose()
    if current != newest_revision():
        raise Conflict(f"the database is at {current}, the code at {newest_revision()}", code="migration_missing")


def _admit_login(connection: Connection, login: str) -> None:
    name = connection.dialect.identifier_preparer.quote(login)
    for role in Role:
        # Without INHERIT the login keeps no rights of its own: it must set a role, and does so per transaction.
        connection.execute(text(f"GRANT {role} TO {name} WITH INHERIT FALSE, SET TRUE"))

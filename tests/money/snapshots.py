"""A database as it was: copies of all its tables in a schema beside them, and back again.

To the code it is what a restored backup is, in a hundredth of the time that copying a database takes.
"""

from typing import Any

import asyncpg

_TABLES = """
SELECT c.relname FROM pg_class c
WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition ORDER BY 1
"""


async def make_room(connection: "asyncpg.Connection[Any]", name: str) -> None:
    """For one copy. As the superuser, like all of these, with nobody else at work."""
    tables = await _tables(connection)
    creating = [f"CREATE TABLE {name}.{table} (LIKE public.{table})" for table in tables]
    await connection.execute(";".join([f"CREATE SCHEMA {name}", *creating]))


async def save(connection: "asyncpg.Connection[Any]", name: str) -> None:
    await _copy(connection, "public", name)


async def restore(connection: "asyncpg.Connection[Any]", name: str) -> None:
    """All that was written since is gone."""
    await _copy(connection, name, "public")


async def _copy(connection: "asyncpg.Connection[Any]", source: str, target: str) -> None:
    statements = [
        f"DELETE FROM {target}.{table}; INSERT INTO {target}.{table} SELECT * FROM {source}.{table}"
        for table in await _tables(connection)
    ]
    async with connection.transaction():
        # No trigger, append-only's neither, sees it.
        await connection.execute("SET LOCAL session_replication_role = replica;" + ";".join(statements))


async def _tables(connection: "asyncpg.Connection[Any]") -> list[str]:
    return [name for (name,) in await connection.fetch(_TABLES)]

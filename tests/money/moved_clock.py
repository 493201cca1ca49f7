"""One database's clock, set by a test: whatever asks that database for the time is told this one.

The database's own `now()` and `clock_timestamp()` are redefined in it, not something beside them. So services, column
defaults, triggers and policies all see the same time; it stands still until it is set. Ids of version 7 and other
databases keep the real one.
"""

from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg


async def install(connection: "asyncpg.Connection[Any]", at: datetime) -> None:
    """As the superuser. A copy of the database has a clock of its own, set to the same time."""
    await connection.execute("CREATE SCHEMA moved_clock")
    await connection.execute("GRANT USAGE ON SCHEMA moved_clock TO PUBLIC")
    await connection.execute("CREATE TABLE moved_clock.face (at timestamptz NOT NULL)")
    await connection.execute("INSERT INTO moved_clock.face VALUES ($1)", at)
    await connection.execute(
        "CREATE FUNCTION moved_clock.read() RETURNS timestamptz LANGUAGE sql STABLE SECURITY DEFINER "
        "AS 'SELECT at FROM moved_clock.face'"
    )
    await connection.execute("GRANT EXECUTE ON FUNCTION moved_clock.read() TO PUBLIC")
    # Written in SQL they are no longer called as the built-in functions that they were: the planner puts their body in
    # their place, wherever an expression says them.
    for name in ("now", "clock_timestamp"):
        await connection.execute(
            f"CREATE OR REPLACE FUNCTION pg_catalog.{name}() RETURNS timestamptz LANGUAGE sql STABLE "
            "AS 'SELECT moved_clock.read()'"
        )


async def set_to(connection: "asyncpg.Connection[Any]", at: datetime) -> None:
    await connection.execute("UPDATE moved_clock.face SET at = $1", at)


def id_at(at: datetime, number: int) -> UUID:
    """An id of version 7, minted at `at` by a clock that may be wrong."""
    return UUID(int=int(at.timestamp() * 1000) << 80 | 7 << 76 | 2 << 62 | number)

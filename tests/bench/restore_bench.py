"""How long a backup and a restore take: `python -m tests.bench.restore_bench EVENTS`.

A durable server of its own, filled with rows as ingestion leaves them (their content is invented), a base backup, some
log after it, and the restore, up to the moment in which a control plane could start.
"""

import asyncio
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from chappe_local import postgres
from chappe_local.backup.restoring import restore_into
from chappe_local.backup.verifying import verify_backup
from tests.restore.conftest import Place, make_place, remove_place

_FILL = """
    INSERT INTO usage_event (request_id, tenant_id, project_id, key_id, grant_id, region, gateway, listing_id,
                             price_version_id, outcome, prompt_tokens, cached_tokens, completion_tokens, amount_nano,
                             granted_nano, written_off_nano, hold_nano, started_at, finished_at, ttft_ms,
                             transaction_id)
    SELECT uuidv7(), md5((n % 200)::text)::uuid, md5((n % 400)::text)::uuid, md5((n % 900)::text)::uuid, uuidv7(),
           'fr-par', 'fr-par-gateway-0', md5((n % 5)::text)::uuid, md5((n % 7)::text)::uuid, 'completed',
           n % 2000, 0, n % 500, n % 100000, n % 100000, 0, 500000, now(), now(), n % 900, md5((n / 500)::text)::uuid
    FROM generate_series(1, $1::bigint) n
"""
_PORTION = 500_000
_MIB = 1024 * 1024


async def main(events: int) -> None:
    place = make_place()
    try:
        await place.start()
        await place.migrate()
        await place.start_stream()
        with timed(f"fill {events:,} events"):
            await fill(place, events)
        with timed("base backup"):
            backup = await place.backup()
        say(f"{'':34} {backup.size_bytes / _MIB:.0f} MiB compressed")
        await fill(place, min(events // 20, _PORTION))
        await place.streamed()
        with timed("verify"):
            verified = await verify_backup(place.folder, backup)
        place.lose_the_machine()
        with timed(f"restore, {verified.segments} segments of log"):
            await restore_into(place.folder, place.order(backup), place.data_dir)
        with timed("start"):
            await place.start()
        async with place.superuser() as connection:
            found = await connection.fetchval("SELECT count(*) FROM usage_event")
        say(f"{found:,} events are there")
    finally:
        remove_place(place)


async def fill(place: Place, events: int) -> None:
    async with place.superuser() as connection:
        await connection.execute("SET session_replication_role = replica")
        for done in range(0, events, _PORTION):
            await connection.execute(_FILL, min(_PORTION, events - done), timeout=600)
        size = await connection.fetchval("SELECT pg_database_size(current_database())")
    say(f"{'':34} {size / _MIB:.0f} MiB in the database")


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


@contextmanager
def timed(what: str) -> Iterator[None]:
    began = time.monotonic()
    yield
    say(f"{what:34} {time.monotonic() - began:.1f} s")


if __name__ == "__main__":
    assert postgres._SETTINGS["fsync"] == "on"
    asyncio.run(main(int(sys.argv[1])))

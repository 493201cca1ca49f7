"""A backup with its log leads back to any instant, and what is damaged says so."""

import gzip
import signal
from datetime import UTC, datetime, timedelta

import pytest

from chappe_kernel.errors import ChappeError, Conflict, NotFound
from chappe_local import postgres
from chappe_local.backup import log
from chappe_local.backup.restoring import restore_into
from chappe_local.backup.taking import prune
from chappe_local.backup.verifying import verify_backup
from tests.restore.conftest import Place


async def note(place: Place, text: str) -> datetime:
    """Commit something; when that was."""
    async with place.superuser() as connection:
        await connection.execute("CREATE TABLE IF NOT EXISTS note (text text)")
        await connection.execute("INSERT INTO note VALUES ($1)", text)
        at: datetime = await connection.fetchval("SELECT clock_timestamp()")
        return at


async def notes(place: Place) -> list[str]:
    async with place.superuser() as connection:
        return [row["text"] for row in await connection.fetch("SELECT text FROM note ORDER BY text")]


async def test_a_lost_machine_loses_nothing_that_was_committed(place: Place) -> None:
    await place.start_stream()
    await note(place, "1 before")
    backup = await place.backup()
    middle = await note(place, "2 after")
    async with place.superuser() as connection:
        await connection.execute("SELECT pg_switch_wal()")
    await note(place, "3 in a later segment")
    await place.streamed()
    place.lose_the_machine()

    verified = await verify_backup(place.folder, backup)
    assert verified.segments >= 2
    assert verified.log_ends is not None
    done = await restore_into(place.folder, place.order(backup), place.data_dir)
    assert done.server.timeline == backup.server.timeline + 1
    await place.start()
    assert await notes(place) == ["1 before", "2 after", "3 in a later segment"]

    # The same backup again, to an instant: another timeline, although nothing was streamed of the one before.
    place.stop()
    postgres.remove_data(place.data_dir)
    again = await restore_into(place.folder, place.order(backup, middle), place.data_dir)
    assert again.server.timeline == done.server.timeline + 1
    assert again.epoch != done.epoch
    await place.start()
    assert await notes(place) == ["1 before", "2 after"]


async def test_without_its_log_a_backup_is_as_of_its_end(place: Place) -> None:
    await note(place, "1 before")
    backup = await place.backup()
    await note(place, "2 after")
    place.stop(signal.SIGKILL)
    postgres.remove_data(place.data_dir)
    await restore_into(place.folder, place.order(backup, use_log=False), place.data_dir)
    await place.start()
    assert await notes(place) == ["1 before"]
    # A second backup of the restored server is another server's, as far as its log is concerned.
    await place.start_stream()
    other = await place.backup()
    assert other.server != backup.server
    assert (await verify_backup(place.folder, other)).files > 0
    assert place.folder.choose(None, None) == other
    assert place.folder.choose(None, other.started_at) == backup
    with pytest.raises(NotFound):
        place.folder.choose(None, backup.started_at)


async def test_what_is_damaged_or_missing_is_named(place: Place) -> None:
    await place.start_stream()
    backup = await place.backup()
    for number in range(3):
        await note(place, str(number))
        async with place.superuser() as connection:
            await connection.execute("SELECT pg_switch_wal()")
    await note(place, "last")
    await place.streamed()
    place.stop_stream()
    folder = place.folder.of(backup)

    base = folder / "base.tar.gz"
    whole = base.read_bytes()
    plain = bytearray(gzip.decompress(whole))
    plain[len(plain) // 2] ^= 1
    for damaged in (gzip.compress(bytes(plain), 1), whole[: len(whole) // 2], gzip.compress(bytes(plain[:1024]), 1)):
        base.write_bytes(damaged)
        with pytest.raises(Conflict, match=r"damaged: .*(is not what it was|cannot be read|is missing)"):
            await verify_backup(place.folder, backup)
        with pytest.raises(Conflict, match="damaged"):
            await restore_into(place.folder, place.order(backup), place.root / "state" / "other")
        postgres.remove_data(place.root / "state" / "other")
    base.write_bytes(whole)
    manifest = folder / "backup_manifest"
    text = manifest.read_text()
    manifest.write_text(text.replace("PG_VERSION", "PG_VERSIOM"))
    with pytest.raises(Conflict, match="backup_manifest is not what it was"):
        await verify_backup(place.folder, backup)
    manifest.write_text(text)
    assert (await verify_backup(place.folder, backup)).files > 0

    segments = log.list_segments(place.folder.log_of(backup.server), backup.server.timeline)
    second = segments[-3].path
    content = bytearray(second.read_bytes())
    # A record of a note: whatever is in the middle of what was written there.
    written = max(at for at, byte in enumerate(content) if byte)
    content[written // 2] ^= 1
    second.write_bytes(content)
    with pytest.raises(Conflict, match="log is damaged at"):
        await verify_backup(place.folder, backup)
    second.unlink()
    with pytest.raises(Conflict, match=r"1 of \d segments of the write-ahead log are missing"):
        await verify_backup(place.folder, backup)
    with pytest.raises(Conflict, match="missing"):
        await restore_into(place.folder, place.order(backup), place.root / "state" / "other")


async def test_an_instant_beyond_the_log_is_refused_and_nothing_is_overwritten(place: Place) -> None:
    backup = await place.backup()
    with pytest.raises(Conflict, match="a restore never overwrites"):
        await restore_into(place.folder, place.order(backup), place.data_dir)
    other = place.root / "state" / "other"
    with pytest.raises(Conflict, match="recovery ended before configured recovery target was reached"):
        await restore_into(place.folder, place.order(backup, datetime.now(UTC) + timedelta(days=1)), other)


async def test_prune_keeps_what_the_kept_backups_need(place: Place) -> None:
    await place.start_stream()
    await place.backup()
    async with place.superuser() as connection:
        for _ in range(3):
            await connection.execute("SELECT pg_switch_wal(), pg_logical_emit_message(false, 'x', 'y', true)")
    (place.folder.path / "20260101T000000Z.unfinished").mkdir()
    with pytest.raises(ChappeError, match="at least one"):
        prune(place.folder, 0)
    newest = await place.backup()
    await note(place, "after")
    await place.streamed()
    gone, freed = prune(place.folder, 1)
    assert len(gone) == 1
    assert freed >= 16 * 1024 * 1024
    assert place.folder.backups() == [newest]
    assert place.folder.unfinished() == []
    assert (await verify_backup(place.folder, newest)).segments >= 1
    place.lose_the_machine()
    await restore_into(place.folder, place.order(newest), place.data_dir)
    await place.start()
    assert await notes(place) == ["after"]

"""The cell's content store: sealed, bounded, shared by a region's gateways, and only for whose it is."""

import asyncio
import base64
import os
import sqlite3
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from chappe_gateway.content.objects import Bounds, Kind, Name, Owner, Page
from chappe_gateway.content.sealing import RegionSeal, parse_keys
from chappe_gateway.content.store import PIECE_BYTES, ContentStore
from chappe_kernel.errors import Invalid, TooLarge, Unavailable
from chappe_kernel.ids import new_id

ROOMY = Bounds(per_tenant=64 * 2**20, in_all=2**30, min_free=0)
LATER = 10**9
MARK = b"marked content that nobody may find"


@dataclass
class SetClock:
    at: datetime = datetime(2026, 11, 1, tzinfo=UTC)

    def now(self) -> datetime:
        return self.at

    def monotonic(self) -> float:
        return 0.0


def new_store(path: Path, clock: SetClock | None = None, *, keys: str = "", bounds: Bounds = ROOMY) -> ContentStore:
    seal = RegionSeal(parse_keys(keys), "credential", "fr-par")
    return ContentStore(path / "content" / "content.sqlite", seal, bounds, clock or SetClock())


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[ContentStore]:
    made = new_store(tmp_path)
    yield made
    made.close()


def new_name(kind: Kind = Kind.FILE, owner: Owner | None = None) -> Name:
    return Name(owner or Owner(new_id(), new_id()), kind, new_id())


def files_in(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


async def test_another_gateway_of_the_region_reads_it_and_nobody_else(tmp_path: Path, store: ContentStore) -> None:
    name = new_name()
    body = os.urandom(2 * PIECE_BYTES + 17)
    await store.put(name, b"head", body, LATER)
    other = new_store(tmp_path)
    found = await other.get(name)
    assert found is not None and (found.head, found.size) == (b"head", len(body))
    assert await other.read(name) == body
    tenant, project = name.owner
    for wrong in (
        name._replace(owner=Owner(new_id(), project)),
        name._replace(owner=Owner(tenant, new_id())),
        name._replace(kind=Kind.BATCH),
    ):
        assert await other.get(wrong) is None
        assert await other.read(wrong) == b""
        assert await other.page(wrong.owner, wrong.kind, Page(10)) == []
        assert not await other.delete(wrong)
    assert await other.get(name) is not None
    other.close()


async def test_nothing_of_it_is_on_the_disk_in_the_clear(tmp_path: Path, store: ContentStore) -> None:
    await store.put(new_name(), MARK, MARK * 100, LATER)
    files = files_in(tmp_path)
    assert files and all(MARK not in path.read_bytes() for path in files)
    assert all(path.stat().st_mode & 0o077 == 0 for path in files)


async def test_a_piece_cannot_be_taken_for_another(tmp_path: Path, store: ContentStore) -> None:
    name = new_name()
    await store.put(name, b"", b"a" * PIECE_BYTES + b"b" * PIECE_BYTES, LATER)
    path = tmp_path / "content" / "content.sqlite"
    with sqlite3.connect(path) as db:
        for number, becomes in ((0, 2), (1, 0), (2, 1)):
            db.execute("UPDATE piece SET number = ? WHERE number = ?", (becomes, number))
    with pytest.raises(Unavailable):
        await store.read(name)


async def test_a_tenants_content_is_unreadable_once_its_key_is_gone(tmp_path: Path, store: ContentStore) -> None:
    name = new_name()
    await store.put(name, b"", MARK, LATER)
    path = tmp_path / "content" / "content.sqlite"
    with sqlite3.connect(path) as db:
        [wrapped] = db.execute("SELECT wrapped_key FROM tenant").fetchone()
    again = new_store(tmp_path)
    assert await again.keep_within(name.owner, 0) == 1
    await again.sweep()
    assert await again.get(name) is None
    assert all(wrapped not in one.read_bytes() for one in files_in(tmp_path))
    # Whoever keeps something again has another key.
    await again.put(new_name(owner=name.owner), b"", b"new", LATER)
    with sqlite3.connect(path) as db:
        assert db.execute("SELECT wrapped_key FROM tenant").fetchone()[0] != wrapped
    again.close()


async def test_a_new_region_key_opens_what_the_old_one_wrapped_and_wraps_it_anew(
    tmp_path: Path, store: ContentStore
) -> None:
    name = new_name()
    await store.put(name, b"", MARK, LATER)
    key = base64.b64encode(os.urandom(32)).decode()
    rotated = new_store(tmp_path, keys=key)
    assert await rotated.read(name) == MARK
    await rotated.sweep()
    assert await rotated.read(name) == MARK
    with pytest.raises(Unavailable):
        await store.read(name)
    rotated.close()
    for wrong in ("x", "AAAA", key + ",short"):
        with pytest.raises(Invalid):
            parse_keys(wrong)


async def test_what_is_over_its_time_is_not_found_and_then_gone(tmp_path: Path) -> None:
    clock = SetClock()
    store = new_store(tmp_path, clock)
    name, lasting = new_name(), new_name()
    await store.put(name, b"", b"x", 60)
    await store.put(lasting, b"", b"x", 6000)
    clock.at += timedelta(seconds=61)
    assert await store.get(name) is None
    assert await store.page(name.owner, Kind.FILE, Page(10)) == []
    assert not await store.delete(name)
    await store.put(name, b"", b"x", 60)
    assert await store.sweep() == 0
    clock.at += timedelta(seconds=61)
    assert await store.sweep() == 1
    assert await store.owners() == [lasting.owner]
    # Shorter terms hold for what was made before them.
    assert await store.keep_within(lasting.owner, 200) == 0
    clock.at += timedelta(seconds=100)
    assert await store.get(lasting) is None
    store.close()


async def test_a_tenant_keeps_no_more_than_its_bound_over_all_gateways(tmp_path: Path) -> None:
    bounds = ROOMY._replace(per_tenant=20_000)
    stores = [new_store(tmp_path, bounds=bounds) for _ in range(3)]
    owner = Owner(new_id(), new_id())

    async def keep(store: ContentStore) -> bool:
        try:
            await store.put(new_name(owner=owner), b"", b"x" * 900, LATER)
        except TooLarge as refused:
            assert refused.code == "content_limit_reached"
            return False
        return True

    kept = await asyncio.gather(*(keep(store) for store in stores for _ in range(10)))
    assert sum(kept) == 20_000 // (900 + 28 + 1024 + 28)
    neighbour = new_name()
    await stores[0].put(neighbour, b"", b"y" * 900, LATER)
    # What is deleted makes room.
    [one, *_] = await stores[1].page(owner, Kind.FILE, Page(1))
    assert await stores[1].delete(one.name)
    assert await keep(stores[2])
    for store in stores:
        store.close()


async def test_gateways_that_start_together_make_one_store(tmp_path: Path) -> None:
    for attempt in range(5):
        stores = [new_store(tmp_path / str(attempt)) for _ in range(8)]
        names = [new_name() for _ in stores]
        await asyncio.gather(*(store.put(name, b"", b"x", LATER) for store, name in zip(stores, names, strict=True)))
        assert all([await stores[0].get(name) is not None for name in names])
        for store in stores:
            store.close()


async def test_a_full_region_and_a_full_disk_refuse_before_they_write(tmp_path: Path) -> None:
    for bounds in (ROOMY._replace(in_all=2**20), ROOMY._replace(min_free=2**60)):
        store = new_store(tmp_path, bounds=bounds)
        with pytest.raises(Unavailable) as refused:
            await store.put(new_name(), b"", b"x" * 2**20, LATER)
        assert refused.value.code == "content_store_full"
        assert await store.owners() == []
        store.close()


async def test_a_copy_that_was_made_while_it_is_in_use_can_be_read(tmp_path: Path, store: ContentStore) -> None:
    name = new_name()
    await store.put(name, b"head", MARK, LATER)
    copied = tmp_path / "copy" / "content" / "content.sqlite"
    copied.parent.mkdir(parents=True)
    with sqlite3.connect(tmp_path / "content" / "content.sqlite") as source, sqlite3.connect(copied) as copy:
        source.backup(copy)
    await store.delete(name)
    restored = new_store(tmp_path / "copy")
    assert await restored.read(name) == MARK
    restored.close()


async def test_looking_makes_no_file(tmp_path: Path, store: ContentStore) -> None:
    assert await store.get(new_name()) is None
    assert await store.sweep() == 0
    assert files_in(tmp_path) == []

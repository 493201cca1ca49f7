"""Whether a folder still holds what the feed wrote into it."""

import asyncio
from hashlib import sha256
from pathlib import Path

from chappe_billing.feed import queries
from chappe_billing.feed.manifest import Manifest, manifest_file_of
from chappe_billing.feed.service import manifest_of
from chappe_store.session import Database

_PAGE = 100
_PIECE_BYTES = 1 << 20


async def find_damage(database: Database, folder: Path) -> tuple[int, str | None]:
    """How many batches were checked, and the first that differs from the database's or that is gone.

    An acknowledged batch may be gone: its consumer took it away.
    """
    checked = 0
    while True:
        async with database.audit() as session:
            batches = await queries.list_batches(session, after=checked, limit=_PAGE)
            acknowledged = await queries.list_acknowledged(session, [batch.sequence for batch in batches])
        for batch in batches:
            damage = await asyncio.to_thread(
                _damage_of, folder, manifest_of(batch), may_be_gone=batch.sequence in acknowledged
            )
            if damage is not None:
                return checked, damage
            checked += 1
        if len(batches) < _PAGE:
            return checked, None


def _damage_of(folder: Path, manifest: Manifest, *, may_be_gone: bool) -> str | None:
    content, said = folder / manifest.file, folder / manifest_file_of(manifest.file)
    if not content.exists() or not said.exists():
        gone = content if said.exists() else said
        return None if may_be_gone else f"{gone.name} is gone, and nobody acknowledged it"
    if said.read_bytes() != manifest.encoded():
        return f"{said.name} is not what the feed wrote"
    return None if _digest_of(content) == manifest.sha256 else f"{content.name} is not what the feed wrote"


def _digest_of(path: Path) -> str:
    digest = sha256()
    with path.open("rb") as file:
        while piece := file.read(_PIECE_BYTES):
            digest.update(piece)
    return digest.hexdigest()

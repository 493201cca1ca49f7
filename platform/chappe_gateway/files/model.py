"""A file as it is kept and told."""

import msgspec
from msgspec import Struct, UnsetType

from chappe_gateway.content.asking import public_id
from chappe_gateway.content.objects import Kind, Stored


class FileHead(Struct, frozen=True):
    """What is kept beside a file's content."""

    filename: str
    purpose: str


class FileObject(Struct, kw_only=True):
    """OpenAI's."""

    id: str
    bytes: int
    created_at: int
    filename: str
    purpose: str
    expires_at: int | UnsetType
    status: str = "processed"
    object: str = "file"


def show_file(stored: Stored, region: str) -> FileObject:
    head = msgspec.json.decode(stored.head, type=FileHead)
    return FileObject(
        id=public_id(Kind.FILE, stored.id, region),
        bytes=stored.size,
        created_at=int(stored.created_at),
        filename=head.filename,
        purpose=head.purpose,
        expires_at=int(stored.expires_at),
    )

"""API keys as the API shows them. The secret appears once, in the answer to its creation."""

from datetime import datetime
from typing import Annotated, Any

from msgspec import Meta, Struct

from chappe_kernel.api_keys import KeyKind
from chappe_kernel.ids import KEY, PROJECT, encode_id
from chappe_tenants.api_keys.queries import KeyRecord
from chappe_tenants.api_keys.service import MAX_MODELS, MAX_REQUESTS_PER_MINUTE
from chappe_tenants.naming import MAX_NAME_LENGTH
from chappe_tenants.projects.schemas import Name, Regions

ProjectRef = Annotated[
    str, Meta(max_length=40, description="Defaults to the project of the key that asks; a member must name one.")
]
Models = Annotated[
    list[Annotated[str, Meta(min_length=1, max_length=MAX_NAME_LENGTH)]],
    Meta(min_length=1, max_length=MAX_MODELS, description="Names of listings. Null allows every model."),
]
RequestsPerMinute = Annotated[
    int,
    Meta(ge=1, le=MAX_REQUESTS_PER_MINUTE, description="The key's own limit per region, beside its organisation's."),
]


class CreateKey(Struct, frozen=True, forbid_unknown_fields=True):
    name: Name
    kind: KeyKind = KeyKind.INFERENCE
    project_id: ProjectRef | None = None
    regions: Regions | None = None
    models: Models | None = None
    requests_per_minute: RequestsPerMinute | None = None


class KeyView(Struct, frozen=True):
    id: Annotated[str, Meta(pattern="^key_")]
    project_id: Annotated[str, Meta(pattern="^prj_")]
    name: str
    kind: KeyKind
    prefix: Annotated[str, Meta(description="The first characters of the secret, to tell keys apart.")]
    regions: list[str] | None
    models: list[str] | None
    requests_per_minute: int | None
    created_at: datetime
    revoked_at: datetime | None
    last_used_at: Annotated[datetime | None, Meta(description="To the minute.")]


class CreatedKey(KeyView, frozen=True):
    secret: Annotated[str, Meta(description="Shown this once.")]


def show_key(key: KeyRecord) -> KeyView:
    return KeyView(**_shown(key))


def show_created_key(key: KeyRecord, secret: str) -> CreatedKey:
    return CreatedKey(**_shown(key), secret=secret)


def _shown(key: KeyRecord) -> dict[str, Any]:
    return {
        "id": encode_id(KEY, key.id),
        "project_id": encode_id(PROJECT, key.project_id),
        "name": key.name,
        "kind": KeyKind(key.kind),
        "prefix": key.prefix,
        "regions": key.regions,
        "models": key.models,
        "requests_per_minute": key.requests_per_minute,
        "created_at": key.created_at,
        "revoked_at": key.revoked_at,
        "last_used_at": key.last_used_at,
    }

"""API keys as the API shows them. The secret appears once, in the answer to its creation."""

from datetime import datetime
from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from chappe_kernel.api_keys import KeyKind
from chappe_kernel.ids import KEY, MEMBER, PROJECT, SERVICE_ACCOUNT, encode_id
from chappe_tenants.api_keys.expiry import MAX_OVERLAP
from chappe_tenants.api_keys.narrowing import MAX_NETWORKS
from chappe_tenants.api_keys.queries import KeyRecord
from chappe_tenants.api_keys.service import MAX_MODELS, MAX_REQUESTS_PER_MINUTE
from chappe_tenants.naming import MAX_NAME_LENGTH
from chappe_tenants.projects.schemas import Name, Regions

ProjectRef = Annotated[
    str, Meta(max_length=40, description="Defaults to the project of the key that asks; a member must name one.")
]
ServiceAccountRef = Annotated[
    str, Meta(max_length=40, description="Whose it is. The project is then the service account's.")
]
Models = Annotated[
    list[Annotated[str, Meta(min_length=1, max_length=MAX_NAME_LENGTH)]],
    Meta(min_length=1, max_length=MAX_MODELS, description="Names of listings. Null allows every model."),
]
RequestsPerMinute = Annotated[
    int,
    Meta(ge=1, le=MAX_REQUESTS_PER_MINUTE, description="The key's own limit per region, beside its organisation's."),
]


Networks = Annotated[
    list[Annotated[str, Meta(min_length=1, max_length=50, examples=["192.0.2.0/24"])]],
    Meta(
        min_length=1,
        max_length=MAX_NETWORKS,
        description="From where alone it may be used: IPv4 and IPv6 networks or addresses. Null is anywhere.",
    ),
]
ExpiresAt = Annotated[datetime, Meta(tz=True, description="When it ends by itself. Null is never.")]


class CreateKey(Struct, frozen=True, forbid_unknown_fields=True):
    name: Name
    kind: KeyKind = KeyKind.INFERENCE
    project_id: ProjectRef | None = None
    service_account_id: ServiceAccountRef | None = None
    personal: Annotated[
        bool, Meta(description="It is yours and is revoked when you leave. For members only, who are signed in.")
    ] = False
    regions: Regions | None = None
    models: Models | None = None
    networks: Networks | None = None
    expires_at: ExpiresAt | None = None
    requests_per_minute: RequestsPerMinute | None = None


class ChangeKey(Struct, frozen=True, forbid_unknown_fields=True):
    """What is left out stays as it is; null takes a narrowing, a limit or an end away."""

    name: Name | UnsetType = UNSET
    regions: Regions | UnsetType | None = UNSET
    models: Models | UnsetType | None = UNSET
    networks: Networks | UnsetType | None = UNSET
    expires_at: ExpiresAt | UnsetType | None = UNSET
    requests_per_minute: RequestsPerMinute | UnsetType | None = UNSET


class RotateKey(Struct, frozen=True, forbid_unknown_fields=True):
    overlap_s: Annotated[
        int,
        Meta(
            ge=0,
            le=int(MAX_OVERLAP.total_seconds()),
            description="For how many seconds the old key goes on beside its successor; a day, if nothing is said.",
        ),
    ] = 24 * 3600


class KeyOwner(Struct, frozen=True):
    kind: Literal["member", "service_account"]
    id: Annotated[str, Meta(pattern="^(mem|sva)_")]


class KeyView(Struct, frozen=True):
    id: Annotated[str, Meta(pattern="^key_")]
    project_id: Annotated[str, Meta(pattern="^prj_")]
    name: str
    kind: KeyKind
    prefix: Annotated[str, Meta(description="The first characters of the secret, to tell keys apart.")]
    owner: Annotated[KeyOwner | None, Meta(description="Null: it belongs to the project and to nobody in it.")]
    predecessor_id: Annotated[str | None, Meta(description="The key that it was made to replace, by a rotation.")]
    regions: list[str] | None
    models: list[str] | None
    networks: list[str] | None
    requests_per_minute: int | None
    created_at: datetime
    expires_at: Annotated[datetime | None, Meta(description="From then on it opens nothing.")]
    revoked_at: datetime | None
    revoked_for: Annotated[
        Literal["leaked"] | None, Meta(description="`leaked`: somebody who had found its text reported it.")
    ]
    last_used_at: Annotated[datetime | None, Meta(description="To the minute.")]
    last_used_region: Annotated[str | None, Meta(description="Null for a management key.")]
    last_used_network: Annotated[
        str | None, Meta(description="The client's network and no closer: an IPv4 /24, an IPv6 /48.")
    ]


CHANGES_WITH_USE = ("last_used_at", "last_used_region", "last_used_network")
"""Fields of a `KeyView` that are no part of its ETag: a key in use could otherwise never be changed."""


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
        "networks": key.networks,
        "owner": _owner(key),
        "predecessor_id": None if key.predecessor_id is None else encode_id(KEY, key.predecessor_id),
        "expires_at": key.expires_at,
        "revoked_for": key.revoked_for,
        "last_used_region": key.last_used_region,
        "last_used_network": key.last_used_network,
        "requests_per_minute": key.requests_per_minute,
        "created_at": key.created_at,
        "revoked_at": key.revoked_at,
        "last_used_at": key.last_used_at,
    }


def _owner(key: KeyRecord) -> KeyOwner | None:
    if key.member_id is not None:
        return KeyOwner("member", encode_id(MEMBER, key.member_id))
    if key.service_account_id is not None:
        return KeyOwner("service_account", encode_id(SERVICE_ACCOUNT, key.service_account_id))
    return None

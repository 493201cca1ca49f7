"""What a seed file holds. It carries secrets: nothing of it is logged, and no error shows a value."""

import msgspec
from msgspec import Struct

from chappe_kernel.api_keys import KeyKind
from chappe_kernel.errors import Invalid


class SeedTenant(Struct, frozen=True, forbid_unknown_fields=True):
    name: str
    allowed_regions: tuple[str, ...]
    requests_per_minute: int
    currency: str = "EUR"


class SeedKey(Struct, frozen=True, forbid_unknown_fields=True):
    name: str
    kind: KeyKind
    secret: str
    regions: tuple[str, ...] | None = None
    models: tuple[str, ...] | None = None
    requests_per_minute: int | None = None


class SeedPerson(Struct, frozen=True, forbid_unknown_fields=True):
    email: str
    password: str


class Seed(Struct, frozen=True, forbid_unknown_fields=True):
    tenant: SeedTenant
    project: str
    keys: tuple[SeedKey, ...] = ()
    member: SeedPerson | None = None
    operator: SeedPerson | None = None


def read_seed(raw: bytes) -> Seed:
    """Raises `Invalid` saying where it is wrong."""
    try:
        return msgspec.json.decode(raw, type=Seed)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise Invalid(f"the seed is wrong: {error}", code="invalid_seed") from None

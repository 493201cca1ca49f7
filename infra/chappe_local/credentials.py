"""The secrets of a local instance: drawn once, kept in `secrets.json` (0600), the same over every restart."""

import base64
import json
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from chappe_kernel.api_keys import KeyKind, generate_key
from chappe_local.postgres import Passwords
from chappe_local.private_files import write_private

_PASSWORD_BYTES = 24


class SignIn(Struct, frozen=True):
    email: str
    password: str


class CellSecrets(Struct, frozen=True):
    """Of one region: what it shows to the control plane, and the passwords inside the cell."""

    credential: str
    gateway_redis: str
    engine_redis: str
    ray_token: str


class StripeSecrets(Struct, frozen=True):
    """Of the payment stand-in: what opens its API, what it signs webhooks with, what opens its switches."""

    api_key: str
    webhook: str
    switches: str


class Secrets(Struct, frozen=True):
    """All of an instance's secrets. The probe key is the instance's own: its requests are never the demo tenant's."""

    key_peppers: str
    audit_keys: str
    postgres: Passwords
    control_redis: str
    api_key: str
    fr_only_api_key: str
    management_key: str
    probe_key: str
    member: SignIn
    operator: SignIn
    stripe: StripeSecrets
    cells: dict[str, CellSecrets]


def load_secrets(path: Path, regions: Sequence[str]) -> Secrets:
    """The kept secrets; what is missing (all of it at first) is drawn and written before anything uses it.

    Raises `msgspec.ValidationError` when the file is not ours: it is never overwritten with new secrets, which would
    lock the owner out of the data.
    """
    kept: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    complete = {**_draw(), **kept}
    # Kept by an older version, it may lack a role that is new.
    complete["postgres"] = {name: _password() for name in Passwords.__struct_fields__} | kept.get("postgres", {})
    complete["cells"] = {region: _draw_cell() for region in regions} | kept.get("cells", {})
    if complete != kept:
        write_private(path, json.dumps(complete, indent=1) + "\n")
    return msgspec.convert(complete, Secrets)


def _draw() -> dict[str, Any]:
    return {
        "key_peppers": f"1:{base64.b64encode(secrets.token_bytes(32)).decode()}",
        "audit_keys": f"1:{base64.b64encode(secrets.token_bytes(32)).decode()}",
        "postgres": {name: _password() for name in Passwords.__struct_fields__},
        "control_redis": _password(),
        "api_key": generate_key(KeyKind.INFERENCE),
        "fr_only_api_key": generate_key(KeyKind.INFERENCE),
        "management_key": generate_key(KeyKind.MANAGEMENT),
        "probe_key": generate_key(KeyKind.INFERENCE),
        "member": {"email": "demo@tenant.example", "password": _password()},
        "operator": {"email": "admin@operator.example", "password": _password()},
        "stripe": {
            "api_key": f"sk_test_{_password()}",
            "webhook": f"whsec_{_password()}",
            "switches": _password(),
        },
    }


def _draw_cell() -> dict[str, str]:
    return {name: _password() for name in CellSecrets.__struct_fields__}


def _password() -> str:
    return secrets.token_urlsafe(_PASSWORD_BYTES)

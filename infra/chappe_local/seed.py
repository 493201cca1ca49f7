"""The two tenants that a local instance begins with, as `chappe tenant seed` takes them."""

from collections.abc import Sequence
from typing import Any

from chappe_local.credentials import Secrets, SignIn
from chappe_local.manifest import Cell

_REQUESTS_PER_MINUTE = 6000
_FRENCH = "FR"


def demo_seed(secrets: Secrets, cells: Sequence[Cell]) -> dict[str, Any]:
    """The tenant that a newcomer plays with: its balance and its list of events are untouched by our own requests."""
    french = [cell.name for cell in cells if cell.jurisdiction == _FRENCH]
    return _seed(
        "Demo",
        cells,
        [
            _key("demo", "inference", secrets.api_key),
            _key("fr-only", "inference", secrets.fr_only_api_key, french),
            _key("management", "management", secrets.management_key),
        ],
        member=_sign_in(secrets.member),
        operator=_sign_in(secrets.operator),
    )


def probe_seed(secrets: Secrets, cells: Sequence[Cell]) -> dict[str, Any]:
    """The instance's own tenant: it pays for the requests that prove at each start that a region generates."""
    return _seed("Chappe probe", cells, [_key("probe", "inference", secrets.probe_key)], member=None, operator=None)


def _seed(
    name: str,
    cells: Sequence[Cell],
    keys: list[dict[str, Any]],
    *,
    member: dict[str, str] | None,
    operator: dict[str, str] | None,
) -> dict[str, Any]:
    return {
        "tenant": {
            "name": name,
            "allowed_regions": [cell.name for cell in cells],
            "requests_per_minute": _REQUESTS_PER_MINUTE,
        },
        "project": "default",
        "keys": keys,
        "member": member,
        "operator": operator,
    }


def _key(name: str, kind: str, secret: str, regions: list[str] | None = None) -> dict[str, Any]:
    return {"name": name, "kind": kind, "secret": secret, "regions": regions}


def _sign_in(entry: SignIn) -> dict[str, str]:
    return {"email": entry.email, "password": entry.password}

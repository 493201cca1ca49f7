"""One table decides, and no route escapes it."""

import pytest
from litestar import Litestar, Router, get

from chappe_control.permissions import ALLOWED, KeyHolder, Permission, check_routes, may, require_permission
from chappe_tenants.members.service import Role
from chappe_tenants.operators.service import OperatorRole
from tests.control.world import World


def test_every_permission_is_in_the_table_and_somebody_holds_it() -> None:
    assert set(ALLOWED) == set(Permission)
    assert all(ALLOWED.values())


def test_no_name_of_a_holder_means_two() -> None:
    """They are compared as text."""
    names = [*Role, *OperatorRole, *KeyHolder]
    assert len({str(name) for name in names}) == len(names)


def test_nobody_holds_permissions_on_both_sides() -> None:
    """A member has no business in the console, nor the operator in a tenant's own."""
    for holders in ALLOWED.values():
        assert not holders & set(OperatorRole) or holders <= set(OperatorRole)


def test_auditors_and_viewers_change_nothing() -> None:
    changing = [p for p in Permission if p.value.startswith(("manage", "set", "use the playground"))]
    assert not any(may(role, p) for role in (OperatorRole.AUDITOR, Role.VIEWER) for p in changing)


@pytest.mark.parametrize("opt", [{}, {"permission": "read keys"}])
def test_an_application_with_a_guarded_route_without_a_permission_does_not_start(opt: dict[str, str]) -> None:
    @get("/new", opt=opt)
    async def new() -> None: ...

    app = Litestar([Router("/", route_handlers=[new], guards=[require_permission])], openapi_config=None)
    with pytest.raises(LookupError, match="/new"):
        check_routes(app)


async def test_a_key_is_no_operator(world: World) -> None:
    assert (await world.api("GET", "/operator/tenants")).status_code in {401, 404}

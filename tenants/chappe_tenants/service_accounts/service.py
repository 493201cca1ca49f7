"""What happens to service accounts: programs of a project, whose keys belong to no person."""

from collections.abc import Collection
from typing import Any

from msgspec import UNSET, Struct, UnsetType
from sqlalchemy import func
from sqlalchemy.ext.asyncio import AsyncSession

from chappe_kernel.api_keys import KeyKind
from chappe_kernel.errors import Conflict, Invalid, NotFound
from chappe_kernel.ids import ProjectId, ServiceAccountId, new_id
from chappe_store.session import TenantScope
from chappe_tenants.api_keys.queries import revoke_keys_of_service_account
from chappe_tenants.naming import clean_name
from chappe_tenants.projects.service import get_open_project
from chappe_tenants.service_accounts import queries
from chappe_tenants.service_accounts.models import ServiceAccount

MAX_SERVICE_ACCOUNTS = 500


class ServiceAccountChange(Struct, frozen=True):
    """What to change; whatever is not set stays."""

    name: str | UnsetType = UNSET
    scopes: Collection[KeyKind] | UnsetType = UNSET


async def create_service_account(
    session: AsyncSession, scope: TenantScope, project_id: ProjectId, *, name: str, scopes: Collection[KeyKind]
) -> ServiceAccount:
    """Raises `NotFound` for another tenant's project, `Conflict` for an archived one and for a name in use."""
    await get_open_project(session, scope, project_id)
    if await queries.count_service_accounts(session, scope) >= MAX_SERVICE_ACCOUNTS:
        raise Conflict(
            f"an organisation has at most {MAX_SERVICE_ACCOUNTS} service accounts", code="too_many_service_accounts"
        )
    account_id = ServiceAccountId(new_id())
    inserted = await queries.insert_service_account(
        session,
        scope,
        account_id=account_id,
        project_id=project_id,
        name=clean_name(name, param="name"),
        scopes=_clean_scopes(scopes),
    )
    if not inserted:
        raise _name_taken()
    return await get_service_account(session, scope, account_id)


async def get_service_account(
    session: AsyncSession, scope: TenantScope, account_id: ServiceAccountId, *, lock: bool = False
) -> ServiceAccount:
    """Raises `NotFound`, also for another tenant's and for one that is removed. With `lock` nobody else changes it
    until the transaction ends."""
    account = await queries.read_service_account(session, scope, account_id, lock=lock)
    if account is None:
        raise NotFound("no such service account", param="service_account_id")
    return account


def check_may_have_key(account: ServiceAccount, project_id: ProjectId, kind: KeyKind) -> None:
    """Raises `Invalid` for a key of another project, or of a kind that is none of its scopes."""
    if account.project_id != project_id:
        raise Invalid("the service account is of another project", param="service_account_id")
    if kind not in account.scopes:
        raise Invalid(f"the service account has not the scope {kind.value}", code="scope_missing", param="kind")


async def change_service_account(
    session: AsyncSession, scope: TenantScope, account: ServiceAccount, change: ServiceAccountChange
) -> ServiceAccount:
    """`account` is locked. Its keys of a kind that it may have no more open nothing from now on.

    Raises `Conflict` for a name in use.
    """
    values: dict[str, Any] = {}
    if change.name is not UNSET:
        values["name"] = clean_name(change.name, param="name")
    if change.scopes is not UNSET:
        values["scopes"] = _clean_scopes(change.scopes)
    account_id = ServiceAccountId(account.id)
    if values and not await queries.update_service_account(session, scope, account_id, values):
        raise _name_taken()
    return await get_service_account(session, scope, account_id)


async def remove_service_account(session: AsyncSession, scope: TenantScope, account_id: ServiceAccountId) -> None:
    """With it all its keys are revoked. Raises `NotFound`, also when it was removed before."""
    await get_service_account(session, scope, account_id, lock=True)
    await revoke_keys_of_service_account(session, scope, account_id)
    await queries.update_service_account(session, scope, account_id, {"removed_at": func.now()})


def _clean_scopes(scopes: Collection[KeyKind]) -> list[str]:
    """In one order, so that two ways to write a set are one state."""
    if not scopes:
        raise Invalid("scopes must name at least one", param="scopes")
    return [kind.value for kind in KeyKind if kind in scopes]


def _name_taken() -> Conflict:
    return Conflict("the project has a service account of this name", code="name_taken", param="name")

"""Service accounts as the API shows them."""

from datetime import datetime
from typing import Annotated

from msgspec import UNSET, Meta, Struct, UnsetType

from chappe_kernel.api_keys import KeyKind
from chappe_kernel.ids import PROJECT, SERVICE_ACCOUNT, encode_id
from chappe_tenants.projects.schemas import Name
from chappe_tenants.service_accounts.models import ServiceAccount

Scopes = Annotated[
    list[KeyKind],
    Meta(min_length=1, max_length=len(KeyKind), description="What kinds of keys it may have."),
]


class CreateServiceAccount(Struct, frozen=True, forbid_unknown_fields=True):
    project_id: Annotated[str, Meta(max_length=40, description="Its keys are of this project.")]
    name: Name
    scopes: Scopes


class ChangeServiceAccount(Struct, frozen=True, forbid_unknown_fields=True):
    """What is left out stays as it is."""

    name: Name | UnsetType = UNSET
    scopes: Scopes | UnsetType = UNSET


class ServiceAccountView(Struct, frozen=True):
    id: Annotated[str, Meta(pattern="^sva_")]
    project_id: Annotated[str, Meta(pattern="^prj_")]
    name: str
    scopes: list[KeyKind]
    created_at: datetime


def show_service_account(account: ServiceAccount) -> ServiceAccountView:
    return ServiceAccountView(
        id=encode_id(SERVICE_ACCOUNT, account.id),
        project_id=encode_id(PROJECT, account.project_id),
        name=account.name,
        scopes=[KeyKind(scope) for scope in account.scopes],
        created_at=account.created_at,
    )

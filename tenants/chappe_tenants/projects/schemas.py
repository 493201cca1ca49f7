"""Projects as the API shows them."""

from datetime import datetime
from typing import Annotated

from msgspec import UNSET, Meta, Struct, UnsetType

from chappe_kernel.ids import PROJECT, encode_id
from chappe_tenants.naming import MAX_NAME_LENGTH
from chappe_tenants.organisations.service import MAX_REGIONS
from chappe_tenants.projects.models import Project

Name = Annotated[str, Meta(min_length=1, max_length=MAX_NAME_LENGTH, description="Without control characters.")]
Regions = Annotated[
    list[Annotated[str, Meta(min_length=1, max_length=MAX_NAME_LENGTH)]],
    Meta(
        min_length=1,
        max_length=MAX_REGIONS,
        description="Names of regions or jurisdictions in order of preference. Null takes nothing away.",
    ),
]


class CreateProject(Struct, frozen=True, forbid_unknown_fields=True):
    name: Name
    regions: Regions | None = None


class ChangeProject(Struct, frozen=True, forbid_unknown_fields=True):
    """What is left out stays as it is."""

    name: Name | UnsetType = UNSET
    regions: Regions | UnsetType | None = UNSET
    archived: Annotated[
        bool | UnsetType, Meta(description="An archived project's keys open nothing until it is restored.")
    ] = UNSET


class ProjectView(Struct, frozen=True):
    id: Annotated[str, Meta(pattern="^prj_")]
    name: str
    regions: list[str] | None
    created_at: datetime
    archived_at: datetime | None


def show_project(project: Project) -> ProjectView:
    return ProjectView(
        id=encode_id(PROJECT, project.id),
        name=project.name,
        regions=project.allowed_regions,
        created_at=project.created_at,
        archived_at=project.archived_at,
    )

"""Tenants and legal entities, as the operator names them in paths, parameters and bodies."""

from typing import Annotated
from uuid import UUID

from litestar.params import QueryParameter
from msgspec import Meta

from chappe_control.public.references import MAX_ID_LENGTH, id_in_body
from chappe_kernel.errors import Invalid, NotFound
from chappe_kernel.ids import LEGAL_ENTITY, TENANT, TenantId, decode_id
from chappe_tenants.legal_entities.models import DEFAULT_LEGAL_ENTITY_ID

EntityFilter = Annotated[
    str | None, QueryParameter(max_length=MAX_ID_LENGTH, description="Only in this legal entity's books.")
]
EntityInQuery = Annotated[
    str | None,
    QueryParameter(
        max_length=MAX_ID_LENGTH,
        description="In whose books; left out: the legal entity that every instance begins with.",
    ),
]
EntityInBody = Annotated[
    Annotated[str, Meta(pattern="^ent_", max_length=40)] | None,
    Meta(description="In whose books; left out: the legal entity that every instance begins with."),
]


def parse_tenant_id(text: str) -> TenantId:
    """Raises `NotFound` for what is no id."""
    try:
        return TenantId(decode_id(TENANT, text))
    except Invalid:
        raise NotFound("no such organisation") from None


def entity_in_body(text: str | None) -> UUID:
    """Raises `Invalid`."""
    return DEFAULT_LEGAL_ENTITY_ID if text is None else id_in_body(LEGAL_ENTITY, text, "legal_entity_id")


def entity_in_query(text: str | None) -> UUID | None:
    """Raises `Invalid`."""
    return None if text is None else id_in_body(LEGAL_ENTITY, text, "legal_entity_id")

"""Legal entities as the API shows them."""

from datetime import datetime
from typing import Annotated

from msgspec import UNSET, Meta, Struct, UnsetType

from chappe_kernel.ids import LEGAL_ENTITY, encode_id
from chappe_tenants.legal_entities.models import LegalEntity, Payments
from chappe_tenants.organisations.details import Address, LegalName, Name, VatNumber


class CreateLegalEntity(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    name: LegalName
    currency: Annotated[str, Meta(pattern="^[A-Z]{3}$", description="Of its books, for good. ISO 4217.")]
    address: Address | None = None
    vat_number: VatNumber | None = None
    registration: Annotated[Name | None, Meta(description="Where it is registered, and under which number.")] = None


class ChangeLegalEntity(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Whatever is left out stays. An address is replaced as a whole."""

    name: LegalName | UnsetType = UNSET
    address: Address | UnsetType | None = UNSET
    vat_number: VatNumber | UnsetType | None = UNSET
    registration: Name | UnsetType | None = UNSET
    payments: Annotated[Payments, Meta(description="How it collects what its customers owe.")] | UnsetType = UNSET


class EntityAddress(Struct, frozen=True):
    line_1: str
    line_2: str | None
    postal_code: str | None
    city: str
    country: str


class LegalEntityView(Struct, frozen=True):
    id: Annotated[str, Meta(pattern="^ent_")]
    name: str
    currency: str
    country: Annotated[str | None, Meta(description="Also where no address is known.")]
    address: EntityAddress | None
    vat_number: str | None
    registration: str | None
    payments: Payments
    payments_since: Annotated[datetime | None, Meta(description="None: as long as it is known here.")]
    created_at: datetime


def show_entity(entity: LegalEntity, payments_since: datetime | None) -> LegalEntityView:
    address = None
    if entity.address_line_1 is not None and entity.city is not None and entity.country is not None:
        address = EntityAddress(
            entity.address_line_1, entity.address_line_2, entity.postal_code, entity.city, entity.country
        )
    return LegalEntityView(
        id=encode_id(LEGAL_ENTITY, entity.id),
        name=entity.name,
        currency=entity.currency,
        country=entity.country,
        address=address,
        vat_number=entity.vat_number,
        registration=entity.registration,
        payments=Payments(entity.payments),
        payments_since=payments_since,
        created_at=entity.created_at,
    )

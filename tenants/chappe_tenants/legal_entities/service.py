"""What happens to legal entities. As the operator."""

import re
from collections.abc import Sequence
from typing import Any
from uuid import UUID

from msgspec import UNSET, Struct
from sqlalchemy.ext.asyncio import AsyncSession

from chappe_kernel.errors import Conflict, Invalid, NotFound
from chappe_kernel.ids import LegalEntityId, new_id
from chappe_tenants.legal_entities import queries
from chappe_tenants.legal_entities.models import LegalEntity, Payments
from chappe_tenants.legal_entities.schemas import (
    ChangeLegalEntity,
    CreateLegalEntity,
    LegalEntityView,
    show_entity,
)
from chappe_tenants.naming import clean_name
from chappe_tenants.organisations.countries import COUNTRIES
from chappe_tenants.organisations.details import MAX_LEGAL_NAME_LENGTH, Address, clean_address
from chappe_tenants.organisations.vat_numbers import clean_vat_number

_CURRENCY = re.compile("[A-Z]{3}", re.ASCII)


class Identity(Struct, frozen=True, kw_only=True):
    """Who a legal entity is, as an installation says it. What is None stays."""

    name: str | None = None
    country: str | None = None
    vat_number: str | None = None
    registration: str | None = None
    currency: str | None = None
    address: Address | None = None
    payments: Payments | None = None


async def get_entity(session: AsyncSession, entity_id: UUID, *, lock: bool = False) -> LegalEntity:
    """Raises `NotFound`."""
    found = await queries.read_entity(session, entity_id, lock=lock)
    if found is None:
        raise NotFound("no such legal entity")
    return found


async def view_entities(session: AsyncSession, entities: Sequence[LegalEntity]) -> list[LegalEntityView]:
    """As the API shows them, in their order."""
    since = await queries.read_payments_since(session, [entity.id for entity in entities])
    return [show_entity(entity, since.get(entity.id)) for entity in entities]


async def view_entity(session: AsyncSession, entity: LegalEntity) -> LegalEntityView:
    (shown,) = await view_entities(session, [entity])
    return shown


async def create_entity(session: AsyncSession, asked: CreateLegalEntity) -> LegalEntity:
    """Raises `Invalid`, and `Conflict` for a name that is taken."""
    entity_id = LegalEntityId(new_id())
    change = ChangeLegalEntity(
        name=asked.name, address=asked.address, vat_number=asked.vat_number, registration=asked.registration
    )
    values = _columns(change, country=None) | {"currency": asked.currency}
    if not await queries.insert_entity(session, entity_id, values):
        raise _name_taken()
    return await get_entity(session, entity_id)


async def change_entity(session: AsyncSession, entity: LegalEntity, change: ChangeLegalEntity) -> LegalEntity:
    """`entity` is locked. Its currency never changes: its books are in it. Raises as `create_entity` does."""
    values = _columns(change, country=entity.country)
    if not values:
        return entity
    if "name" in values and await queries.name_is_taken(session, values["name"], entity.id):
        raise _name_taken()
    await queries.update_entity(session, entity.id, values)
    return await get_entity(session, entity.id)


async def identify(session: AsyncSession, entity_id: UUID, said: Identity) -> LegalEntity:
    """Say who it is; safe to repeat. Raises as `create_entity` does, and `Conflict` for another currency once somebody
    is its customer."""
    entity = await get_entity(session, entity_id, lock=True)
    if said.country is not None and said.country not in COUNTRIES:
        raise Invalid("country is no code of ISO 3166-1, like FR", code="invalid_country", param="country")
    values = {"country": said.country} if said.country is not None else {}
    if said.currency not in {None, entity.currency}:
        values["currency"] = await _new_currency(session, entity, said.currency or "")
    if values:
        await queries.update_entity(session, entity.id, values)
        entity = await get_entity(session, entity_id)
    parts = ("name", "vat_number", "registration", "address", "payments")
    change = ChangeLegalEntity(**{part: getattr(said, part) or UNSET for part in parts})
    return await change_entity(session, entity, change)


async def identify_if_unsaid(session: AsyncSession, entity_id: UUID, said: Identity) -> LegalEntity:
    """Say who it is while nobody has: afterwards whoever did is believed, and nothing changes. Raises as `identify`."""
    entity = await get_entity(session, entity_id, lock=True)
    if entity.vat_number is not None or entity.address_line_1 is not None or entity.registration is not None:
        return entity
    return await identify(session, entity_id, said)


async def _new_currency(session: AsyncSession, entity: LegalEntity, currency: str) -> str:
    if not _CURRENCY.fullmatch(currency):
        raise Invalid("a currency is three letters of ISO 4217, like EUR", code="invalid_currency", param="currency")
    if await queries.has_customers(session, entity.id):
        raise Conflict("its books have begun, in another currency", code="books_have_begun", param="currency")
    return currency


def _columns(change: ChangeLegalEntity, *, country: str | None) -> dict[str, Any]:
    values: dict[str, Any] = {}
    if change.name is not UNSET:
        values["name"] = clean_name(change.name, param="name", max_length=MAX_LEGAL_NAME_LENGTH)
    if change.address is not UNSET:
        values |= clean_address(change.address)
    if change.vat_number is not UNSET:
        number = change.vat_number
        values["vat_number"] = number and clean_vat_number(number, values.get("country", country))
    if change.registration is not UNSET:
        text = change.registration
        values["registration"] = text and clean_name(text, param="registration")
    if change.payments is not UNSET:
        values["payments"] = change.payments
    return values


def _name_taken() -> Conflict:
    return Conflict("another legal entity has this name", code="name_taken", param="name")

"""Changing billing profiles: a tenant its own details, the operator its terms and whose invoice it stands on."""

from typing import Any
from uuid import UUID

from msgspec import UNSET, Struct, UnsetType
from sqlalchemy.ext.asyncio import AsyncSession

from chappe_billing.billing_profiles import queries
from chappe_billing.invoicing.queries import Profile
from chappe_billing.invoicing.wording import LANGUAGES
from chappe_kernel.errors import Conflict, Invalid
from chappe_store.session import TenantScope
from chappe_tenants.naming import clean_email, clean_name

MAX_LENGTH = 100
MAX_TERMS_DAYS = 365


class ProfileChange(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Whatever is left out stays; null forgets it."""

    purchase_order: str | UnsetType | None = UNSET
    buyer_reference: str | UnsetType | None = UNSET
    invoice_email: str | UnsetType | None = UNSET
    language: str | UnsetType = UNSET
    split_by_project: bool | UnsetType = UNSET


class TermsChange(Struct, frozen=True, kw_only=True):
    """What the operator agrees with a tenant."""

    payment_terms_days: int | UnsetType = UNSET
    billed_to: UUID | UnsetType | None = UNSET


async def read_profile(session: AsyncSession, scope: TenantScope) -> Profile:
    """As the tenant or the operator."""
    found = await queries.read_profile(session, scope)
    if found is None:
        return Profile()
    return Profile(**{name: getattr(found, name) for name in Profile.__struct_fields__})


def invoice_address(profile: Profile) -> str | None:
    """Where its invoices are mailed. None, too, for what was kept before addresses were checked and is none."""
    try:
        return None if profile.invoice_email is None else clean_email(profile.invoice_email)
    except Invalid:
        return None


async def lock_profile(session: AsyncSession, scope: TenantScope) -> Profile:
    """As it stays until the transaction ends."""
    await queries.take_turn(session, scope)
    return await read_profile(session, scope)


async def change_profile(session: AsyncSession, scope: TenantScope, change: ProfileChange) -> Profile:
    """From the next invoice on. As the tenant or the operator. Raises `Invalid`."""
    values: dict[str, Any] = {}
    for name in ("purchase_order", "buyer_reference"):
        given = getattr(change, name)
        if given is not UNSET:
            values[name] = None if given is None else clean_name(given, param=name, max_length=MAX_LENGTH)
    if change.invoice_email is not UNSET:
        given = change.invoice_email
        values["invoice_email"] = None if given is None else clean_email(given, param="invoice_email")
    if change.language is not UNSET:
        if change.language not in LANGUAGES:
            raise Invalid(f"invoices are written in {', '.join(LANGUAGES)}", param="language")
        values["language"] = change.language
    if change.split_by_project is not UNSET:
        values["split_by_project"] = change.split_by_project
    if values:
        await queries.put_profile(session, scope, values)
    return await read_profile(session, scope)


async def change_terms(session: AsyncSession, scope: TenantScope, change: TermsChange) -> Profile:
    """As the operator. Raises `Invalid`, and `Conflict` (`not_a_subsidiary`, `stands_elsewhere`)."""
    values: dict[str, Any] = {}
    if change.payment_terms_days is not UNSET:
        if not 0 <= change.payment_terms_days <= MAX_TERMS_DAYS:
            raise Invalid(f"0 to {MAX_TERMS_DAYS} days", param="payment_terms_days")
        values["payment_terms_days"] = change.payment_terms_days
    if change.billed_to is not UNSET:
        if change.billed_to is not None:
            await _check_parent(session, scope, change.billed_to)
        values["billed_to"] = change.billed_to
    if values:
        await queries.put_profile(session, scope, values)
    return await read_profile(session, scope)


async def _check_parent(session: AsyncSession, scope: TenantScope, parent: UUID) -> None:
    if not await queries.is_subsidiary(session, scope, parent):
        raise Conflict("only a subsidiary stands on its parent's invoice", code="not_a_subsidiary", param="billed_to")
    if await queries.stands_elsewhere(session, parent, scope.tenant_id):
        raise Conflict("one of the two stands on another invoice", code="stands_elsewhere", param="billed_to")

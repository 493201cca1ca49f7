"""Organisations as the API shows them: to their own people, to their reseller, and to the operator."""

from datetime import datetime
from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from chappe_kernel.errors import Invalid
from chappe_kernel.ids import LEGAL_ENTITY, TENANT, LegalEntityId, TenantId, decode_id, encode_id
from chappe_kernel.money import format_nano
from chappe_tenants.naming import MAX_NAME_LENGTH
from chappe_tenants.organisations.details import Address, Contact, Details, LegalName, Name, VatNumber
from chappe_tenants.organisations.lifecycle import Authority, Reason, TenantState, possible_steps
from chappe_tenants.organisations.models import Tenant
from chappe_tenants.organisations.relations import Relation
from chappe_tenants.organisations.service import MAX_REGIONS, STANDARD_PLAN, Parent, Seller, standing_of

MAX_SHARE = 1000
Share = Annotated[int, Meta(ge=1, le=MAX_SHARE)]
OrganisationId = Annotated[str, Meta(pattern="^ten_", max_length=40)]
EntityId = Annotated[str, Meta(pattern="^ent_", max_length=40)]
AllowedRegions = Annotated[
    list[Annotated[str, Meta(min_length=1, max_length=MAX_NAME_LENGTH)]],
    Meta(min_length=1, max_length=MAX_REGIONS, description="Names of regions or jurisdictions in order of preference."),
]
AnswersKept = Annotated[
    int,
    Meta(
        ge=0,
        le=24 * 3600,
        description="For so many seconds a region keeps a model's answer, encrypted, for a repeat of the request with "
        "the same Idempotency-Key. 0 keeps none: the repeat is told that it was completed.",
    ),
]
Verified = Annotated[
    bool,
    Meta(
        description="Whether you know who it is. All that nobody has verified have one share of a busy model together. "
        "The state `verified` sets it."
    ),
]
OwnShare = Annotated[
    Share | None,
    Meta(description="How many shares of a busy model its contract gives it; null is its plan's."),
]
ContentKept = Annotated[
    int,
    Meta(
        ge=0,
        le=30 * 24 * 3600,
        description="For so many seconds a region keeps content, encrypted: the state of Responses, files, batches. "
        "0 keeps none, and refuses what needs it. A smaller number also deletes what is older by then.",
    ),
]
CreditLimit = Annotated[
    str, Meta(pattern=r"^[0-9]{1,10}(\.[0-9]{1,9})?$", description="A decimal string, in the organisation's currency.")
]
Amount = Annotated[str, Meta(pattern=r"^-?[0-9]+\.[0-9]{9}$", description="A decimal string.")]


class ChangeOrganisation(Details, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What an organisation's own people may change, and its reseller's. Whatever is left out stays."""

    allowed_regions: AllowedRegions | UnsetType = UNSET
    answers_kept_for_s: AnswersKept | UnsetType = UNSET
    content_kept_for_s: ContentKept | UnsetType = UNSET


class ParentRef(Struct, frozen=True, forbid_unknown_fields=True):
    """Whose subsidiary or customer it is."""

    id: OrganisationId
    relation: Relation


class ChangeTenant(ChangeOrganisation, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the operator may change beside the state and the credit limit. Whatever is left out stays."""

    plan: Name | UnsetType = UNSET
    contract_reference: Name | UnsetType | None = UNSET
    is_reseller: bool | UnsetType = UNSET
    parent: ParentRef | UnsetType | None = UNSET
    verified: Verified | UnsetType = UNSET
    share: OwnShare | UnsetType = UNSET


class CreateCustomer(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A reseller's new customer."""

    name: Name
    legal_name: LegalName | None = None
    address: Address | None = None
    vat_number: VatNumber | None = None
    contact: Contact | None = None
    allowed_regions: Annotated[
        AllowedRegions | None, Meta(description="Among the reseller's own; null takes all of these.")
    ] = None


class CreateTenant(CreateCustomer, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The operator's new tenant. Without regions it may use all that there are."""

    state: Annotated[
        Literal["applied", "verified", "active"],
        Meta(description="Verified takes the legal name, an address and a contact. An active one may call models."),
    ] = "applied"
    legal_entity_id: Annotated[
        EntityId | None,
        Meta(description="Who sells to it, for good. Left out: the legal entity that every instance begins with."),
    ] = None
    currency: Annotated[
        Annotated[str, Meta(pattern="^[A-Z]{3}$")] | None,
        Meta(description="The legal entity's: another one is refused. It need not be said."),
    ] = None
    plan: Name = STANDARD_PLAN
    reference: Annotated[Name | None, Meta(description="Your own number for this customer; each has another.")] = None
    contract_reference: Name | None = None
    is_reseller: bool = False
    parent: ParentRef | None = None


class TakeStep(Struct, frozen=True, forbid_unknown_fields=True):
    """The state to go to. The organisation is told the reason."""

    state: TenantState
    reason: Reason


class SetCreditLimit(Struct, frozen=True, forbid_unknown_fields=True):
    credit_limit: CreditLimit


class CreditLimitView(Struct, frozen=True):
    credit_limit: Amount
    currency: str


class Step(Struct, frozen=True):
    """A state that can follow, and the reasons that it can have."""

    state: TenantState
    reasons: list[Reason]


class OrganisationView(Struct, frozen=True, kw_only=True):
    id: OrganisationId
    name: str
    state: TenantState
    state_reason: Reason | None
    state_changed_at: datetime
    legal_name: str | None
    address: Address | None
    vat_number: str | None
    contact: Contact | None
    allowed_regions: Annotated[list[str], Meta(description="Names of regions or jurisdictions in order of preference.")]
    answers_kept_for_s: AnswersKept
    content_kept_for_s: ContentKept
    currency: str
    plan: str
    contract_reference: str | None
    relation: Annotated[Relation | None, Meta(description="What it is to its group or its reseller.")]
    is_reseller: bool
    created_at: datetime


class CustomerView(OrganisationView, frozen=True, kw_only=True):
    """With who decided the state: what the operator suspended, only the operator resumes."""

    state_by: Authority
    steps: Annotated[list[Step], Meta(description="What you can do about its state.")]


class TenantView(CustomerView, frozen=True, kw_only=True):
    legal_entity_id: Annotated[EntityId, Meta(description="Who sells to it.")]
    reference: str | None
    parent: ParentRef | None
    verified: Verified
    share: OwnShare
    credit_limit: Amount


def show_organisation(tenant: Tenant) -> OrganisationView:
    return OrganisationView(**_shown(tenant))


def show_customer(tenant: Tenant) -> CustomerView:
    return CustomerView(**_shown(tenant), **_standing(tenant, Authority.RESELLER))


def show_tenant(tenant: Tenant, credit_limit_nano: int) -> TenantView:
    return TenantView(
        **_shown(tenant),
        **_standing(tenant, Authority.OPERATOR),
        legal_entity_id=encode_id(LEGAL_ENTITY, tenant.legal_entity_id),
        reference=tenant.reference,
        parent=parent_of(tenant),
        verified=tenant.verified,
        share=tenant.share,
        credit_limit=format_nano(credit_limit_nano),
    )


def read_parent(ref: ParentRef | None) -> Parent | None:
    """Raises `Invalid` for what is no tenant's id."""
    if ref is None:
        return None
    try:
        return Parent(TenantId(decode_id(TENANT, ref.id)), ref.relation)
    except Invalid as error:
        raise Invalid(error.message, code=error.code, param="parent.id") from None


def read_seller(asked: CreateTenant) -> Seller:
    """Raises `Invalid` for what is no legal entity's id."""
    if asked.legal_entity_id is None:
        return Seller(currency=asked.currency)
    try:
        return Seller(LegalEntityId(decode_id(LEGAL_ENTITY, asked.legal_entity_id)), asked.currency)
    except Invalid as error:
        raise Invalid(error.message, code=error.code, param="legal_entity_id") from None


def parent_of(tenant: Tenant) -> ParentRef | None:
    if tenant.parent_id is None or tenant.relation is None:
        return None
    return ParentRef(encode_id(TENANT, tenant.parent_id), Relation(tenant.relation))


def address_of(tenant: Tenant) -> Address | None:
    if tenant.address_line_1 is None or tenant.city is None or tenant.country is None:
        return None
    return Address(
        line_1=tenant.address_line_1,
        line_2=tenant.address_line_2,
        postal_code=tenant.postal_code,
        city=tenant.city,
        country=tenant.country,
    )


def contact_of(tenant: Tenant) -> Contact | None:
    if tenant.contact_name is None or tenant.contact_email is None:
        return None
    return Contact(tenant.contact_name, tenant.contact_email, tenant.contact_phone)


def steps_of(tenant: Tenant, authority: Authority) -> list[Step]:
    """What this authority can do about the tenant's state."""
    return [
        Step(to, sorted(reasons, key=list(Reason).index))
        for to, reasons in possible_steps(standing_of(tenant), authority)
    ]


def _shown(tenant: Tenant) -> dict[str, Any]:
    return {
        "id": encode_id(TENANT, tenant.id),
        "name": tenant.name,
        "state": TenantState(tenant.state),
        "state_reason": None if tenant.state_reason is None else Reason(tenant.state_reason),
        "state_changed_at": tenant.state_changed_at,
        "legal_name": tenant.legal_name,
        "address": address_of(tenant),
        "vat_number": tenant.vat_number,
        "contact": contact_of(tenant),
        "allowed_regions": tenant.allowed_regions,
        "answers_kept_for_s": tenant.answers_kept_for_s,
        "content_kept_for_s": tenant.content_kept_for_s,
        "currency": tenant.currency,
        "plan": tenant.plan,
        "contract_reference": tenant.contract_reference,
        "relation": None if tenant.relation is None else Relation(tenant.relation),
        "is_reseller": tenant.is_reseller,
        "created_at": tenant.created_at,
    }


def _standing(tenant: Tenant, authority: Authority) -> dict[str, Any]:
    return {"state_by": Authority(tenant.state_by), "steps": steps_of(tenant, authority)}

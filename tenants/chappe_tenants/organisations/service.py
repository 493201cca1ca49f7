"""What happens to tenants: they begin, what is known of them changes, and they go from state to state."""

from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import Struct
from sqlalchemy.ext.asyncio import AsyncSession

from chappe_kernel.errors import Conflict, Invalid, NotFound
from chappe_kernel.ids import LegalEntityId, TenantId, new_id
from chappe_kernel.residency import expand
from chappe_store.session import TenantScope
from chappe_tenants.legal_entities.models import DEFAULT_LEGAL_ENTITY_ID
from chappe_tenants.legal_entities.queries import read_entity
from chappe_tenants.naming import clean_name
from chappe_tenants.organisations import queries
from chappe_tenants.organisations.details import check_complete, details_of
from chappe_tenants.organisations.lifecycle import INITIAL, Authority, Reason, Standing, TenantState, check_step
from chappe_tenants.organisations.models import Tenant
from chappe_tenants.organisations.relations import Relation
from chappe_tenants.quotas.queries import read_plan

MAX_REGIONS = 64
STANDARD_PLAN = "standard"


class Parent(Struct, frozen=True):
    """Whose subsidiary or customer an organisation is."""

    tenant_id: TenantId
    relation: Relation


class Contract(Struct, frozen=True, kw_only=True):
    """What the operator alone decides about an organisation, beside its state, its regions and its money."""

    plan: str = STANDARD_PLAN
    contract_reference: str | None = None
    is_reseller: bool = False
    parent: Parent | None = None
    verified: bool = False
    """Whether the operator knows who it is."""
    share: int | None = None
    """How many shares of a busy deployment it has; None is the plan's."""


class Seller(Struct, frozen=True):
    """Who of the operator sells to an organisation, and in which currency: the entity's own if none is named."""

    legal_entity_id: LegalEntityId = DEFAULT_LEGAL_ENTITY_ID
    currency: str | None = None


NO_CONTRACT = Contract()
"""Of whoever signs up alone."""
DEFAULT_SELLER = Seller()


async def create_organisation(
    session: AsyncSession,
    *,
    name: str,
    allowed_regions: Sequence[str],
    requests_per_minute: int,
    seller: Seller = DEFAULT_SELLER,
    reference: str | None = None,
    state: TenantState = TenantState.ACTIVE,
    contract: Contract = NO_CONTRACT,
    details: Mapping[str, Any] | None = None,
) -> TenantScope:
    """A new tenant, by the operator. `details` are columns that `clean_details` made.

    Raises `Invalid` (a currency that is not the seller's, too), and `Conflict` for a reference that is taken, a parent
    that cannot be one, and a verified organisation without the details that this takes.
    """
    if requests_per_minute < 1:
        raise Invalid("requests_per_minute must be at least 1", param="requests_per_minute")
    if state not in INITIAL:
        raise Invalid(f"no organisation begins {state}", param="state")
    if state is TenantState.VERIFIED:
        check_complete(details or {})
    tenant_id = TenantId(new_id())
    await _check_contract(session, tenant_id, contract)
    values = {
        "name": clean_name(name, param="name"),
        "state": state,
        "legal_entity_id": seller.legal_entity_id,
        "currency": await _currency_of(session, seller),
        "reference": _optional_name(reference, param="reference"),
        "allowed_regions": clean_regions(allowed_regions, param="allowed_regions"),
        "requests_per_minute": requests_per_minute,
        **_contract_columns(contract),
        **(details or {}),
    }
    if state is TenantState.VERIFIED:
        values["verified"] = True
    if not await queries.insert_tenant(session, tenant_id, values):
        raise Conflict("another organisation has this reference", code="reference_taken", param="reference")
    return TenantScope(tenant_id)


async def get_organisation(session: AsyncSession, scope: TenantScope) -> Tenant:
    """Raises `NotFound` when the tenant is gone, or not the session's."""
    return _found(await queries.read_tenant(session, scope))


async def lock_organisation(session: AsyncSession, scope: TenantScope) -> Tenant:
    """The same, and nobody else changes it until the transaction ends."""
    return _found(await queries.lock_tenant(session, scope))


async def get_customer(
    session: AsyncSession, reseller: TenantScope, customer_id: TenantId, *, lock: bool = False
) -> Tenant:
    """A customer of this reseller's. Raises `NotFound` for anybody else, the reseller itself included."""
    return _found(await queries.read_customer(session, reseller, customer_id, lock=lock))


async def change_organisation(session: AsyncSession, tenant: Tenant, values: Mapping[str, Any]) -> Tenant:
    """`tenant` is locked, and `values` are columns that were cleaned and allowed. As it is afterwards."""
    return await queries.update_tenant(session, TenantId(tenant.id), values) if values else tenant


async def change_contract(session: AsyncSession, tenant: Tenant, contract: Contract) -> Tenant:
    """By the operator; `tenant` is locked. Raises `Conflict` for a parent that cannot be one, and for a reseller that
    still has customers and shall be none."""
    tenant_id = TenantId(tenant.id)
    await _check_contract(session, tenant_id, contract)
    if tenant.is_reseller and not contract.is_reseller and await queries.has_customers(session, tenant_id):
        raise Conflict("it still has customers", code="has_customers", param="is_reseller")
    return await queries.update_tenant(session, tenant_id, _contract_columns(contract))


async def change_state(
    session: AsyncSession, scope: TenantScope, to: TenantState, reason: Reason, authority: Authority
) -> Tenant:
    """In the operator's role, whoever decides. Raises as `check_step` does, and `Conflict` for missing details.

    Gateways hear of it in the same moment as of every change of keys. What is closed has no key that opens anything.
    """
    tenant = await lock_organisation(session, scope)
    check_step(standing_of(tenant), to, reason, authority)
    if to is TenantState.VERIFIED:
        check_complete(details_of(tenant))
    if to is TenantState.CLOSED:
        # Before the keys' revision is taken, as who makes a key does it: the other order would be a deadlock.
        await queries.lock_projects(session, scope)
    values: dict[str, Any] = {"state": to, "state_reason": reason, "state_by": authority}
    if to is TenantState.VERIFIED:
        values["verified"] = True
    changed = await queries.update_tenant(session, scope.tenant_id, values)
    if to is TenantState.CLOSED:
        await queries.revoke_all_keys(session, scope)
    return changed


def standing_of(tenant: Tenant) -> Standing:
    return Standing(TenantState(tenant.state), Authority(tenant.state_by))


def clean_regions(names: Sequence[str], *, param: str) -> list[str]:
    """Names of regions or jurisdictions in order of preference, each once. Raises `Invalid` naming `param`."""
    if len(names) > MAX_REGIONS:
        raise Invalid(f"{param} has more than {MAX_REGIONS} entries", param=param)
    return list(dict.fromkeys(clean_name(name, param=param) for name in names))


def regions_within(names: Sequence[str], within: Sequence[str], jurisdiction_of: dict[str, str]) -> list[str]:
    """An allow-list that names nothing but regions that `within` allows, and at least one. Raises `Invalid`."""
    cleaned = clean_regions(names, param="allowed_regions")
    allowed = set(expand(within, jurisdiction_of))
    for position, name in enumerate(cleaned):
        regions = expand([name], jurisdiction_of)
        if not regions or not allowed.issuperset(regions):
            raise Invalid(
                f"allowed_regions[{position}] is not among the regions that can be allowed",
                code="region_not_allowed",
                param="allowed_regions",
            )
    if not cleaned:
        raise Invalid("allowed_regions must name at least one region", param="allowed_regions")
    return cleaned


async def _currency_of(session: AsyncSession, seller: Seller) -> str:
    """The database has this rule as well: a tenant's currency is that of its seller's books."""
    entity = await read_entity(session, seller.legal_entity_id)
    if entity is None:
        raise Invalid("there is no such legal entity", code="no_such_legal_entity", param="legal_entity_id")
    if seller.currency not in {None, entity.currency}:
        raise Invalid(f"{entity.name} sells in {entity.currency}", code="currency_mismatch", param="currency")
    return entity.currency


async def _check_contract(session: AsyncSession, tenant_id: TenantId, contract: Contract) -> None:
    """The database has these rules as well, for whoever changes both sides at once."""
    if await read_plan(session, contract.plan) is None:
        raise Invalid("there is no such plan", code="plan_not_found", param="plan")
    parent = contract.parent
    if parent is None:
        return
    found = await queries.read_tenant(session, TenantScope(parent.tenant_id))
    if found is None:
        raise Invalid("there is no such organisation", code="no_such_parent", param="parent.id")
    if parent.relation is Relation.CUSTOMER and not found.is_reseller:
        raise Conflict("only a reseller has customers", code="no_reseller", param="parent.id")
    if await queries.is_ancestor(session, tenant_id, of=parent.tenant_id):
        raise Conflict("an organisation cannot be above itself", code="parent_cycle", param="parent.id")


def _contract_columns(contract: Contract) -> dict[str, Any]:
    return {
        "plan": clean_name(contract.plan, param="plan"),
        "contract_reference": _optional_name(contract.contract_reference, param="contract_reference"),
        "is_reseller": contract.is_reseller,
        "verified": contract.verified,
        "share": contract.share,
        "parent_id": None if contract.parent is None else contract.parent.tenant_id,
        "relation": None if contract.parent is None else contract.parent.relation,
    }


def _optional_name(text: str | None, *, param: str) -> str | None:
    return None if text is None else clean_name(text, param=param)


def _found(tenant: Tenant | None) -> Tenant:
    if tenant is None:
        raise NotFound("no such organisation")
    return tenant

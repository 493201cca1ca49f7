"""What happens when an organisation begins, by the operator's hand or by its own."""

from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import Struct
from sqlalchemy.ext.asyncio import AsyncSession

from chappe_billing.credit.service import give_welcome_credit
from chappe_catalogue.regions.queries import read_jurisdictions
from chappe_kernel.ids import MemberId, ProjectId
from chappe_store.session import TenantScope
from chappe_tenants.accounts.service import open_account
from chappe_tenants.members.service import Role, add_member
from chappe_tenants.organisations.lifecycle import TenantState
from chappe_tenants.organisations.service import NO_CONTRACT, Contract, Seller, create_organisation, get_organisation
from chappe_tenants.projects.service import create_project
from chappe_tenants.sessions.service import start_member_session

DEFAULT_PROJECT = "default"


class Terms(Struct, frozen=True):
    """What a new organisation begins with. Without regions it may use all that there are."""

    seller: Seller
    requests_per_minute: int
    welcome_credit_nano: int
    allowed_regions: Sequence[str] = ()
    state: TenantState = TenantState.ACTIVE


class Opened(Struct, frozen=True):
    """A new organisation, and its first project."""

    scope: TenantScope
    project_id: ProjectId
    jurisdiction_of: dict[str, str]


async def open_organisation(
    session: AsyncSession,
    *,
    name: str,
    terms: Terms,
    reference: str | None = None,
    contract: Contract = NO_CONTRACT,
    details: Mapping[str, Any] | None = None,
) -> Opened:
    """A new organisation with a project, a budget and its welcome credit. As the operator. Raises as
    `create_organisation` does."""
    jurisdiction_of = await read_jurisdictions(session)
    scope = await create_organisation(
        session,
        name=name,
        seller=terms.seller,
        allowed_regions=terms.allowed_regions or tuple(jurisdiction_of),
        requests_per_minute=terms.requests_per_minute,
        reference=reference,
        state=terms.state,
        contract=contract,
        details=details,
    )
    project = await create_project(session, scope, name=DEFAULT_PROJECT, regions=None, jurisdiction_of=jurisdiction_of)
    currency = (await get_organisation(session, scope)).currency
    await give_welcome_credit(session, scope.tenant_id, terms.welcome_credit_nano, currency)
    return Opened(scope, ProjectId(project.id), jurisdiction_of)


async def sign_up(
    session: AsyncSession, *, organisation: str, owner_id: MemberId, email: str, password_hash: str, terms: Terms
) -> str:
    """A new organisation with its owner, who is signed in: the session's secret. As the operator.

    Raises `Conflict` if somebody has the address: nothing of it is kept, since the transaction ends with it.
    """
    opened = await open_organisation(session, name=organisation, terms=terms)
    account_id = await open_account(session, email=email, password_hash=password_hash)
    await add_member(session, opened.scope, member_id=owner_id, account_id=account_id, email=email, role=Role.OWNER)
    return await start_member_session(session, opened.scope, owner_id)

"""SQL of contract terms. As the operator; a tenant reads its own."""

from collections.abc import Sequence
from datetime import date
from uuid import UUID

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncSession

from chappe_billing.contract_terms.models import ContractTerm
from chappe_store.session import TenantScope


async def insert_term(session: AsyncSession, term: ContractTerm) -> ContractTerm:
    session.add(term)
    await session.flush()
    await session.refresh(term)
    return term


async def list_terms(
    session: AsyncSession, scope: TenantScope, *, limit: int | None = None, before: UUID | None = None
) -> Sequence[ContractTerm]:
    """Newest first."""
    statement = select(ContractTerm).where(ContractTerm.tenant_id == scope.tenant_id).order_by(ContractTerm.id.desc())
    if before is not None:
        statement = statement.where(ContractTerm.id < before)
    return (await session.scalars(statement.limit(limit))).all()


async def lock_term(session: AsyncSession, scope: TenantScope, term_id: UUID) -> ContractTerm | None:
    statement = select(ContractTerm).where(ContractTerm.tenant_id == scope.tenant_id, ContractTerm.id == term_id)
    return await session.scalar(statement.with_for_update())


async def set_last_month(session: AsyncSession, term: ContractTerm, month: date) -> ContractTerm:
    await session.execute(
        update(ContractTerm)
        .where(ContractTerm.id == term.id)
        .values(last_month=month)
        .execution_options(synchronize_session=False)
    )
    await session.refresh(term)
    return term


async def tenants_with_terms(session: AsyncSession) -> list[UUID]:
    return sorted(await session.scalars(select(ContractTerm.tenant_id).distinct()))

"""SQL for deployments."""

from collections.abc import Collection, Sequence

from sqlalchemy import delete, func, select, tuple_
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from chappe_catalogue.deployments.models import Deployment, DeploymentState
from chappe_kernel.wire.control import DeploymentSpec, DeploymentStatus


async def list_deployments(session: AsyncSession, region: str) -> Sequence[Deployment]:
    query = select(Deployment).where(Deployment.region == region).order_by(Deployment.name)
    return (await session.scalars(query)).all()


async def list_with_states(session: AsyncSession) -> Sequence[tuple[Deployment, DeploymentState | None]]:
    """Everywhere, by region and name, each with what was last seen of it."""
    query = (
        select(Deployment, DeploymentState)
        .outerjoin(
            DeploymentState, (DeploymentState.region == Deployment.region) & (DeploymentState.name == Deployment.name)
        )
        .order_by(Deployment.region, Deployment.name)
    )
    return [(row[0], row[1]) for row in await session.execute(query)]


async def deployment_names(session: AsyncSession, region: str) -> frozenset[str]:
    return frozenset((await session.scalars(select(Deployment.name).where(Deployment.region == region))).all())


async def put_deployment(session: AsyncSession, region: str, spec: DeploymentSpec) -> None:
    values = {
        "engine": spec.engine,
        "replicas": spec.replicas,
        "max_ongoing_requests": spec.max_ongoing_requests,
        "options": spec.options,
    }
    await session.execute(
        insert(Deployment)
        .values(region=region, name=spec.name, **values)
        .on_conflict_do_update(index_elements=["region", "name"], set_=values)
    )


async def keep_deployments(session: AsyncSession, wanted: Collection[tuple[str, str]]) -> None:
    """Drop every (region, name) that is not wanted, with what was seen of it."""
    await session.execute(delete(Deployment).where(tuple_(Deployment.region, Deployment.name).not_in(list(wanted))))


async def put_state(session: AsyncSession, region: str, status: DeploymentStatus) -> None:
    values = {"state": status.state, "message": status.message, "replicas_running": status.replicas_running}
    await session.execute(
        insert(DeploymentState)
        .values(region=region, name=status.name, **values)
        .on_conflict_do_update(index_elements=["region", "name"], set_=values | {"reported_at": func.now()})
    )

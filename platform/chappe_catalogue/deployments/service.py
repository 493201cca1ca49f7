"""What happens to deployments: a region learns what to run, and reports what does."""

from collections.abc import Sequence

import msgspec
from sqlalchemy.ext.asyncio import AsyncSession

from chappe_catalogue.deployments import queries
from chappe_kernel.errors import Invalid
from chappe_kernel.wire.control import DeploymentSpec, DeploymentStatus

MAX_STATE_LENGTH = 40
# Enough to tell why an application does not start; the region's own logs have the rest.
MAX_MESSAGE_LENGTH = 2000
MAX_STATUSES = 1000


async def wanted_deployments(session: AsyncSession, region: str) -> list[DeploymentSpec]:
    """What should run in the region, by name."""
    found = await queries.list_deployments(session, region)
    return [
        msgspec.convert({name: getattr(row, name) for name in DeploymentSpec.__struct_fields__}, DeploymentSpec)
        for row in found
    ]


async def report_statuses(session: AsyncSession, region: str, statuses: Sequence[DeploymentStatus]) -> None:
    """Note what runs. Reports of deployments that the catalogue has dropped meanwhile are ignored."""
    if len(statuses) > MAX_STATUSES:
        raise Invalid(f"a report has at most {MAX_STATUSES} deployments")
    wanted = await queries.deployment_names(session, region)
    for status in sorted(statuses, key=lambda status: status.name):
        if status.name in wanted:
            await queries.put_state(session, region, _bounded(status))


def _bounded(status: DeploymentStatus) -> DeploymentStatus:
    # PostgreSQL's text has no NUL.
    return msgspec.structs.replace(
        status,
        state=status.state.replace("\0", "")[:MAX_STATE_LENGTH],
        message=status.message.replace("\0", "")[:MAX_MESSAGE_LENGTH],
    )

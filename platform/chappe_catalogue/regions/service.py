"""What happens to regions: they prove who they are, and say how they fare."""

import hashlib

import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from chappe_catalogue.regions import queries
from chappe_kernel.errors import Conflict, Invalid, Unauthenticated
from chappe_kernel.wire.control import DeploymentLoad, Heartbeat

_log = structlog.get_logger()

MIN_CREDENTIAL_LENGTH = 24
# The new one and the one before: gateways change over one by one.
VALID_CREDENTIALS = 2
MAX_GATEWAY_NAME_LENGTH = 100
MAX_VERSION_LENGTH = 100
MAX_DEPLOYMENTS = 1000
MAX_DEPLOYMENT_NAME_LENGTH = 100
MAX_IN_FLIGHT = 1_000_000
MAX_REVISION = 2**62
MAX_EPOCH_LENGTH = 100


def digest_credential(credential: str) -> bytes:
    """SHA-256 of it. A credential is random and long, so that nothing slower is needed."""
    return hashlib.sha256(credential.encode()).digest()


async def authenticate_region(session: AsyncSession, credential: str) -> str:
    """The region whose credential this is. Raises `Unauthenticated`."""
    region = await queries.find_region(session, digest_credential(credential))
    if region is None:
        raise Unauthenticated("this is no region's credential", code="invalid_credential")
    return region


async def rotate_credential(session: AsyncSession, *, region: str, credential: str) -> None:
    """From now on the region may use this one too; the one before it stays valid. Safe to repeat.

    Raises `Invalid` for a short one, `Conflict` for one that another region uses.
    """
    if len(credential) < MIN_CREDENTIAL_LENGTH:
        raise Invalid(f"the credential of {region} has fewer than {MIN_CREDENTIAL_LENGTH} characters")
    digest = digest_credential(credential)
    await queries.put_credential(session, region=region, digest=digest)
    if await queries.find_region(session, digest) != region:
        raise Conflict(f"the credential of {region} is another region's")
    await queries.keep_newest_credentials(session, region=region, count=VALID_CREDENTIALS)


async def beat(session: AsyncSession, *, region: str, heartbeat: Heartbeat) -> None:
    """Note that this gateway lives, which deployments it sees, how much each of them has to do, and how far it has
    followed the changes of keys; or that it is leaving."""
    if not 1 <= len(heartbeat.gateway) <= MAX_GATEWAY_NAME_LENGTH:
        raise Invalid("gateway must have 1 to 100 characters", param="gateway")
    if len(heartbeat.healthy_deployments) > MAX_DEPLOYMENTS or len(heartbeat.snapshot_version) > MAX_VERSION_LENGTH:
        raise Invalid("the heartbeat is too long")
    if len(heartbeat.loads) > MAX_DEPLOYMENTS or not all(map(_is_sound, heartbeat.loads)):
        raise Invalid(f"loads must have at most {MAX_DEPLOYMENTS} entries from 0 to {MAX_IN_FLIGHT}", param="loads")
    if len(heartbeat.sent_again) > MAX_EPOCH_LENGTH:
        raise Invalid("sent_again is too long", param="sent_again")
    if not 0 <= heartbeat.keys_revision <= MAX_REVISION:
        raise Invalid("keys_revision must not be negative", param="keys_revision")
    if heartbeat.leaving:
        await queries.forget_gateway(session, region, heartbeat.gateway)
        return
    await queries.put_heartbeat(
        session,
        region=region,
        gateway=heartbeat.gateway,
        snapshot_version=heartbeat.snapshot_version,
        healthy_deployments=heartbeat.healthy_deployments,
        loads={load.name: load.in_flight for load in heartbeat.loads},
        keys_revision=heartbeat.keys_revision,
        sent_again=heartbeat.sent_again,
    )
    await queries.forget_gateways(session, region)
    if await queries.lend_if_all_have_told(session):
        _log.warning("lending_again_after_restore")


def _is_sound(load: DeploymentLoad) -> bool:
    # PostgreSQL's JSON has no NUL.
    named = len(load.name) <= MAX_DEPLOYMENT_NAME_LENGTH and "\0" not in load.name
    return named and 0 <= load.in_flight <= MAX_IN_FLIGHT

"""At which gateways the last change of what a tenant's keys may do is in force; also `/acknowledgement/live`.

A gateway that has not acknowledged the change knows it all the same, or does not serve any more, once its word from the
control plane is too old: from then on it counts as one where the change is in force.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from litestar import Request, Response, get
from litestar.datastructures import State
from msgspec import Struct
from sqlalchemy.ext.asyncio import AsyncSession

from chappe_catalogue.regions.models import GatewayHeartbeat
from chappe_catalogue.regions.queries import list_heartbeats
from chappe_control.pages.render import fragment
from chappe_control.permissions import Permission
from chappe_control.state import Given
from chappe_store.models import KeyChange
from chappe_store.queries import read_last_key_change, read_now
from chappe_store.session import TenantScope
from chappe_tenants.sessions.service import MemberVisitor

# A change is dated by its statement and told with its commit. No transaction of ours is nearly as long.
_COMMITTED_WITHIN = timedelta(seconds=60)


class Follower(Struct, frozen=True):
    """A gateway that may still serve, and whether the change is in force there."""

    region: str
    gateway: str
    in_force: bool = True


class Acknowledgement(Struct, frozen=True):
    """Where the change of `changed_at` is in force; None means that nothing has ever changed. Gateways that have not
    followed yet do so by `complete_by` whatever happens."""

    followers: tuple[Follower, ...]
    changed_at: datetime | None = None
    complete_by: datetime | None = None

    @property
    def in_force(self) -> int:
        """At how many gateways."""
        return sum(one.in_force for one in self.followers)

    @property
    def missing(self) -> tuple[str, ...]:
        """The regions in which some gateway has not followed."""
        return tuple(dict.fromkeys(one.region for one in self.followers if not one.in_force))


def acknowledge(
    change: KeyChange | None, heartbeats: Sequence[GatewayHeartbeat], now: datetime, max_age_s: float
) -> Acknowledgement:
    """Of the gateways that may still serve. Pure."""
    grace = timedelta(seconds=max_age_s) + _COMMITTED_WITHIN
    serving = [beat for beat in heartbeats if beat.seen_at > now - grace]
    if change is None:
        return Acknowledgement(tuple(Follower(beat.region, beat.gateway) for beat in serving))
    complete_by = change.changed_at + grace
    followers = (
        Follower(beat.region, beat.gateway, beat.keys_revision >= change.revision or now >= complete_by)
        for beat in serving
    )
    return Acknowledgement(tuple(followers), change.changed_at, complete_by)


async def read_acknowledgement(session: AsyncSession, scope: TenantScope, max_age_s: float) -> Acknowledgement:
    """For the template's `ui.in_force`. `max_age_s` is the control plane's `snapshot_max_age_s`."""
    change = await read_last_key_change(session, scope)
    return acknowledge(change, await list_heartbeats(session), await read_now(session), max_age_s)


@get("/acknowledgement/live", include_in_schema=False, permission=Permission.READ_ORGANISATION)
async def show_acknowledgement(request: Request[Any, MemberVisitor, State], services: Given) -> Response[bytes]:
    scope = request.auth.scope
    async with services.database.tenant_snapshot(scope) as session:
        found = await read_acknowledgement(session, scope, services.settings.snapshot_max_age_s)
    return fragment(request, "portal/acknowledgement.html", acknowledgement=found)

"""Before and after the moment in which a restored database lends again.

A database that was restored from a backup knows neither what was spent since nor what is lent. Were it to lend at once,
it would lend what is spent already; when the gateways then send their records again, these would not fit, and totals
would differ by what had to be written off. So it first closes all loans, lets gateways tell what they still hold
(`keep_grant`) and send again what they recorded, and lends when each has said that it has, or when everything that was
lent before has run out.
"""

from datetime import datetime, timedelta
from uuid import UUID

import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from chappe_billing.budgets import queries as budget_queries
from chappe_billing.budgets import service as budgets
from chappe_billing.gateways import check_gateway_name
from chappe_billing.grants import queries as grant_queries
from chappe_billing.grants.terms import GrantTimes
from chappe_billing.restoring import queries
from chappe_billing.restoring.queries import Reopening
from chappe_kernel.errors import Conflict, Invalid, NotFound, Unavailable
from chappe_kernel.ids import TenantId
from chappe_kernel.wire import control as wire
from chappe_store.queries import is_same_server, renew_epoch

_log = structlog.get_logger()

# Gateways that started after the backup are known only when they call: they do so each second.
_LISTENING = timedelta(seconds=5)
_SILENT = timedelta(minutes=5)
# When no grant is left to tell how long grants live here.
_USUAL_GRANT = timedelta(seconds=200)
_MAX_NANO = 2**62
_MAX_S = 48 * 3600.0


async def mark_restored(session: AsyncSession) -> UUID:
    """Give the database a new identity and stop lending. As the operator; the new epoch.

    Locks every budget. Before it commits, no gateway may reach a database that was restored.
    """
    epoch = await renew_epoch(session)
    at_most = await queries.read_longest_grant(session) or _USUAL_GRANT
    await queries.stop_lending(session, listening=_LISTENING, at_most=at_most)
    await queries.lock_all_budgets(session)
    closed = await queries.close_grants(session)
    await queries.forget_silent_gateways(session, _SILENT)
    _log.warning("database_restored", epoch=str(epoch), grants_closed=closed, lends_within_s=at_most.total_seconds())
    return epoch


async def mark_if_restored(session: AsyncSession) -> UUID | None:
    """`mark_restored`, if this is another server, or another timeline of it, than the one that has the epoch: somebody
    restored the database by other means, or promoted a standby. As the operator; None when nothing happened."""
    if await is_same_server(session, for_update=True):
        return None
    return await mark_restored(session)


async def check_lending(session: AsyncSession) -> None:
    """Raise `Unavailable` (`budget_unavailable`) while nothing may be lent."""
    if not await queries.is_lending(session):
        raise Unavailable(
            "the database was restored; it lends again when all gateways have sent again what they recorded",
            code="budget_unavailable",
        )


async def keep_grant(session: AsyncSession, *, region: str, grant_id: UUID, kept: wire.KeptGrant) -> None:
    """Count a grant that the restored database does not know, or has closed, as lent: all but what came back of it.

    As a region; locks the tenant's budget. Only while nothing is lent; a repeat changes nothing. What the funds do not
    cover (a payment was lost with the database) is not kept. Raises `Conflict` once lending has begun, `NotFound` for
    another's grant.
    """
    _check(kept)
    budget = (await budgets.lock_budgets(session, [kept.tenant_id])).get(kept.tenant_id)
    if budget is None:
        raise NotFound("no such tenant")
    if await queries.is_lending(session):
        raise Conflict("nothing was restored", code="not_restored")
    known = await grant_queries.find_grant(session, grant_id)
    if known is not None and (known.tenant_id, known.region, known.gateway) != (kept.tenant_id, region, kept.gateway):
        raise NotFound("no such grant")
    if known is None:
        returned_nano = kept.amount_nano - min(kept.amount_nano - kept.returned_nano, budget.free_nano)
        if not await _insert(session, region, grant_id, kept, await budget_queries.read_database_time(session)):
            raise NotFound("no such grant")
        amount_nano, posted_nano = kept.amount_nano, 0
    else:
        if known.released_at is None:
            return
        amount_nano, posted_nano = known.amount_nano, known.posted_nano
        rest_nano = max(0, amount_nano - max(known.returned_nano, kept.returned_nano) - posted_nano)
        returned_nano = amount_nano - posted_nano - min(rest_nano, budget.free_nano)
    await queries.reopen_grant(session, Reopening(grant_id, returned_nano, kept.settle_for_s, kept.release_for_s))
    rest_nano = amount_nano - returned_nano - posted_nano
    if not await budget_queries.take_pending(session, TenantId(kept.tenant_id), rest_nano):
        raise Unavailable("the budget changed under its lock", code="budget_unavailable")


def _check(kept: wire.KeptGrant) -> None:
    check_gateway_name(kept.gateway)
    if not 0 <= kept.returned_nano <= kept.amount_nano <= _MAX_NANO:
        raise Invalid("0 ≤ returned_nano ≤ amount_nano must hold", param="returned_nano")
    if not 0 <= kept.settle_for_s <= kept.release_for_s <= _MAX_S:
        raise Invalid("a grant settles, then is released, within two days", param="release_for_s")


async def _insert(session: AsyncSession, region: str, grant_id: UUID, kept: wire.KeptGrant, now: datetime) -> bool:
    """A grant that admits nothing any more."""
    ask = wire.AskGrant(grant_id, kept.tenant_id, kept.gateway, kept.amount_nano, 0, kept.budgets)
    return await grant_queries.insert_grant(session, region, ask, kept.amount_nano, GrantTimes(now, now, now))

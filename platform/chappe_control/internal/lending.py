"""Lending to gateways: at once if the money is there, else as soon as others have given back what lies idle."""

import asyncio

from chappe_billing.grants.errors import BudgetLent
from chappe_billing.grants.service import ask_grant
from chappe_control.internal.admission import check_tenant_may_run
from chappe_control.state import Services
from chappe_kernel.wire import control as wire
from chappe_store.audit_log.origin import Origin

MAX_WAIT_S = 1.0


async def lend(services: Services, region: str, ask: wire.AskGrant, origin: Origin) -> wire.Grant:
    """Waits `ask.wait_s` at most for what others give back. Each look is a transaction of its own: nothing is locked
    meanwhile. Raises what `ask_grant` and `check_tenant_may_run` raise.
    """
    loop = asyncio.get_running_loop()
    give_up_at = loop.time() + min(ask.wait_s, MAX_WAIT_S)
    async with services.shortages.waiting(ask.tenant_id) as came_back:
        while True:
            came_back.clear()
            try:
                return await _lend_now(services, region, ask, origin)
            except BudgetLent as shortage:
                if ask.needed_nano == 0:
                    # Nobody waits for it: that is no reason to take it from others.
                    raise
                services.shortages.recall(ask.tenant_id, shortage.holders - {(region, ask.gateway)})
                if not await _is_set(came_back, give_up_at - loop.time()):
                    raise


async def _lend_now(services: Services, region: str, ask: wire.AskGrant, origin: Origin) -> wire.Grant:
    async with services.database.ingest(origin) as session:
        tenant = await check_tenant_may_run(session, ask.tenant_id, region)
        has_contract = tenant.contract_reference is not None
        return await ask_grant(session, region=region, ask=ask, terms=services.terms, has_contract=has_contract)


async def _is_set(event: asyncio.Event, within_s: float) -> bool:
    if within_s <= 0:
        return False
    try:
        async with asyncio.timeout(within_s):
            await event.wait()
    except TimeoutError:
        return False
    return True

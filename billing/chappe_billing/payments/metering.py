"""Telling the service what tenants used each day, for operators who look at it there. It charges nobody."""

from datetime import UTC, datetime, time
from uuid import UUID, uuid5

from chappe_billing.payments import metering_queries
from chappe_billing.payments.calling import order_once
from chappe_billing.payments.metering_queries import UsedDay
from chappe_billing.payments.origin import payment_origin
from chappe_billing.payments.port import ReportUsage
from chappe_billing.payments.service import collecting_payer
from chappe_kernel.errors import Conflict, NotFound
from chappe_kernel.ids import TenantId
from chappe_store.session import Database, TenantScope

_AT_ONCE = 500


async def report_all(database: Database, meter: str) -> int:
    """Order a report of each tenant's day that is over and has none; how many those were. A day has one, whoever asks:
    its call's id is made of both. Safe to repeat, and to run at several places."""
    async with database.operator() as session:
        days = await metering_queries.list_unreported(session, meter, _AT_ONCE)
    return sum([await _report(database, meter, day) for day in days])


async def _report(database: Database, meter: str, used: UsedDay) -> bool:
    what = ReportUsage(meter=meter, value=used.amount_nano, at=datetime.combine(used.day, time(12), UTC))
    try:
        async with database.operator(payment_origin()) as session:
            payer = await collecting_payer(session, TenantScope(TenantId(used.tenant_id)))
            return await order_once(session, payer, what, call_id=call_id_of(used, meter))
    except (Conflict, NotFound):
        # Its legal entity has just ceased to collect by the service.
        return False


def call_id_of(used: UsedDay, meter: str) -> UUID:
    """Also the meter event's identifier, which the service takes once."""
    return uuid5(used.tenant_id, f"{meter} {used.day.isoformat()}")

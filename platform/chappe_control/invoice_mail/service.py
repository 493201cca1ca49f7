"""Ordering the letters that bring documents: once for each, in the transaction that notes it.

To the address that the tenant named for invoices goes the document itself; where none is named, its owners and billing
members are told where it is.
"""

from typing import Final
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from chappe_billing.alerts.queries import read_readers
from chappe_billing.billing_profiles.service import invoice_address, read_profile
from chappe_billing.documents import mailing
from chappe_control.invoice_mail.letters import ATTACHED, DOCUMENT, LINKED
from chappe_control.mail.orders import Order
from chappe_control.notices.service import Office
from chappe_kernel.ids import TenantId
from chappe_store.session import Database, TenantScope
from chappe_tenants.organisations.service import get_organisation

_AT_ONCE: Final = 50
_USEFUL_FOR: Final = mailing.MAILED_WITHIN
"""As long as a server may be away: the document is in the portal at once, and stays there."""


async def mail_documents(database: Database, office: Office) -> int:
    """Order the letters of every document that is made and was not mailed; how many documents that were. Safe to
    repeat, to kill, and to run at several places. Without a mail server nothing is noted: who sets one up later finds
    what is not too old waiting."""
    if not office.mail.is_open:
        return 0
    async with database.operator() as session:
        waiting = await mailing.list_unmailed(session, limit=_AT_ONCE)
    for tenant_id, invoice_id in waiting:
        async with database.operator() as session:
            await _mail(session, office, TenantId(tenant_id), invoice_id)
    return len(waiting)


async def _mail(session: AsyncSession, office: Office, tenant_id: TenantId, invoice_id: UUID) -> None:
    scope = TenantScope(tenant_id)
    profile = await read_profile(session, scope)
    named = invoice_address(profile)
    if named is not None:
        readers = {named: profile.language}
    else:
        found = await read_readers(session, tenant_id)
        readers = {one.email: one.language or profile.language for one in found}
    if not await mailing.note_mailed(session, tenant_id, invoice_id, letters=len(readers)):
        return
    tenant = await get_organisation(session, scope)
    values = {
        "invoice_id": str(invoice_id),
        "how": LINKED if named is None else ATTACHED,
        "organisation": tenant.name,
        "portal_url": office.portal_url,
    }
    for email, language in readers.items():
        await office.mail.order(session, Order(DOCUMENT, email, language, values), useful_for=_USEFUL_FOR)

"""Everybody who is to hear of something: people by letter, programs by webhook, in one transaction and so once each."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

import msgspec
from msgspec import Struct
from sqlalchemy.ext.asyncio import AsyncSession

from chappe_billing.alerts import queries as alerts
from chappe_billing.alerts.kinds import NOTICE as NOTICE_TOPIC
from chappe_billing.alerts.queries import Settings
from chappe_billing.alerts.service import scope_of
from chappe_billing.billing_profiles.service import invoice_address, read_profile
from chappe_control.mail.orders import Order
from chappe_control.mail.service import Mail
from chappe_control.notices.letters import NOTICE
from chappe_control.pages.languages import DEFAULT_LANGUAGE
from chappe_control.webhooks import service as webhooks
from chappe_control.webhooks.kinds import EventKind
from chappe_kernel.ids import INVOICE, TENANT, decode_id, encode_id
from chappe_kernel.money import parse_nano
from chappe_store import outbox
from chappe_store.session import Database
from chappe_tenants.organisations.service import get_organisation

THRESHOLD: Final = "budget.threshold_reached"
PAYMENT_FAILED: Final = "payment.failed"
PAYMENT_SUCCEEDED: Final = "payment.succeeded"
TOPICS: Final = (NOTICE_TOPIC, THRESHOLD, PAYMENT_FAILED, PAYMENT_SUCCEEDED)
_AT_ONCE: Final = 32
_LEASE: Final = timedelta(minutes=1)
# A letter that comes later than this tells of what is long known otherwise.
_USEFUL_FOR: Final = timedelta(days=5)
# Whoever pays invoices hears what follows from not paying them.
_ABOUT_INVOICES: Final = frozenset({EventKind.INVOICE_REMINDER, EventKind.INVOICE_OVERDUE, EventKind.SUSPENDED})
_BY_COUNTRY: Final[Mapping[str, str]] = {"FR": "fr", "LU": "fr", "MC": "fr", "DE": "de", "AT": "de", "LI": "de"}


class Office(Struct, frozen=True):
    """Who writes letters, and where they lead."""

    mail: Mail
    portal_url: str


async def tell_waiting(database: Database, office: Office) -> int:
    """Whatever the outbox has for tenants; how many messages were passed on. Safe to repeat, to kill, and to run at
    several places: what is passed on is marked in the transaction that does it."""
    async with database.operator() as session:
        if not await outbox.is_any_due(session, TOPICS):
            return 0
    told = 0
    for topic in TOPICS:
        async with database.operator() as session:
            claimed = await outbox.claim_due(session, topic, lease=_LEASE, limit=_AT_ONCE)
        for one in claimed:
            async with database.operator() as session:
                if await outbox.hold(session, one.id):
                    await _pass_on(session, office, topic, one)
                    await outbox.mark_delivered(session, one.id)
                    told += 1
    return told


async def _pass_on(session: AsyncSession, office: Office, topic: str, message: outbox.Claimed) -> None:
    payload = dict(message.payload)
    tenant_id = read_tenant(str(payload.pop("tenant_id")))
    if topic == NOTICE_TOPIC:
        kind, data, worth_a_letter = EventKind(payload["kind"]), payload["data"], True
    else:
        kind, data = EventKind(topic), _public(payload)
        worth_a_letter = await _note_payment(session, tenant_id, topic, message.id, payload)
    await webhooks.publish(session, tenant_id, message.id, kind, data)
    if worth_a_letter and office.mail.is_open:
        await _order_letters(session, office, tenant_id, kind, data)


async def _note_payment(
    session: AsyncSession, tenant_id: UUID, topic: str, message_id: UUID, data: Mapping[str, Any]
) -> bool:
    """A failure is kept until a later payment makes up for it. Whether people have to hear of it: a payment that came
    in is news to those alone who were told that it had not, or who have paid more than was open."""
    text = data.get("invoice_id")
    invoice_id = None if text is None else read_uuid(str(text))
    if topic == PAYMENT_FAILED:
        await alerts.insert_failure(
            session,
            tenant_id,
            message_id,
            invoice_id=invoice_id,
            amount_nano=parse_nano(str(data["amount"])),
            currency=str(data["currency"]),
            reason=str(data.get("reason") or "unknown")[:200],
        )
    elif topic == PAYMENT_SUCCEEDED:
        recovered = await alerts.recover_failures(session, tenant_id, invoice_id, before=message_id)
        return recovered > 0 or data.get("credited") is not None
    return True


async def _order_letters(
    session: AsyncSession, office: Office, tenant_id: UUID, kind: EventKind, data: Mapping[str, Any]
) -> None:
    settings = (await alerts.read_settings(session, [tenant_id])).get(tenant_id, Settings())
    if kind in settings.muted:
        return
    tenant = await get_organisation(session, scope_of(tenant_id))
    usual = settings.language or _BY_COUNTRY.get(tenant.country or "", DEFAULT_LANGUAGE)
    languages = dict.fromkeys(settings.emails, usual)
    if settings.to_members:
        languages |= {one.email: one.language or usual for one in await alerts.read_readers(session, tenant_id)}
    if kind in _ABOUT_INVOICES:
        profile = await read_profile(session, scope_of(tenant_id))
        named = invoice_address(profile)
        if named is not None:
            languages[named] = profile.language
    values = {
        "kind": kind,
        "organisation": tenant.name,
        "portal_url": office.portal_url,
        "data": msgspec.json.encode(data).decode(),
    }
    for email, language in languages.items():
        await office.mail.order(session, Order(NOTICE, email, language, values), useful_for=_USEFUL_FOR)


def _public(payload: Mapping[str, Any]) -> dict[str, Any]:
    """Ids as the API shows them, and none of a payment, which it does not show."""
    data = {name: value for name, value in payload.items() if name != "payment_id"}
    if data.get("invoice_id") is not None:
        data["invoice_id"] = encode_id(INVOICE, read_uuid(str(data["invoice_id"])))
    return data


def read_tenant(text: str) -> UUID:
    return decode_id(TENANT, text) if text.startswith(f"{TENANT}_") else UUID(text)


def read_uuid(text: str) -> UUID:
    """Of an id as the API shows it, or as the database does."""
    prefix, found, _ = text.partition("_")
    return decode_id(prefix, text) if found else UUID(text)

"""Where the payment service is spoken to, and listened to. No transaction is open meanwhile.

Nothing of it is built before a legal entity collects by it: an operator that uses none has no connection to any.
"""

import asyncio
from contextlib import suppress
from datetime import timedelta

import structlog
from msgspec import structs
from sqlalchemy import event as events
from sqlalchemy.ext.asyncio import AsyncSession

from chappe_billing.payments import applying, auto_top_ups, calling, cash, collecting, metering, queries
from chappe_billing.payments.models import Method
from chappe_billing.payments.origin import payment_origin
from chappe_billing.payments.port import (
    CashSeen,
    CheckoutSeen,
    Event,
    Impossible,
    PaymentSeen,
    PaymentService,
    RequestSeen,
    Seen,
    Subject,
)
from chappe_billing.payments.service import Bounds
from chappe_billing.payments.stripe_service import StripeService, StripeSettings
from chappe_control.settings import WorkSettings
from chappe_kernel.clock import Clock
from chappe_kernel.errors import ChappeError, NotFound, Unavailable
from chappe_store.session import Database

_log = structlog.get_logger()
_FIRST_LOOK_BACK = timedelta(days=3)
"""For so long the service itself goes on sending what it could not deliver."""
_OVERLAP = timedelta(hours=1)
_QUIET_FOR = timedelta(minutes=1)
_LOOK_AT_ONCE = 20


class PaymentOffice:
    """`settings` is None where the operator has no account with the service; `meter` is the event by which it is told
    what tenants use, or nothing."""

    def __init__(
        self, settings: StripeSettings | None, database: Database, clock: Clock, bounds: Bounds, *, meter: str = ""
    ) -> None:
        self.bounds = bounds
        self._meter = meter
        self._settings = settings
        self._database = database
        self._clock = clock
        self._service: PaymentService | None = None
        self._ordered = asyncio.Event()

    async def service(self) -> PaymentService | None:
        """None while nobody collects by it, or there is no key."""
        if self._settings is None:
            return None
        async with self._database.operator() as session:
            if not await queries.is_collected(session):
                return None
        if self._service is None:
            self._service = StripeService(self._settings)
        return self._service

    async def close(self) -> None:
        if self._service is not None:
            await self._service.close()

    @property
    def is_open(self) -> bool:
        """Whether there is an account at all; each legal entity says for itself whether it collects by it."""
        return self._settings is not None

    def wake_after(self, session: AsyncSession) -> None:
        """Something is ordered in this transaction: nobody need find out by looking."""
        events.listen(session.sync_session, "after_commit", lambda _: self._ordered.set(), once=True)

    async def until_ordered(self, most_s: float) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._ordered.wait(), most_s)
        self._ordered.clear()

    async def hear(self, raw: bytes, signature: str | None) -> str:
        """An event that was delivered; what it did. Raises `NotFound` where nobody collects by the service,
        `NotGenuine`, and `TryLater` when the present state cannot be looked up: then it is delivered again."""
        service = await self.service()
        if service is None:
            raise NotFound("nothing is expected here")
        return await self._hear(service, service.read_event(raw, signature))

    async def carry_out_due(self, *, newest_first: bool = False) -> int:
        service = await self.service()
        if service is None:
            return 0
        now = self._clock.now()
        return await calling.carry_out_due(self._database, service, now, live=self._live, newest_first=newest_first)

    async def catch_up(self) -> int:
        """Look through the service's own list for events that never arrived; how many those were. Raises `TryLater`."""
        service = await self.service()
        if service is None:
            return 0
        async with self._database.operator() as session:
            seen_until = await queries.read_seen_until(session)
        begun_at = self._clock.now()
        since = begun_at - _FIRST_LOOK_BACK if seen_until is None else seen_until - _OVERLAP
        ours = [event for event in await service.list_events(since) if self._is_ours(event)]
        effects = [await self._hear(service, event) for event in ours]
        async with self._database.operator() as session:
            await queries.set_seen_until(session, begun_at)
        return sum(effect != "repeated" for effect in effects)

    async def look_after(self) -> int:
        """Ask about what is under way and of which nobody has heard for a while; how many were asked about."""
        service = await self.service()
        if service is None:
            return 0
        async with self._database.operator() as session:
            unsettled = await queries.claim_unsettled(session, quiet_for=_QUIET_FOR, limit=_LOOK_AT_ONCE)
            refunds = await queries.list_refunds_under_way(session, _LOOK_AT_ONCE)
        wanted = [_subject_of(one) for one in unsettled] + [(Subject.REFUND, refund) for refund in refunds]
        for subject, object_id in wanted:
            seen = await self._look(service, subject, object_id)
            if seen is not None:
                await self._take_in_first(service, seen)
                await self._apply(seen, None)
        return len(wanted)

    async def top_up_all(self) -> int:
        return 0 if await self.service() is None else await auto_top_ups.top_up_all(self._database)

    async def collect_all(self) -> int:
        return 0 if await self.service() is None else await collecting.collect_all(self._database)

    async def withdraw_all(self) -> int:
        return 0 if await self.service() is None else await collecting.withdraw_all(self._database)

    async def collect_again(self) -> int:
        return 0 if await self.service() is None else await collecting.collect_again(self._database)

    async def report_usage(self) -> int:
        if not self._meter or await self.service() is None:
            return 0
        return await metering.report_all(self._database, self._meter)

    @property
    def _live(self) -> bool:
        return self._settings is not None and self._settings.live

    def _is_ours(self, event: Event) -> bool:
        return event.live is self._live

    async def _hear(self, service: PaymentService, event: Event) -> str:
        async with self._database.operator() as session:
            if await queries.is_known(session, event.id):
                return "repeated"
        seen = None
        if event.subject is not None and event.object_id is not None:
            seen = await self._look(service, event.subject, event.object_id)
        if isinstance(seen, CashSeen):
            seen = await self._attribute(service, seen)
        elif seen is not None:
            await self._take_in_first(service, seen)
        effect = await self._apply(seen, event)
        if isinstance(seen, CheckoutSeen) and seen.saves_method and seen.customer is not None:
            methods = await self._look(service, Subject.METHODS, seen.customer)
            if methods is not None:
                await self._apply(methods, None)
        _log.info("payment_event", event_id=event.id, kind=event.kind, effect=effect)
        return effect

    async def _take_in_first(self, service: PaymentService, seen: Seen) -> None:
        """What pays a request arrived before: it is settled before the request is thought to be paid."""
        if isinstance(seen, RequestSeen) or (isinstance(seen, PaymentSeen) and seen.method is Method.BANK_TRANSFER):
            customer = seen.customer
        else:
            return
        money = None if customer is None else await self._look(service, Subject.CASH, customer)
        if isinstance(money, CashSeen):
            await self._apply(await self._attribute(service, money), None)

    async def _attribute(self, service: PaymentService, seen: CashSeen) -> CashSeen:
        """What is new of it, with the payments that the service applied it to."""
        async with self._database.operator() as session:
            new = await cash.list_new(session, seen)
        intents = {move.intent_id for move in new if move.intent_id is not None}
        found = {intent: await self._look(service, Subject.PAYMENT, intent) for intent in sorted(intents)}
        payments = {intent: one.payment for intent, one in found.items() if isinstance(one, PaymentSeen)}
        moves = [structs.replace(move, payment=payments.get(move.intent_id or "")) for move in new]
        return CashSeen(seen.customer, tuple(moves))

    async def _look(self, service: PaymentService, subject: Subject, object_id: str) -> Seen | None:
        """Raises `TryLater`. What cannot be read is put where a person sees it."""
        try:
            return await service.look(subject, object_id)
        except Impossible as error:
            _log.error("payment_not_read", subject=subject, object=object_id, detail=error.detail)
            await self._put_aside(object_id, "unreadable")
            return None

    async def _apply(self, seen: Seen | None, event: Event | None) -> str:
        """In one transaction with the event's own row."""
        try:
            async with self._database.operator(payment_origin()) as session:
                effect = "ignored" if seen is None else await applying.apply(session, seen, live=self._live)
                if event is not None:
                    await _insert_once(session, event, effect)
        except _RepeatedError:
            return "repeated"
        except Unavailable:
            raise
        except ChappeError as error:
            # What the ledger refuses would be refused the next time too: a person decides, and what follows goes on.
            _log.error("payment_not_applied", code=error.code, event_id=None if event is None else event.id)
            await self._put_aside(_name_of(seen, event), error.code[:50], event)
            return "quarantined"
        self._wake()
        return effect

    async def _put_aside(self, service_id: str, reason: str, event: Event | None = None) -> None:
        async with self._database.operator(payment_origin()) as session:
            await queries.put_into_quarantine(
                session, service_id=service_id, reason=reason, payment_id=None, currency="XXX", amount_minor=0
            )
            if event is not None:
                await queries.insert_event(session, event, "quarantined")

    def _wake(self) -> None:
        self._ordered.set()


async def _insert_once(session: AsyncSession, event: Event, effect: str) -> None:
    if not await queries.insert_event(session, event, effect):
        raise _RepeatedError


class _RepeatedError(Exception):
    """Somebody else applied this event meanwhile: what was done here is undone."""


def _subject_of(one: queries.Unsettled) -> tuple[Subject, str]:
    if one.session_id is None:
        return Subject.PAYMENT, one.intent_id or ""
    return (Subject.INVOICE if one.session_id.startswith("in_") else Subject.CHECKOUT), one.session_id


def _name_of(seen: Seen | None, event: Event | None) -> str:
    if event is not None and event.object_id is not None:
        return event.object_id
    return str(getattr(seen, seen.__struct_fields__[0])) if seen is not None else "unknown"


def open_payments(settings: WorkSettings, database: Database, clock: Clock) -> PaymentOffice:
    """Raises `Invalid` for settings that cannot work."""
    bounds = Bounds(settings.top_up_least_nano, settings.top_up_most_nano)
    if not settings.stripe_api_key:
        return PaymentOffice(None, database, clock, bounds)
    stripe = StripeSettings(
        api_key=settings.stripe_api_key,
        webhook_secret=settings.stripe_webhook_secret,
        api_base=settings.stripe_api_base,
        account=settings.stripe_account,
    )
    stripe.check()
    return PaymentOffice(stripe, database, clock, bounds, meter=settings.stripe_meter_event)

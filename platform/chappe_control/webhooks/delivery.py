"""The worker that delivers: from the outbox, at least once, with no transaction open while an endpoint is spoken to."""

import asyncio
from datetime import timedelta
from typing import Final

import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from chappe_control.webhooks import queries
from chappe_control.webhooks.kinds import EventKind
from chappe_control.webhooks.queries import Work
from chappe_control.webhooks.schedule import reason_to_disable, wait_after
from chappe_control.webhooks.sealing import SecretSeal
from chappe_control.webhooks.sending import Answer, Sender
from chappe_control.webhooks.service import TOPIC
from chappe_control.webhooks.signing import headers_of
from chappe_control.webhooks.target import parse_target
from chappe_kernel.clock import Clock
from chappe_kernel.errors import Invalid, Unavailable
from chappe_kernel.ids import EVENT, TENANT, WEBHOOK, encode_id
from chappe_store import outbox
from chappe_store.audit_log.origin import command_origin
from chappe_store.session import Database

_AT_ONCE: Final = 32
# Longer than any try may take: what is not heard of by then belonged to a process that is gone.
_LEASE: Final = timedelta(minutes=2)
KEPT_FOR: Final = timedelta(days=30)
_USER_AGENT: Final = "Chappe-Webhooks/1"

_log = structlog.get_logger()


class Courier:
    """Delivers what is due. Any number of processes may do so side by side."""

    def __init__(
        self, database: Database, seal: SecretSeal, sender: Sender, clock: Clock, *, to_loopback: bool
    ) -> None:
        self._database = database
        self._seal = seal
        self._sender = sender
        self._clock = clock
        self._to_loopback = to_loopback

    def close(self) -> None:
        self._sender.close()

    async def deliver_due(self) -> int:
        """Try what is due, some at a time; how many that were."""
        async with self._database.operator() as session:
            if not await outbox.is_any_due(session, [TOPIC]):
                return 0
            claimed = await outbox.claim_due(session, TOPIC, lease=_LEASE, limit=_AT_ONCE)
        await asyncio.gather(*(self._try(one) for one in claimed))
        return len(claimed)

    async def drop_old(self, kept_for: timedelta = KEPT_FOR) -> int:
        """The log's end: how many events of over a month ago went, with all that was tried of them."""
        async with self._database.operator() as session:
            return await queries.drop_old(session, kept_for)

    async def _try(self, claimed: outbox.Claimed) -> None:
        async with self._database.operator() as session:
            work = await queries.read_work(session, claimed.id)
            if work is not None and not work.is_open:
                attempts = claimed.attempts - 1
                await queries.end_delivery(session, work.tenant_id, claimed.id, state="failed", attempts=attempts)
            if work is None or not work.is_open:
                await outbox.give_up(session, claimed.id)
                return
        await self._note(work, claimed, await self._send(work))

    async def _send(self, work: Work) -> Answer:
        try:
            target = parse_target(work.url, to_loopback=self._to_loopback)
            sealed = (work.secret, *((work.old_secret,) if work.old_secret is not None else ()))
            keys = [self._seal.open(one, work.endpoint_id) for one in sealed]
        except (Invalid, Unavailable) as error:
            return Answer(None, error.code, 0)
        body = work.body.encode()
        signed = headers_of(keys, message_id=encode_id(EVENT, work.event_id), now=self._clock.now(), body=body)
        headers = {"content-type": "application/json", "user-agent": _USER_AGENT, **signed}
        return await self._sender.post(target, body, headers)

    async def _note(self, work: Work, claimed: outbox.Claimed, answer: Answer) -> None:
        """What came of it, in one transaction: killed before it, the same event is sent again under the same id."""
        tenant_id, attempts = work.tenant_id, claimed.attempts
        wait = None if answer.is_taken else wait_after(attempts)
        async with self._database.operator(command_origin()) as session:
            if not await outbox.hold(session, claimed.id):
                return
            await queries.insert_attempt(session, tenant_id, claimed.id, attempts, answer)
            if wait is not None:
                await queries.note_try(session, tenant_id, claimed.id, attempts=attempts, next_in=wait)
                await outbox.postpone(session, claimed.id, wait)
            else:
                state = "delivered" if answer.is_taken else "failed"
                await queries.end_delivery(session, tenant_id, claimed.id, state=state, attempts=attempts)
                await (outbox.mark_delivered if answer.is_taken else outbox.give_up)(session, claimed.id)
            await _judge(session, work, answer)
        _log.info("webhook_tried", delivery=str(claimed.id), attempt=attempts, status=answer.status, error=answer.error)


async def _judge(session: AsyncSession, work: Work, answer: Answer) -> None:
    """Whether the endpoint fails, since when, and whether it has failed for too long: then its tenant is told, once."""
    health = await queries.lock_endpoint(session, work.tenant_id, work.endpoint_id)
    since = None if answer.is_taken else health.failing_since or health.now
    values: dict[str, object] = {"failing_since": since}
    reason = None if since is None else reason_to_disable(answer.status, since, health.now)
    if reason is not None and not health.is_disabled:
        values |= {"disabled_at": health.now, "disabled_reason": reason}
        data = {"webhook_id": encode_id(WEBHOOK, work.endpoint_id), "url": work.url, "reason": reason}
        notice = {"kind": EventKind.WEBHOOK_DISABLED, "tenant_id": encode_id(TENANT, work.tenant_id), "data": data}
        await outbox.enqueue(session, "notice", [notice])
    await queries.update_endpoint(session, work.tenant_id, work.endpoint_id, values)

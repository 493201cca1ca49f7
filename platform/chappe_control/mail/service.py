"""Ordering letters, and sending those that are due.

An order is written in the transaction that gives reason to the letter. What the letter says is decided when it is sent,
by the kind's own writer: whether an address has an account is not even looked up while somebody waits for an answer.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from datetime import timedelta
from email.errors import MessageError
from email.headerregistry import Address
from typing import Final

import structlog
from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncSession

from chappe_control.mail.letters import Letter, parse_sender, write_message
from chappe_control.mail.orders import Order, Seal, Unreadable
from chappe_control.mail.smtp import NotTaken, SmtpServer, parse_smtp_url
from chappe_control.settings import WorkSettings
from chappe_kernel.clock import Clock
from chappe_store import outbox
from chappe_store.session import Database

TOPIC: Final = "mail"
_AT_ONCE: Final = 8
# Longer than any try may take: what is not heard of by then belonged to a process that is gone.
_LEASE: Final = timedelta(minutes=2)
_FIRST_WAIT_S: Final = 5.0
_LONGEST_WAIT_S: Final = 900.0

Writer = Callable[[Database, Order], Awaitable[Letter | None]]
"""Writes the letters of one kind. None: there is nothing to tell, and nothing is sent."""

_log = structlog.get_logger()


class Mail:
    """The office. Without a server it takes orders that nobody delivers, so ask `is_open` before promising a letter."""

    def __init__(
        self,
        database: Database,
        seal: Seal,
        writers: Mapping[str, Writer],
        clock: Clock,
        *,
        server: SmtpServer | None,
        sender: Address | None,
    ) -> None:
        self._database = database
        self._seal = seal
        self._writers = writers
        self._clock = clock
        self._server = server
        self._sender = sender
        self._ordered = asyncio.Event()

    @property
    def is_open(self) -> bool:
        return self._server is not None

    async def order(self, session: AsyncSession, order: Order, *, useful_for: timedelta) -> None:
        """A letter, once this transaction is committed; after `useful_for` it is not sent any more.

        `session` is of any role: all may write to the outbox.
        """
        if order.kind not in self._writers:
            raise ValueError(f"nobody writes letters of the kind {order.kind}")
        await outbox.enqueue_until(session, TOPIC, self._seal.close(order), useful_for=useful_for)
        # This process need not find out by looking.
        event.listen(session.sync_session, "after_commit", lambda _: self.wake(), once=True)

    def wake(self) -> None:
        """Something was ordered: whoever waits in `until_ordered` need not wait any longer."""
        self._ordered.set()

    async def until_ordered(self, most_s: float) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._ordered.wait(), most_s)
        self._ordered.clear()

    async def send_due(self, *, newest_first: bool = False) -> int:
        """Try what is due, some at a time, longest due first; how many that were. Any number of processes may do so
        side by side."""
        if self._server is None or self._sender is None:
            return 0
        async with self._database.operator() as session:
            claimed = await outbox.claim_due(session, TOPIC, lease=_LEASE, limit=_AT_ONCE, newest_first=newest_first)
        await asyncio.gather(*(self._try(one, self._server, self._sender) for one in claimed))
        return len(claimed)

    async def _try(self, claimed: outbox.Claimed, server: SmtpServer, sender: Address) -> None:
        """One letter. No transaction is open while the server is spoken to."""
        if claimed.expired:
            await self._give_up(claimed, "expired")
            return
        try:
            order = self._seal.open(claimed.payload)
            letter = await self._writers[order.kind](self._database, order)
            if letter is not None:
                message = write_message(
                    letter,
                    sender=sender,
                    to=order.to,
                    language=order.language,
                    message_id=claimed.id,
                    written_at=self._clock.now(),
                )
                await server.send(message, sender=sender.addr_spec, to=order.to)
        except (Unreadable, KeyError, ValueError, MessageError):
            # Such as an address that is none: one letter that cannot be written keeps no other waiting.
            await self._give_up(claimed, "unreadable")
        except NotTaken as error:
            if error.permanent:
                await self._give_up(claimed, error.reason)
            else:
                await self._postpone(claimed, error.reason)
        else:
            async with self._database.operator() as session:
                await outbox.mark_delivered(session, claimed.id)
            _log.info("mail_sent", message=str(claimed.id), attempts=claimed.attempts)

    async def _give_up(self, claimed: outbox.Claimed, reason: str) -> None:
        async with self._database.operator() as session:
            await outbox.give_up(session, claimed.id)
        _log.error("mail_given_up", message=str(claimed.id), attempts=claimed.attempts, reason=reason)

    async def _postpone(self, claimed: outbox.Claimed, reason: str) -> None:
        wait_s = min(_FIRST_WAIT_S * 2 ** (claimed.attempts - 1), _LONGEST_WAIT_S)
        async with self._database.operator() as session:
            await outbox.postpone(session, claimed.id, timedelta(seconds=wait_s))
        _log.warning("mail_postponed", message=str(claimed.id), attempts=claimed.attempts, reason=reason, wait_s=wait_s)


def open_mail(
    settings: WorkSettings, database: Database, seal: Seal, writers: Mapping[str, Writer], clock: Clock
) -> Mail:
    """Raises `Invalid` for settings that cannot work."""
    if not settings.smtp_url:
        return Mail(database, seal, writers, clock, server=None, sender=None)
    server, sender = parse_smtp_url(settings.smtp_url), parse_sender(settings.mail_from)
    return Mail(database, seal, writers, clock, server=server, sender=sender)

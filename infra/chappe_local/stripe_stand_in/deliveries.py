"""Sending webhooks: signed, again and again until somebody takes them."""

import asyncio
import hashlib
import hmac
import json
import time
from collections.abc import Callable, Mapping
from typing import Final

import aiohttp
import structlog

from chappe_local.stripe_stand_in.store import Store

_log = structlog.get_logger()
_TIMEOUT_S: Final = 10.0
_FIRST_BACK_OFF_S: Final = 1.0
_LONGEST_BACK_OFF_S: Final = 60.0
_MOST_ATTEMPTS: Final = 4000
"""About three days of trying, as Stripe's live mode does."""
_AT_ONCE: Final = 16
_LONGEST_SLEEP_S: Final = 1.0


def signature(payload: bytes, secret: str, at: int) -> str:
    """The header `Stripe-Signature`: HMAC-SHA256 over the time, a dot and the raw body."""
    digest = hmac.new(secret.encode(), f"{at}.".encode() + payload, hashlib.sha256).hexdigest()
    return f"t={at},v1={digest}"


def back_off_s(attempts: int) -> float:
    """How long to wait after so many failed attempts."""
    return min(_LONGEST_BACK_OFF_S, _FIRST_BACK_OFF_S * 2.0 ** min(attempts - 1, 10))


class Courier:
    """Delivers what is due, and does what else the clock has made due, in one task of its own."""

    def __init__(
        self, store: Store, clock: Callable[[], float], run_due: Callable[[], None], secrets: Mapping[str, str]
    ) -> None:
        """`secrets` are those of the configured endpoints, by id; the others' are in the store."""
        self._store = store
        self._secrets = secrets
        self._clock = clock
        self._run_due = run_due
        self._wake = asyncio.Event()

    def wake(self) -> None:
        """Something new may be due."""
        self._wake.set()

    async def run(self) -> None:
        timeout = aiohttp.ClientTimeout(total=_TIMEOUT_S)
        async with aiohttp.ClientSession(timeout=timeout, cookie_jar=aiohttp.DummyCookieJar()) as session:
            while True:
                self._wake.clear()
                self._run_due()
                if not await self._deliver_due(session):
                    await self._sleep()

    async def _deliver_due(self, session: aiohttp.ClientSession) -> bool:
        """Whether there was anything. Reordered ones go one by one, the newest first: at once they would race."""
        with self._store.transaction():
            switches = self._store.setting("webhooks", {})
            if switches.get("hold") or self._store.setting("away", default=False):
                return False
            reorder = bool(switches.get("reorder"))
            due = self._store.due_deliveries(self._clock(), newest_first=reorder, limit=_AT_ONCE)
        if reorder:
            for one in due:
                await self._deliver(session, *one)
        else:
            await asyncio.gather(*(self._deliver(session, *one) for one in due))
        return bool(due)

    async def _deliver(
        self, session: aiohttp.ClientSession, seq: int, event_id: str, endpoint_id: str, tried: int
    ) -> None:
        with self._store.transaction():
            event = self._store.find(event_id)
            endpoint = self._store.find(endpoint_id)
        if event is None or endpoint is None or endpoint["status"] != "enabled":
            self._note(seq, "given_up", tried, 0, None)
            return
        payload = json.dumps(event, indent=2).encode()
        # The receiver compares with its own clock, which nobody advances.
        header = signature(payload, self._secrets.get(endpoint_id) or endpoint["_secret"], int(time.time()))
        headers = {
            "content-type": "application/json; charset=utf-8",
            "stripe-signature": header,
            "user-agent": "Stripe/1.0",
        }
        status: int | None = None
        try:
            async with session.post(endpoint["url"], data=payload, headers=headers, allow_redirects=False) as reply:
                status = reply.status
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            if tried == 0:
                _log.info("webhook_not_delivered", event_type=event["type"], error=type(error).__name__)
        attempts = tried + 1
        if status is not None and status // 100 == 2:  # noqa: PLR2004 -- 2xx
            self._note(seq, "delivered", attempts, 0, status)
        elif attempts >= _MOST_ATTEMPTS:
            self._note(seq, "given_up", attempts, 0, status)
        else:
            self._note(seq, "waiting", attempts, back_off_s(attempts), status)

    def _note(self, seq: int, state: str, attempts: int, after_s: float, status: int | None) -> None:
        with self._store.transaction():
            due = self._clock() + after_s
            self._store.note_delivery(seq, state=state, attempts=attempts, due=due, status=status)

    async def _sleep(self) -> None:
        with self._store.transaction():
            held = self._store.setting("webhooks", {}).get("hold") or self._store.setting("away", default=False)
            wanted = (None if held else self._store.next_delivery(), self._store.next_task())
            times = [at for at in wanted if at is not None]
        until = max(0.01, min(times) - self._clock()) if times else _LONGEST_SLEEP_S
        try:
            await asyncio.wait_for(self._wake.wait(), min(until, _LONGEST_SLEEP_S))
        except TimeoutError:
            return

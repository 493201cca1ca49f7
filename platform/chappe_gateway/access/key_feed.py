"""Follows whose keys' facts change, several times a second, so that what is remembered of them is forgotten in time."""

import asyncio
from collections.abc import Callable, Sequence

import structlog

from chappe_gateway.control_client import ControlClient, ControlUnreachable
from chappe_kernel.clock import Clock
from chappe_kernel.wire.control import KeyChange

_log = structlog.get_logger()

Changes = Sequence[KeyChange] | None
"""What may have changed; None is everything."""


class KeyFeed:
    """One per gateway process. Whatever had changed at `revision` has been told to every listener."""

    def __init__(self, control: ControlClient, clock: Clock, period_s: float) -> None:
        self._control = control
        self._clock = clock
        self._period_s = period_s
        self._epoch = ""
        self._listeners: list[Callable[[Changes], None]] = []
        self._reachable = True
        self.revision = 0
        self.confirmed_at = float("-inf")
        """Monotonic: what changed before is known here."""

    def on_change(self, listener: Callable[[Changes], None]) -> None:
        """Call `listener(changes)` at once whenever something has changed, in the order of these calls."""
        self._listeners.append(listener)

    async def poll(self) -> None:
        """One question to the control plane. What it answers is as old as the question, at most."""
        sent_at = self._clock.monotonic()
        try:
            answer = await self._control.read_key_changes(self.revision, self._epoch)
        except ControlUnreachable as error:
            if self._reachable:
                _log.warning("key_changes_unreachable", reason=error.message)
            self._reachable = False
            return
        self._reachable = True
        self._epoch, self.revision = answer.epoch, answer.revision
        if answer.changes is None or answer.changes:
            for listener in self._listeners:
                listener(answer.changes)
        self.confirmed_at = sent_at

    async def run(self) -> None:
        """Poll for ever."""
        while True:
            await asyncio.sleep(self._period_s)
            await self.poll()

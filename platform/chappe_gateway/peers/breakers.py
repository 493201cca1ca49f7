"""The circuit breakers of one gateway process, by name, with its clock and its chance (`chappe_kernel.breaker`)."""

import random
from collections.abc import Container

import structlog

from chappe_kernel.breaker import Breaker, BreakerState
from chappe_kernel.clock import Clock

_log = structlog.get_logger()


class Breakers:
    """One for each name that ever failed: what never did has none, and costs a look-up."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._breakers: dict[str, Breaker] = {}

    def would_pass(self, name: str) -> bool:
        """Whether it is worth sending something there now. Takes nothing."""
        breaker = self._breakers.get(name)
        return breaker is None or breaker.is_closed or breaker.would_pass(self._clock.monotonic())

    def take(self, name: str) -> bool:
        """Whether this call may go out; what became of it must be told."""
        breaker = self._breakers.get(name)
        return breaker is None or breaker.is_closed or breaker.take(self._clock.monotonic())

    def succeeded(self, name: str) -> None:
        breaker = self._breakers.get(name)
        if breaker is not None:
            was_closed = breaker.is_closed
            breaker.succeeded(self._clock.monotonic())
            if breaker.is_closed and not was_closed:
                _log.info("breaker_closed", name=name)

    def failed(self, name: str) -> None:
        breaker = self._breakers.get(name)
        if breaker is None:
            breaker = self._breakers[name] = Breaker()
        was_closed = breaker.is_closed
        breaker.failed(self._clock.monotonic(), random.random())  # noqa: S311  # it spreads load, and hides nothing
        if was_closed and not breaker.is_closed:
            _log.warning("breaker_opened", name=name)

    def forget(self, name: str) -> None:
        """The call ended for a reason of its own."""
        breaker = self._breakers.get(name)
        if breaker is not None:
            breaker.forget()

    def states(self) -> list[tuple[str, BreakerState]]:
        now = self._clock.monotonic()
        return [(name, breaker.state(now)) for name, breaker in self._breakers.items()]

    def keep(self, names: Container[str]) -> None:
        """Forget all others."""
        self._breakers = {name: breaker for name, breaker in self._breakers.items() if name in names}

"""How many requests of one deployment may be in flight: additive increase, multiplicative decrease on measured TTFT.

Serve and the engines queue first in, first out; whatever waits there waits unfairly. So no more is sent than they can
take (`capacity`, a hard cap), and less if they take it but keep first tokens waiting.
"""

import math
from dataclasses import dataclass

# A window is as many first tokens as requests may be in flight, and at least these.
_FEWEST_SAMPLES = 8
# With this part of a window's first tokens late, the engine has a queue of its own.
_LATE_PART = 0.25
_DECREASE = 0.8
# It does not fall below this part of the capacity.
_LEAST_PART = 16


@dataclass(frozen=True, slots=True)
class TtftTarget:
    """What counts as late: more than a base and the time that the prompt itself takes."""

    base_s: float = 1.0
    prefill_tokens_per_s: float = 200.0

    def is_late(self, ttft_s: float, prompt_tokens: int) -> bool:
        """TTFT counts from when the request was sent to the engine."""
        return ttft_s > self.base_s + prompt_tokens / self.prefill_tokens_per_s


class InFlightLimit:
    """Starts at the capacity, and never exceeds it."""

    def __init__(self, capacity: int, target: TtftTarget) -> None:
        self.limit = self._capacity = max(1, capacity)
        self._target = target
        self._samples = 0
        self._late = 0
        self._was_full = False
        self._moved_at = -math.inf

    @property
    def capacity(self) -> int:
        return self._capacity

    def resize(self, capacity: int) -> None:
        """The deployment has other replicas now. A limit that nothing had lowered follows, any other climbs."""
        capacity = max(1, capacity)
        if capacity < self.limit or self.limit == self._capacity:
            self.limit = capacity
        self._capacity = capacity

    def note_full(self) -> None:
        """Somebody waited because of the limit: only then there is a reason to raise it."""
        self._was_full = True

    def observe(self, sent_at: float, now: float, prompt_tokens: int) -> None:
        """The first token of a request that was sent at `sent_at` came. At the end of each window the limit moves, or
        stays; what was sent under another limit says nothing about this one."""
        if sent_at < self._moved_at:
            return
        self._samples += 1
        self._late += self._target.is_late(now - sent_at, prompt_tokens)
        if self._samples < max(_FEWEST_SAMPLES, self.limit):
            return
        before = self.limit
        if self._late >= self._samples * _LATE_PART:
            self.limit = max(1, self._capacity // _LEAST_PART, math.floor(self.limit * _DECREASE))
        elif self._was_full:
            self.limit = min(self._capacity, self.limit + 1)
        if self.limit < before:
            self._moved_at = now
        self._samples = self._late = 0
        self._was_full = False

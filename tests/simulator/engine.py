"""An engine in virtual time: batch slots with a queue in front, prefill, then tokens at a steady pace.

Rates are per slot, as in `chappe_serving.engines.simulated`.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class EngineModel:
    """Calibration. `GPU` is of one large replica, assumed; `SMALL` is what was measured of llama.cpp on two cores."""

    slots: int = 64
    prefill_tokens_per_s: float = 2_000.0
    decode_tokens_per_s: float = 40.0


GPU = EngineModel()
SMALL = EngineModel(slots=4, prefill_tokens_per_s=220.0, decode_tokens_per_s=35.0)


@dataclass(slots=True, eq=False)
class Job:
    """One request at the engine. Instants are of virtual time."""

    prompt_tokens: int
    completion_tokens: int
    sent_at: float = 0.0
    began_at: float | None = None
    first_token_at: float = 0.0
    ends_at: float = 0.0
    over: bool = False
    stopped_at: float | None = None

    def tokens_at(self, now: float) -> tuple[int, int]:
        """Prompt and output that were worked off by then. A prompt counts when it was read."""
        at = now if self.stopped_at is None else min(now, self.stopped_at)
        if self.began_at is None or at < self.first_token_at:
            return 0, 0
        if at >= self.ends_at or self.ends_at == self.first_token_at:
            return self.prompt_tokens, self.completion_tokens
        made = (at - self.first_token_at) / (self.ends_at - self.first_token_at)
        return self.prompt_tokens, int(made * self.completion_tokens)


class Engine:
    """First in, first out. `at(time, do)` is the world's calendar."""

    def __init__(self, model: EngineModel, at: Callable[[float, Callable[[float], None]], None]) -> None:
        self.model = model
        self.most_running = 0
        self._at = at
        self._queue: deque[tuple[Job, Callable[[Job, float], None], Callable[[Job, float], None]]] = deque()
        self._running = 0
        self._stalled_until = 0.0

    def send(
        self, job: Job, now: float, on_first: Callable[[Job, float], None], on_end: Callable[[Job, float], None]
    ) -> None:
        job.sent_at = now
        self._queue.append((job, on_first, on_end))
        self._begin(now)

    def stop(self, job: Job, now: float) -> None:
        """Abort it: its slot is free at once."""
        if job.over:
            return
        job.over, job.stopped_at = True, now
        if job.began_at is not None:
            self._running -= 1
            self._begin(now)

    def stall(self, until: float) -> None:
        """Nothing begins before then."""
        self._stalled_until = until
        self._at(until, self._begin)

    def _begin(self, now: float) -> None:
        while self._queue and self._running < self.model.slots and now >= self._stalled_until:
            job, on_first, on_end = self._queue.popleft()
            if job.over:
                continue
            self._running += 1
            self.most_running = max(self.most_running, self._running)
            job.began_at = now
            job.first_token_at = now + job.prompt_tokens / self.model.prefill_tokens_per_s
            job.ends_at = job.first_token_at + job.completion_tokens / self.model.decode_tokens_per_s
            self._at(job.first_token_at, _unless_over(job, on_first))
            self._at(job.ends_at, self._end(job, on_end))

    def _end(self, job: Job, on_end: Callable[[Job, float], None]) -> Callable[[float], None]:
        def end(now: float) -> None:
            if not job.over:
                job.over = True
                self._running -= 1
                on_end(job, now)
                self._begin(now)

        return end


def _unless_over(job: Job, then: Callable[[Job, float], None]) -> Callable[[float], None]:
    def do(now: float) -> None:
        if not job.over:
            then(job, now)

    return do

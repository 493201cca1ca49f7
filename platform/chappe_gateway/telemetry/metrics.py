"""What a gateway counts of its requests: plain numbers, so that a request pays for additions and nothing else.

They are rendered when somebody asks (`metrics_page.py`). Labels are bounded: models are the snapshot's, outcomes and
reasons are constants of the code; never a tenant, a key or a text of anybody's.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable

from chappe_kernel.rating import Outcome
from chappe_kernel.wire.control import UsageEvent

TTFT_BOUNDS_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
INTER_TOKEN_BOUNDS_S = (0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0)
DURATION_BOUNDS_S = (0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)
QUEUE_BOUNDS_S = (0.001, 0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_MAX_REASONS = 100
_OTHER = "other"
# How much the newest first token counts in what is told of a model's recent ones.
_NEW_PART = 0.1


class Histogram:
    """Counts by upper bound, the last one of all that is larger; each value in the first that it does not exceed."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def buckets(self) -> list[tuple[str, float]]:
        """Cumulative, as Prometheus has them."""
        found, so_far = [], 0
        for bound, count in zip((*self.bounds, "+Inf"), self.counts, strict=True):
            so_far += count
            found.append((str(bound), float(so_far)))
        return found


class ModelMetrics:
    """Of one model's requests in this gateway process."""

    __slots__ = (
        "cached_tokens",
        "completion_tokens",
        "duration",
        "inter_token",
        "outcomes",
        "prompt_tokens",
        "queue",
        "recent_ttft_s",
        "ttft",
    )

    def __init__(self) -> None:
        self.outcomes: dict[Outcome, int] = dict.fromkeys(Outcome, 0)
        self.prompt_tokens = self.cached_tokens = self.completion_tokens = 0
        self.ttft = Histogram(TTFT_BOUNDS_S)
        self.inter_token = Histogram(INTER_TOKEN_BOUNDS_S)
        self.duration = Histogram(DURATION_BOUNDS_S)
        self.queue = Histogram(QUEUE_BOUNDS_S)
        self.recent_ttft_s: float | None = None
        """A moving average over about the last ten streams."""


class Metrics:
    """One per gateway process, used from its loop alone."""

    def __init__(self) -> None:
        self.models: dict[str, ModelMetrics] = {}
        self.refusals: Counter[str] = Counter()
        self.forwarded: Counter[tuple[str, str]] = Counter()
        """By region and result: `answered`, `not_admitted`, `unreachable`, `broken_off`."""

    def settled(self, event: UsageEvent, queued_s: float) -> None:
        """A request has ended with this event, and had waited so long for its turn."""
        model = self.models.get(event.listing)
        if model is None:
            model = self.models[event.listing] = ModelMetrics()
        counts = event.counts
        model.outcomes[event.outcome] += 1
        model.prompt_tokens += counts.prompt_tokens
        model.cached_tokens += counts.cached_tokens
        model.completion_tokens += counts.completion_tokens
        duration_s = (event.finished_at - event.started_at).total_seconds()
        model.duration.observe(duration_s)
        model.queue.observe(queued_s)
        if event.ttft_ms is not None:
            ttft_s = event.ttft_ms / 1000
            model.ttft.observe(ttft_s)
            recent_s = model.recent_ttft_s
            model.recent_ttft_s = ttft_s if recent_s is None else recent_s + _NEW_PART * (ttft_s - recent_s)
            if counts.completion_tokens > 1:
                model.inter_token.observe(max(0.0, duration_s - ttft_s) / (counts.completion_tokens - 1))

    def refused(self, reason: str) -> None:
        """A request was answered with this error code."""
        if reason not in self.refusals and len(self.refusals) >= _MAX_REASONS:
            reason = _OTHER
        self.refusals[reason] += 1

    def keep_models(self, listed: Iterable[str]) -> None:
        """Forget what is not sold any more."""
        listed = set(listed)
        self.models = {name: model for name, model in self.models.items() if name in listed}

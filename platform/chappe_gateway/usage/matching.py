"""How a request is settled when its gateway is gone, by what engines reported of it. Pure: time is passed in.

| the gateway's event | the engine's records | then |
|---|---|---|
| missing | some attempt made a token | the latest such attempt counts as disconnected |
| missing | none made a token | failed, free: the client got nothing |
| there, without the engine's count or with a smaller or larger one | the last one | the other story goes up beside it |
| there, with the same count | the last one | nothing |

A request is looked at once its engines have been silent for a while; a later record brings it up again.
"""

from dataclasses import dataclass, replace
from datetime import UTC, datetime

import msgspec

from chappe_gateway.usage.slips import Slip
from chappe_kernel.rating import NO_COUNTS, Counts, Outcome, charge
from chappe_kernel.wire.control import UsageEvent
from chappe_kernel.wire.engine import EngineRecord


@dataclass(slots=True)
class Case:
    """One request and what engines reported of it: cumulative counts for each attempt."""

    request_id: str
    slip: str
    reports: dict[int, Counts]
    heard_at: float
    """Monotonic."""
    reported_ms: int
    """Of the last report: Unix milliseconds of the region's Redis."""


class Cases:
    """Requests whose gateway may not settle them any more."""

    def __init__(self, silence_s: float) -> None:
        self._silence_s = silence_s
        self._open: dict[str, Case] = {}

    def __len__(self) -> int:
        return len(self._open)

    def hear(self, record: EngineRecord, at_ms: int, now: float) -> None:
        """Take a record in. Repeats and records out of order change nothing: counts only grow."""
        case = self._open.get(record.request_id)
        if case is None:
            case = self._open[record.request_id] = Case(record.request_id, record.slip, {}, now, at_ms)
        known = case.reports.get(record.attempt)
        if known is None or _size(record.counts) > _size(known):
            case.reports[record.attempt] = record.counts
        case.heard_at = now
        case.reported_ms = max(case.reported_ms, at_ms)

    def listen_again(self, now: float) -> None:
        """Nobody could be heard until now, so nobody was silent."""
        for case in self._open.values():
            case.heard_at = now

    def get(self, request_id: str) -> Case | None:
        return self._open.get(request_id)

    def due(self, now: float, limit: int) -> list[Case]:
        """Those of whom nothing was heard for long enough."""
        found: list[Case] = []
        for case in self._open.values():
            if now - case.heard_at >= self._silence_s:
                found.append(case)
                if len(found) == limit:
                    break
        return found

    def close(self, case: Case) -> None:
        """It is settled as far as engines have been heard. A further record opens it anew."""
        if self._open.get(case.request_id) is case:
            del self._open[case.request_id]


def settle_by_engine(slip: Slip, case: Case) -> UsageEvent:
    """The one event of a request whose gateway died before it settled."""
    with_tokens = [attempt for attempt, counts in case.reports.items() if counts.completion_tokens > 0]
    attempt = max(with_tokens or case.reports)
    generated = case.reports[attempt]
    outcome = Outcome.DISCONNECTED if with_tokens else Outcome.FAILED
    counts = within(generated, slip.max_prompt_tokens, slip.max_completion_tokens) if with_tokens else NO_COUNTS
    amount_nano = charge(slip.rates(), outcome, counts)
    return UsageEvent(
        request_id=slip.request_id,
        tenant_id=slip.tenant_id,
        project_id=slip.project_id,
        key_id=slip.key_id,
        grant_id=slip.grant_id,
        listing=slip.listing,
        price_version=slip.price_version,
        outcome=outcome,
        counts=counts,
        amount_nano=amount_nano,
        hold_nano=slip.hold_nano,
        started_at=slip.started_at,
        finished_at=max(slip.started_at, datetime.fromtimestamp(case.reported_ms / 1000, UTC)),
        attempt=attempt,
        generated=generated,
        settled_by="engine",
        idempotency_digest=slip.idempotency_digest if amount_nano else None,
    )


def other_story(slip: Slip, event: UsageEvent, case: Case) -> UsageEvent | None:
    """What a settled request would be by the engine's last record, or `None` when that changes nothing."""
    if event.settled_by == "engine":
        return _other_story_of_engine(slip, event, case)
    generated = case.reports.get(event.attempt)
    if generated is None or generated == event.generated:
        return None
    told = within(generated, slip.max_prompt_tokens, slip.max_completion_tokens)
    if event.outcome is Outcome.FAILED:
        told = least(event.counts if event.delivered is None else event.delivered, told)
        if told.completion_tokens == 0:
            told = NO_COUNTS
    if told == event.counts:
        return None
    amount_nano = charge(slip.rates(), event.outcome, told)
    return msgspec.structs.replace(event, counts=told, amount_nano=amount_nano, generated=generated)


def _other_story_of_engine(slip: Slip, event: UsageEvent, case: Case) -> UsageEvent | None:
    reports = dict(case.reports)
    if event.generated is not None:
        # What it was settled by may have been heard long ago, in another process.
        known = reports.get(event.attempt, event.generated)
        reports[event.attempt] = max(known, event.generated, key=_size)
    told = settle_by_engine(slip, replace(case, reports=reports))
    return None if (told.outcome, told.counts) == (event.outcome, event.counts) else told


def within(counts: Counts, max_prompt_tokens: int, max_completion_tokens: int) -> Counts:
    """At most what the hold covers. An engine that breaks its bounds is the operator's loss."""
    prompt_tokens = min(counts.prompt_tokens, max_prompt_tokens)
    return Counts(
        prompt_tokens,
        min(counts.cached_tokens, prompt_tokens),
        min(counts.completion_tokens, max_completion_tokens),
    )


def least(delivered: Counts, generated: Counts) -> Counts:
    """Charged after our own error: the prompt, and the smaller of delivered and generated."""
    return Counts(
        generated.prompt_tokens,
        generated.cached_tokens,
        min(delivered.completion_tokens, generated.completion_tokens),
    )


def _size(counts: Counts) -> tuple[int, int, int]:
    return counts.completion_tokens, counts.prompt_tokens, counts.cached_tokens

"""One charge per admitted request: how it ended, what that costs, its hold ended, its event on disk.

| how it ended | outcome | counts |
|---|---|---|
| the engine's `end` was read, and it says completed | completed | the engine's |
| the client left before that | disconnected | the engine's own record, else what we saw ourselves |
| its key lost the right to go on: revoked, expired, suspended, narrowed | disconnected | the same |
| the engine or the gateway broke it off, text had been delivered | failed | the smaller of delivered and generated |
| it broke off before any text | failed | none, and no charge |
| the engine refused it before prefill, for the client's own mistake | no event: nothing was served | |
"""

from dataclasses import dataclass
from datetime import timedelta

import structlog

from chappe_gateway.admission import Admitted, Bounds
from chappe_gateway.call import Call
from chappe_gateway.gateway import Gateway
from chappe_kernel.rating import NO_COUNTS, Counts, Outcome, charge
from chappe_kernel.wire.control import UsageEvent
from chappe_kernel.wire.engine import End, Start

_log = structlog.get_logger()

# After an engine's death its client still waits for the end of the answer.
_FAILED_RECORD_WAIT_S = 1.0


@dataclass(frozen=True, slots=True)
class Ending:
    """What the gateway saw of one request's end."""

    attempt: int
    start: Start | None
    end: End | None
    delivered_chunks: int
    client_gone: bool
    withdrawn: bool = False
    """The tenant's own side ended it, or lost the right to it: whoever revokes a key in time must not have it free."""
    first_text_at: float | None = None
    """Monotonic."""
    refused: bool = False
    """The engine said before prefill that the request is wrong."""


async def settle(gateway: Gateway, call: Call, admitted: Admitted, ending: Ending) -> UsageEvent | None:
    """Charge the request and put its event on disk. Run it once per admitted request, in a task of its own."""
    try:
        if ending.refused and not ending.client_gone:
            gateway.grants.settle(admitted.hold, 0)
            admitted.taken.settle(0)
            return None
        outcome, counts = await _judge(gateway, call, ending)
        counts = _within(counts, admitted.bounds, call)
        event = _event(gateway, call, admitted, ending, outcome=outcome, counts=counts)
        gateway.grants.settle(admitted.hold, event.amount_nano)
        admitted.taken.settle(counts.prompt_tokens + counts.completion_tokens)
        await gateway.spool.commit(event)
    finally:
        gateway.records.forget(call.public_id)
        gateway.spool.release()
        gateway.leave(call)
    return event


async def _judge(gateway: Gateway, call: Call, ending: Ending) -> tuple[Outcome, Counts]:
    end = ending.end
    if end is not None and end.outcome == "completed" and not ending.client_gone:
        return Outcome.COMPLETED, end.counts
    if ending.client_gone or ending.withdrawn:
        return Outcome.DISCONNECTED, await _disconnected_counts(gateway, call, ending)
    if ending.delivered_chunks == 0:
        return Outcome.FAILED, NO_COUNTS
    return Outcome.FAILED, await _failed_counts(gateway, call, ending)


async def _disconnected_counts(gateway: Gateway, call: Call, ending: Ending) -> Counts:
    if ending.end is not None:
        return ending.end.counts
    if ending.attempt == 0:
        return NO_COUNTS
    recorded = await gateway.records.final_counts(call.public_id, ending.attempt, gateway.settings.record_wait_s)
    return recorded or _own_witness(ending)


async def _failed_counts(gateway: Gateway, call: Call, ending: Ending) -> Counts:
    seen = _own_witness(ending)
    if ending.end is not None:
        generated: Counts | None = ending.end.counts
    else:
        generated = await gateway.records.final_counts(call.public_id, ending.attempt, _FAILED_RECORD_WAIT_S)
    if generated is None:
        return seen
    return Counts(
        prompt_tokens=generated.prompt_tokens,
        cached_tokens=generated.cached_tokens,
        completion_tokens=min(seen.completion_tokens, generated.completion_tokens),
    )


def _own_witness(ending: Ending) -> Counts:
    if ending.start is None:
        return NO_COUNTS
    return Counts(ending.start.prompt_tokens, ending.start.cached_tokens, ending.delivered_chunks)


def _within(counts: Counts, bounds: Bounds, call: Call) -> Counts:
    """Counts that the hold covers. An engine that breaks its bounds is our loss, and a bug."""
    if counts.prompt_tokens <= bounds.prompt_tokens and counts.completion_tokens <= bounds.completion_tokens:
        return counts
    _log.error(
        "engine_broke_its_bounds",
        request_id=call.public_id,
        prompt_tokens=counts.prompt_tokens,
        max_prompt_tokens=bounds.prompt_tokens,
        completion_tokens=counts.completion_tokens,
        max_completion_tokens=bounds.completion_tokens,
    )
    prompt_tokens = min(counts.prompt_tokens, bounds.prompt_tokens)
    return Counts(
        prompt_tokens,
        min(counts.cached_tokens, prompt_tokens),
        min(counts.completion_tokens, bounds.completion_tokens),
    )


def _event(
    gateway: Gateway, call: Call, admitted: Admitted, ending: Ending, *, outcome: Outcome, counts: Counts
) -> UsageEvent:
    facts, version = admitted.visitor.facts, admitted.offer.price_version
    # The wall clock may jump; a duration never is negative.
    elapsed = timedelta(seconds=gateway.clock.monotonic() - call.started)
    ttft_ms = None if ending.first_text_at is None else round(1000 * (ending.first_text_at - call.started))
    return UsageEvent(
        request_id=call.id,
        tenant_id=facts.tenant_id,
        project_id=facts.project_id,
        key_id=facts.key_id,
        grant_id=admitted.hold.grant.grant_id,
        listing=admitted.offer.listing.name,
        price_version=version.id,
        outcome=outcome,
        counts=counts,
        amount_nano=charge(version.price, outcome, counts),
        hold_nano=admitted.hold.amount_nano,
        started_at=call.started_at,
        finished_at=call.started_at + elapsed,
        ttft_ms=ttft_ms,
        client_network=gateway.rights.site_of(call),
    )

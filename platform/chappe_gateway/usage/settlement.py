"""One charge per admitted request: how it ended, what that costs, its hold ended, its event on disk.

| how it ended | outcome | counts |
|---|---|---|
| the engine's `end` was read, and it says completed | completed | the engine's |
| the client left before that | disconnected | the engine's own record, else the most that we know of |
| its key lost the right to go on: revoked, expired, suspended, narrowed | disconnected | the same |
| another region's gateway sent it and was lost, with no word that its client had left | failed | as in the next rows |
| the engine or the gateway broke it off, text had been delivered | failed | the smaller of delivered and generated |
| it broke off before any text | failed | none, and no charge |
| the engine refused it before prefill, for the client's own mistake; its turn did not come in time | no event | |
"""

import asyncio
from collections.abc import Callable
from datetime import timedelta
from functools import partial

import structlog
from msgspec import Struct
from msgspec.structs import replace

from chappe_gateway.admission import Admitted, Bounds
from chappe_gateway.edge.call import Call
from chappe_gateway.gateway import Gateway
from chappe_gateway.limits.repeats import Answer
from chappe_gateway.usage.matching import least, within
from chappe_kernel.rating import NO_COUNTS, Counts, Outcome, charge
from chappe_kernel.wire.control import UsageEvent
from chappe_kernel.wire.engine import End, Start

_log = structlog.get_logger()

Tell = Callable[[UsageEvent], object]
"""Sends what is left of an answer, if that needs no waiting."""
# After an engine's death its client still waits for the end of the answer.
_FAILED_RECORD_WAIT_S = 1.0


class Ending(Struct, frozen=True):
    """What the gateway saw of one request's end."""

    attempt: int
    start: Start | None
    end: End | None
    delivered_chunks: int
    client_gone: bool
    withdrawn: bool = False
    """The tenant's own side ended it, or lost the right to it: whoever revokes a key in time must not have it free."""
    link_lost: bool = False
    """What looks like a client that left is a network between two of our regions that failed."""
    first_text_at: float | None = None
    """Monotonic."""
    refused: bool = False
    """The engine said before prefill that the request is wrong."""
    answer: Callable[[UsageEvent], Answer] | None = None
    """What the client is told if it is charged as completed, when a repeat may be told the same."""


class _Judgement(Struct, frozen=True):
    """`counts` is what is charged, before the hold's bounds; beside it what both witnesses say."""

    outcome: Outcome
    counts: Counts
    delivered: Counts
    generated: Counts | None
    is_final: bool = True
    """Whether the engine has said its last word, or no word of it could change the charge."""


def begin_settling(
    gateway: Gateway, call: Call, admitted: Admitted, ending: Ending, tell: Tell | None
) -> "asyncio.Future[UsageEvent | None]":
    """Charge the request once and put its event on disk, whatever happens to whoever waits for it.

    Most requests ended well and sent no `Idempotency-Key`: nobody has to be asked, and no task is needed for them.
    Their client is told by `tell` in the moment in which the event is on disk, since a task would be woken only after
    whatever else is ready then; whether that could be done is `call.answered`.
    """
    end = ending.end
    if call.claim is not None or ending.client_gone or end is None or end.outcome != "completed":
        return asyncio.shield(gateway.settle_apart(settle(gateway, call, admitted, ending)))
    try:
        gateway.turns.end(call, end.counts)
        event = _event(gateway, call, admitted, ending, _completed(end))
        gateway.grants.settle(admitted.hold, event.amount_nano)
        settled: asyncio.Future[UsageEvent | None] = gateway.spool.put(  # type: ignore[assignment]  # invariant
            event, partial(_end, gateway, call, admitted, tell, event)
        )
    except BaseException:
        admitted.taken.end()
        _leave(gateway, call)
        raise
    return settled


async def settle(gateway: Gateway, call: Call, admitted: Admitted, ending: Ending) -> UsageEvent | None:
    """Charge the request and put its event on disk. Run it once per admitted request, in a task of its own."""
    try:
        if ending.refused and not ending.client_gone:
            gateway.grants.settle(admitted.hold, 0)
            admitted.taken.settle(0)
            gateway.turns.end(call)
            await _end_claim(gateway, call, ending, None)
            return None
        if call.forwarded is not None and ending.client_gone and not await call.was_left():
            ending = replace(ending, link_lost=True)
        judgement = await _judge(gateway, call, ending)
        gateway.turns.end(call, judgement.counts)
        event = _event(gateway, call, admitted, ending, judgement)
        gateway.note_settled(call, event)
        gateway.grants.settle(admitted.hold, event.amount_nano)
        admitted.taken.settle(event.counts.prompt_tokens + event.counts.completion_tokens)
        if not judgement.is_final:
            gateway.witnesses.doubt(call.public_id)
        # Before the event is on disk: if we die in between, the engine's record charges what the client can still have.
        await _end_claim(gateway, call, ending, event)
        await gateway.spool.commit(event)
    finally:
        admitted.taken.end()
        _leave(gateway, call)
    return event


def _end(gateway: Gateway, call: Call, admitted: Admitted, tell: Tell | None, event: UsageEvent) -> None:
    """Its event is on disk. The client comes first: it waits for what is done before."""
    try:
        if tell is not None:
            tell(event)
    finally:
        admitted.taken.settle(event.counts.prompt_tokens + event.counts.completion_tokens)
        gateway.note_settled(call, event)
        _leave(gateway, call)


def _leave(gateway: Gateway, call: Call) -> None:
    gateway.turns.end(call)
    gateway.records.forget(call.public_id)
    gateway.spool.release()
    gateway.leave(call)


async def _end_claim(gateway: Gateway, call: Call, ending: Ending, event: UsageEvent | None) -> None:
    """The client's `Idempotency-Key`, if it sent one: free again only if nothing was charged and nothing given."""
    if call.claim is None:
        return
    if event is None or (event.amount_nano == 0 and event.outcome is not Outcome.COMPLETED):
        await gateway.repeats.free(call.claim)
        return
    answered = ending.answer is not None and event.outcome is Outcome.COMPLETED
    await gateway.repeats.keep(call.claim, ending.answer(event) if answered and ending.answer else None)


async def _judge(gateway: Gateway, call: Call, ending: Ending) -> _Judgement:
    end = ending.end
    if end is not None and end.outcome == "completed" and not ending.client_gone:
        return _completed(end)
    seen = _own_witness(ending)
    if (ending.client_gone and not ending.link_lost) or ending.withdrawn:
        return await _disconnected(gateway, call, ending, seen)
    if ending.delivered_chunks == 0:
        return _Judgement(Outcome.FAILED, NO_COUNTS, seen, None if end is None else end.counts)
    return await _failed(gateway, call, ending, seen)


def _completed(end: End) -> _Judgement:
    # Everything up to the end mark was passed on, so both witnesses say the same.
    return _Judgement(Outcome.COMPLETED, end.counts, end.counts, end.counts)


async def _disconnected(gateway: Gateway, call: Call, ending: Ending, seen: Counts) -> _Judgement:
    if ending.end is not None:
        return _Judgement(Outcome.DISCONNECTED, ending.end.counts, seen, ending.end.counts)
    if ending.attempt == 0:
        return _Judgement(Outcome.DISCONNECTED, NO_COUNTS, NO_COUNTS, None)
    wait_s = gateway.settings.record_wait_s
    final = await gateway.records.final_counts(call.public_id, ending.attempt, wait_s)
    if final is not None:
        return _Judgement(Outcome.DISCONNECTED, final, seen, final)
    # Each is a lower bound of what the engine did: the larger one is nearer to it.
    latest = gateway.records.latest_counts(call.public_id, ending.attempt)
    counts = seen if latest is None or latest.completion_tokens < seen.completion_tokens else latest
    return _Judgement(Outcome.DISCONNECTED, counts, seen, latest, is_final=False)


async def _failed(gateway: Gateway, call: Call, ending: Ending, seen: Counts) -> _Judgement:
    if ending.end is not None:
        generated: Counts | None = ending.end.counts
    else:
        generated = await gateway.records.final_counts(call.public_id, ending.attempt, _FAILED_RECORD_WAIT_S)
    if generated is not None:
        return _Judgement(Outcome.FAILED, least(seen, generated), seen, generated)
    # An engine that was killed has left no last word, but each second's.
    latest = gateway.records.latest_counts(call.public_id, ending.attempt)
    counts = seen if latest is None else least(seen, latest)
    return _Judgement(Outcome.FAILED, counts, seen, latest, is_final=False)


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
    return within(counts, bounds.prompt_tokens, bounds.completion_tokens)


def _event(gateway: Gateway, call: Call, admitted: Admitted, ending: Ending, judgement: _Judgement) -> UsageEvent:
    facts, version = admitted.visitor.facts, admitted.offer.price_version
    counts = _within(judgement.counts, admitted.bounds, call)
    # The wall clock may jump; a duration never is negative.
    elapsed = timedelta(seconds=gateway.clock.monotonic() - call.started)
    ttft_ms = None if ending.first_text_at is None else round(1000 * (ending.first_text_at - call.started))
    amount_nano = charge(version.price, judgement.outcome, counts)
    return UsageEvent(
        request_id=call.id,
        tenant_id=facts.tenant_id,
        project_id=facts.project_id,
        key_id=facts.key_id,
        grant_id=admitted.hold.grant.grant_id,
        listing=admitted.offer.listing.name,
        price_version=version.id,
        outcome=judgement.outcome,
        counts=counts,
        amount_nano=amount_nano,
        hold_nano=admitted.hold.amount_nano,
        started_at=call.started_at,
        finished_at=call.started_at + elapsed,
        ttft_ms=ttft_ms,
        client_network=gateway.rights.site_of(call),
        attempt=ending.attempt,
        delivered=judgement.delivered,
        generated=judgement.generated,
        idempotency_digest=call.charged_once_by if amount_nano else None,
    )

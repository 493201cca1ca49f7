"""Writing calls down, and carrying them out: claim, call outside of any transaction, apply by the call's id."""

import asyncio
from datetime import datetime, timedelta
from typing import assert_never
from uuid import UUID

import msgspec
import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from chappe_billing.funds.once import clean_reason
from chappe_billing.payments import applying, call_queries, collecting_queries, queries
from chappe_billing.payments.call_queries import ClaimedCall
from chappe_billing.payments.models import CallKind, CallState
from chappe_billing.payments.origin import payment_origin
from chappe_billing.payments.port import (
    KINDS,
    Answer,
    AnyOrder,
    Impossible,
    MakeCustomer,
    PaymentService,
    Refused,
    RequestSeen,
    Sending,
    TryLater,
)
from chappe_billing.payments.queries import Payer
from chappe_billing.payments.retrying import must_compare, wait_s
from chappe_kernel.errors import Conflict, NotFound
from chappe_kernel.ids import TENANT, encode_id, new_id
from chappe_store.session import Database

# Longer than any try may take: what is not heard of by then belonged to a process that is gone.
LEASE = timedelta(minutes=2)
_AT_ONCE = 8
_ASKS = frozenset({CallKind.CHARGE, CallKind.INVOICE})
"""What asks a tenant for money without anybody before a screen."""
_log = structlog.get_logger()


async def order(
    session: AsyncSession,
    payer: Payer,
    what: AnyOrder,
    *,
    payment_id: UUID | None = None,
    refund_id: UUID | None = None,
) -> UUID:
    """The service is told, once this transaction is committed; the call's id. A tenant who is nobody there yet is made
    known first."""
    await _greet(session, payer)
    call_id = new_id()
    row = _row(call_id, payer, what)
    if payment_id is not None:
        row["payment_id"] = payment_id
    if refund_id is not None:
        row["refund_id"] = refund_id
    await call_queries.insert_call(session, row)
    return call_id


async def order_once(session: AsyncSession, payer: Payer, what: AnyOrder, *, call_id: UUID) -> bool:
    """Like `order`, under an id of the caller's; whether it is new."""
    await _greet(session, payer)
    return await call_queries.insert_new_call(session, _row(call_id, payer, what))


async def _greet(session: AsyncSession, payer: Payer) -> None:
    if payer.customer is None:
        greeting = MakeCustomer(name=payer.name, tenant=encode_id(TENANT, payer.tenant_id))
        await call_queries.insert_new_call(session, _row(new_id(), payer, greeting))


def _row(call_id: UUID, payer: Payer, what: AnyOrder) -> dict[str, object]:
    return {
        "tenant_id": payer.tenant_id,
        "id": call_id,
        "legal_entity_id": payer.legal_entity_id,
        "kind": KINDS[type(what)],
        "parameters": msgspec.to_builtins(what),
    }


async def carry_out_due(
    database: Database, service: PaymentService, now: datetime, *, live: bool, newest_first: bool = False
) -> int:
    """Some of what is due, longest due first, side by side; how many that were. Any number of processes may do so."""
    async with database.operator() as session:
        claimed = await call_queries.claim_due(session, now=now, lease=LEASE, limit=_AT_ONCE, newest_first=newest_first)
        asks = [call.payment_id for call in claimed if call.kind in _ASKS and call.payment_id is not None]
        unwanted = await collecting_queries.list_unwanted(session, asks)
    carrying = (
        _carry_out(
            database, service, call, now, live=live, wanted=call.kind not in _ASKS or call.payment_id not in unwanted
        )
        for call in claimed
    )
    await asyncio.gather(*carrying)
    return len(claimed)


async def _carry_out(
    database: Database, service: PaymentService, call: ClaimedCall, now: datetime, *, live: bool, wanted: bool
) -> None:
    """No transaction is open while the service is spoken to. What is not wanted any more is not sent; if it was sent
    before, what it did there is looked for."""
    sending = Sending(call.id, msgspec.convert(call.parameters, AnyOrder), call.customer, call.retries)
    was_tried = not wanted and call.attempts > 1
    looks_first = call.retries > 0 or must_compare(call.first_tried_at, now) or was_tried
    outcome = "done"
    try:
        answer = await service.find(sending, call.first_tried_at) if looks_first else None
        if answer is not None:
            outcome = "found"
        elif wanted:
            answer = await service.perform(sending)
    except TryLater as error:
        await _postpone(database, call, now, error)
    except Refused as error:
        await _refuse(database, call, error)
    except Impossible as error:
        await _poison(database, call, error)
    else:
        if answer is None:
            await _withdraw(database, call)
        else:
            await _finish(database, call, answer, outcome, live=live)


async def _withdraw(database: Database, call: ClaimedCall) -> None:
    """Nothing of it is at the service."""
    async with database.operator(payment_origin()) as session:
        await applying.lock_money(session, call.tenant_id)
        if not await _is_still_waiting(session, call):
            return
        await call_queries.end_call(session, call.id, CallState.WITHDRAWN)
        await _note(session, call, "withdrawn", None)
        if call.payment_id is not None:
            await applying.withdraw_payment(session, call.payment_id)
    _log.info("payment_call_withdrawn", call=str(call.id), kind=call.kind)


async def _postpone(database: Database, call: ClaimedCall, now: datetime, error: TryLater) -> None:
    pause_s = wait_s(call.attempts, error.retry_after_s)
    async with database.operator() as session:
        if await _is_still_waiting(session, call):
            await call_queries.postpone(session, call.id, now + timedelta(seconds=pause_s))
            await _note(session, call, "later", error.detail)
    _log.warning("payment_call_postponed", call=str(call.id), reason=error.detail, wait_s=pause_s)


async def _refuse(database: Database, call: ClaimedCall, error: Refused) -> None:
    async with database.operator(payment_origin()) as session:
        await applying.lock_money(session, call.tenant_id)
        if not await _is_still_waiting(session, call):
            return
        await call_queries.end_call(session, call.id, CallState.REFUSED)
        await _note(session, call, "refused", error.detail)
        if call.refund_id is not None:
            await applying.fail_refund(session, call.refund_id, error.detail)
        elif call.payment_id is not None:
            await applying.fail_payment(session, call.payment_id, error.detail)
    _log.info("payment_call_refused", call=str(call.id), kind=call.kind)


async def _poison(database: Database, call: ClaimedCall, error: Impossible) -> None:
    async with database.operator() as session:
        if await _is_still_waiting(session, call):
            await call_queries.end_call(session, call.id, CallState.POISONED)
            await _note(session, call, "poisoned", error.detail)
    _log.error("payment_call_poisoned", call=str(call.id), kind=call.kind, detail=error.detail)


async def _finish(database: Database, call: ClaimedCall, answer: Answer, outcome: str, *, live: bool) -> None:
    """Everything that follows from the answer, in one transaction."""
    async with database.operator(payment_origin()) as session:
        await applying.lock_money(session, call.tenant_id)
        if not await _is_still_waiting(session, call):
            return
        await call_queries.end_call(session, call.id, CallState.DONE, service_id=answer.service_id, url=answer.url)
        await _note(session, call, outcome, None)
        await _take_effect(session, call, answer, live=live)
    _log.info("payment_call_done", call=str(call.id), kind=call.kind, attempts=call.attempts)


async def _take_effect(session: AsyncSession, call: ClaimedCall, answer: Answer, *, live: bool) -> None:
    match call.kind:
        case CallKind.CUSTOMER:
            entity_id = (await call_queries.lock_call(session, call.id)).legal_entity_id
            await queries.insert_customer(session, call.tenant_id, entity_id, answer.service_id)
        case CallKind.CHECKOUT | CallKind.INVOICE:
            if call.payment_id is not None:
                await applying.open_payment(session, call.payment_id, answer.service_id)
        case CallKind.CHARGE | CallKind.REFUND:
            if answer.seen is not None:
                await applying.apply(session, answer.seen, live=live)
        case CallKind.WITHDRAW:
            # What was paid meanwhile is heard of by itself, with the money that paid it.
            if isinstance(answer.seen, RequestSeen) and answer.seen.paying is None:
                await applying.apply(session, answer.seen, live=live)
        case CallKind.SETUP | CallKind.FORGET_METHOD | CallKind.USAGE:
            pass
        case _:
            assert_never(call.kind)


async def _is_still_waiting(session: AsyncSession, call: ClaimedCall) -> bool:
    """Whether nobody else, after this one's lease was over, has ended it."""
    return (await call_queries.lock_call(session, call.id)).state == CallState.WAITING


async def _note(session: AsyncSession, call: ClaimedCall, outcome: str, detail: str | None) -> None:
    await call_queries.note_attempt(
        session, call.tenant_id, call.id, attempt=call.attempts, outcome=outcome, detail=detail
    )


async def try_again(session: AsyncSession, call_id: UUID, *, reason: str) -> None:
    """As the operator: a poisoned call waits again. Raises `NotFound` and `Conflict`."""
    found = await call_queries.find_any_call(session, call_id)
    if found is None:
        raise NotFound("no such call")
    call = await call_queries.lock_call(session, call_id)
    if call.state != CallState.POISONED:
        raise Conflict("this call is not poisoned", code="not_poisoned")
    await call_queries.wait_again(session, call_id)
    await call_queries.note_attempt(
        session, call.tenant_id, call_id, attempt=call.attempts, outcome="again", detail=clean_reason(reason)
    )

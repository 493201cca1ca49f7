"""What happens to calls that carry an `Idempotency-Key`.

The record is inserted first and in the same transaction as the work: a concurrent repeat waits for it, a failed call
leaves none. It is kept for 24 hours per tenant and route.
"""

import hashlib
from typing import Any

from msgspec import Struct
from sqlalchemy.ext.asyncio import AsyncSession

from chappe_control.idempotency import queries
from chappe_kernel.errors import Conflict, Invalid
from chappe_store.session import TenantScope

MAX_KEY_LENGTH = 255


class Call(Struct, frozen=True):
    """One call with an idempotency key, as `read_call` found it."""

    route: str
    key: str
    body_digest: bytes


def read_call(route: str, key: str | None, body: bytes) -> Call | None:
    """None without a key. Raises `Invalid` for one that is empty, too long or not printable ASCII."""
    if key is None:
        return None
    if not 1 <= len(key) <= MAX_KEY_LENGTH or not key.isascii() or not key.isprintable():
        raise Invalid(
            f"Idempotency-Key must have 1 to {MAX_KEY_LENGTH} printable ASCII characters", param="Idempotency-Key"
        )
    return Call(route=route, key=key, body_digest=hashlib.sha256(body).digest())


async def begin(session: AsyncSession, scope: TenantScope, call: Call | None) -> dict[str, Any] | None:
    """The kept answer of the same call made before, or None: go on.

    Raises `Conflict`: `idempotency_key_reused` if the body was another one, `already_completed` if the call was made
    and its answer is not kept.
    """
    if call is None:
        return None
    await queries.drop_old(session, scope)
    if await queries.insert_record(session, scope, route=call.route, key=call.key, body_digest=call.body_digest):
        return None
    record = await queries.read_record(session, scope, route=call.route, key=call.key)
    if record.body_digest != call.body_digest:
        raise Conflict("this Idempotency-Key came with another body before", code="idempotency_key_reused")
    if record.answer is None:
        raise Conflict("this call was made before, and its answer is not kept", code="already_completed")
    return record.answer


async def finish(session: AsyncSession, scope: TenantScope, call: Call | None, answer: dict[str, Any]) -> None:
    """Keep the answer for a repeat. Not called where the answer holds a secret."""
    if call is not None:
        await queries.keep_answer(session, scope, route=call.route, key=call.key, answer=answer)

"""What happens to calls that carry an `Idempotency-Key`.

The record is inserted first and in the same transaction as the work: a concurrent repeat waits for it, a failed call
leaves none. It is kept for 24 hours, per route, of a tenant or of one of the operator's people.

    call = await idempotency.call_of(request)
    async with services.database.tenant(scope, origin_of(request)) as session:
        return await idempotency.once(session, scope, call, ProjectView, partial(_create, session, scope, data))

A route whose answer holds a secret keeps none: it calls `begin` alone, and a repeat is told that the call was made.
"""

import hashlib
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import msgspec
from litestar import Request
from msgspec import Struct
from sqlalchemy.ext.asyncio import AsyncSession

from chappe_control.idempotency import queries
from chappe_control.idempotency.queries import Owner
from chappe_kernel.errors import Conflict, Invalid

T = TypeVar("T", bound=Struct)

MAX_KEY_LENGTH = 255
_HEADER = "Idempotency-Key"


class Call(Struct, frozen=True):
    """One call with an idempotency key. `body_digest` is of all that says what it asks for."""

    route: str
    key: str
    body_digest: bytes


async def call_of(request: Request[Any, Any, Any]) -> Call | None:
    """The call that this request makes; None without a key. Its path counts as part of the body: the same key for
    another resource is another call, and never gets this one's answer. Raises `Invalid` for a bad key or two."""
    keys = request.headers.getall(_HEADER, [])
    if len(keys) > 1:
        raise Invalid(f"send one {_HEADER}", param=_HEADER)
    asked = request.scope["raw_path"] + b"\n" + await request.body()
    return read_call(f"{request.method} {request.scope['path_template']}", keys[0] if keys else None, asked)


def read_call(route: str, key: str | None, body: bytes) -> Call | None:
    """None without a key. Raises `Invalid` for one that is empty, too long or not printable ASCII."""
    if key is None:
        return None
    if not 1 <= len(key) <= MAX_KEY_LENGTH or not key.isascii() or not key.isprintable():
        raise Invalid(f"{_HEADER} must have 1 to {MAX_KEY_LENGTH} printable ASCII characters", param=_HEADER)
    return Call(route=route, key=key, body_digest=hashlib.sha256(body).digest())


async def once(
    session: AsyncSession, owner: Owner, call: Call | None, kind: type[T], work: Callable[[], Awaitable[T]]
) -> T:
    """What `work` answers, or answered when the same call was made before. Raises as `begin` does."""
    kept = await begin(session, owner, call)
    if kept is not None:
        return msgspec.convert(kept, kind)
    answer = await work()
    await finish(session, owner, call, msgspec.to_builtins(answer))
    return answer


async def begin(session: AsyncSession, owner: Owner, call: Call | None) -> dict[str, Any] | None:
    """The kept answer of the same call made before, or None: go on.

    Raises `Conflict`: `idempotency_key_reused` if another thing was asked for, `already_completed` if the call was
    made and its answer is not kept.
    """
    if call is None:
        return None
    await queries.drop_old(session, owner)
    if await queries.insert_record(session, owner, route=call.route, key=call.key, body_digest=call.body_digest):
        return None
    record = await queries.read_record(session, owner, route=call.route, key=call.key)
    if record.body_digest != call.body_digest:
        raise Conflict("this Idempotency-Key came with another body before", code="idempotency_key_reused")
    if record.answer is None:
        raise Conflict("this call was made before, and its answer is not kept", code="already_completed")
    return record.answer


async def finish(session: AsyncSession, owner: Owner, call: Call | None, answer: dict[str, Any]) -> None:
    """Keep the answer for a repeat. Not called where the answer holds a secret."""
    if call is not None:
        await queries.keep_answer(session, owner, route=call.route, key=call.key, answer=answer)

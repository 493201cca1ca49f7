"""How the operator's people change something through the API."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

from msgspec import Struct
from sqlalchemy.ext.asyncio import AsyncSession

from chappe_control.authentication import OperatorRequest
from chappe_control.idempotency import service as idempotency
from chappe_control.origins import origin_of
from chappe_control.state import Services

T = TypeVar("T", bound=Struct)


async def perform(
    request: OperatorRequest, services: Services, kind: type[T], work: Callable[[AsyncSession], Awaitable[T]]
) -> T:
    """What `work` answers, in one transaction of the operator's and in the caller's name; a repeat with the same
    `Idempotency-Key` gets the same answer."""
    call = await idempotency.call_of(request)
    async with services.database.operator(origin_of(request)) as session:
        return await idempotency.once(session, request.auth.user_id, call, kind, lambda: work(session))

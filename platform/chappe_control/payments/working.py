"""What payments need done regularly. Any number of processes may do so side by side."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress

import structlog
from sqlalchemy.exc import DBAPIError

from chappe_billing.payments.port import ServiceError
from chappe_control.payments.office import PaymentOffice
from chappe_kernel.errors import ChappeError

_log = structlog.get_logger()
_CALLS_EVERY_S = 2.0
_LOOK_AFTER_EVERY_S = 10.0
_CATCH_UP_EVERY_S = 60.0
_TOP_UP_EVERY_S = 10.0
_COLLECT_EVERY_S = 60.0
_WITHDRAW_EVERY_S = 10.0
_REPORT_EVERY_S = 600.0

Work = Callable[[], Awaitable[int]]


@asynccontextmanager
async def working_payments(office: PaymentOffice) -> AsyncIterator[None]:
    """While the block runs; not at all without an account with the service."""
    async with AsyncExitStack() as stack:
        if office.is_open:
            await stack.enter_async_context(_running(_call_for_ever(office)))
            for name, work, every_s in (
                ("look_after", office.look_after, _LOOK_AFTER_EVERY_S),
                ("catch_up", office.catch_up, _CATCH_UP_EVERY_S),
                ("auto_top_ups", office.top_up_all, _TOP_UP_EVERY_S),
                ("invoices", office.collect_all, _COLLECT_EVERY_S),
                ("withdrawals", office.withdraw_all, _WITHDRAW_EVERY_S),
                ("usage", office.report_usage, _REPORT_EVERY_S),
                ("wanted_again", office.collect_again, _COLLECT_EVERY_S),
            ):
                await stack.enter_async_context(_running(_repeat(name, work, every_s)))
        yield


@asynccontextmanager
async def _running(work: Awaitable[None]) -> AsyncIterator[None]:
    task = asyncio.ensure_future(work)
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def _call_for_ever(office: PaymentOffice) -> None:
    while True:
        # One call may make room for the next: a customer for what waits for it.
        while await _once("calls", office.carry_out_due):
            pass
        await office.until_ordered(_CALLS_EVERY_S)


async def _repeat(name: str, work: Work, every_s: float) -> None:
    while True:
        await asyncio.sleep(every_s)
        await _once(name, work)


async def _once(name: str, work: Work) -> int:
    try:
        return await work()
    except (ServiceError, ChappeError, DBAPIError, OSError) as error:
        # Nothing is lost: what was not done is found again.
        _log.warning("payments_failed", work=name, error=type(error).__name__)
        return 0

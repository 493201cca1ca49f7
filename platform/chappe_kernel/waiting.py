"""Waiting for an answer that should come soon, in a process that may be held up itself."""

import asyncio
from collections.abc import Coroutine
from typing import TypeVar

_Answer = TypeVar("_Answer")
_LOOKS = 3


async def answered(call: Coroutine[object, object, _Answer], timeout_s: float) -> _Answer:
    """What `call` answers. Raises `TimeoutError` after `timeout_s` in which this process ran: one that was held up for
    longer finds an answer that has come meanwhile, and must not take the other side for gone."""
    asking = asyncio.ensure_future(call)
    try:
        for _ in range(_LOOKS):
            await asyncio.wait([asking], timeout=timeout_s / _LOOKS)
            if asking.done():
                return asking.result()
        raise TimeoutError
    finally:
        if not asking.done():
            asking.cancel()
            await asyncio.wait([asking])

"""Cutting off whatever writes before each of its statements, and after its COMMIT with the answer lost.

Before the COMMIT nothing at all has changed, in no table; afterwards all of it has. Sent again it is done once. What
takes several transactions has done a number of them whole, and the next try goes on from there.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import asyncpg
import pytest

from tests.billing.conftest import MakeCustomer, Market
from tests.money.cut import BROKEN, Cut, dump
from tests.money.sums import assert_whole


async def is_found(connection: "asyncpg.Connection[Any]", wanted: object, statement: str, *arguments: object) -> bool:
    found: object = await connection.fetchval(statement, *arguments)
    return found == wanted


Act = Callable[[Market], Awaitable[object]]
"""What is done, over whatever way the market has to its database."""
Check = Callable[["asyncpg.Connection[Any]", Market], Awaitable[None]]


async def _all_of_it(connection: "asyncpg.Connection[Any]", market: Market) -> None:
    await assert_whole(connection, market.database)


@dataclass(frozen=True)
class Case:
    """`act` can be sent again: it says either the same once more, or that it was done (`repeated`)."""

    act: Act
    done: Callable[[], Awaitable[bool]]
    repeated: type[Exception] | None = None
    touches: tuple[str, ...] = field(default=())
    """Statements that must be among those before which it was cut."""
    transactions: int = 1
    check: Check = _all_of_it
    """What must hold whenever a number of its transactions is done."""


Prepare = Callable[[Market, MakeCustomer, "asyncpg.Connection[Any]"], Awaitable[Case]]


@dataclass(frozen=True)
class Prepared:
    case: Case
    there: Market
    """The market over the way that can be cut."""


async def assert_a_cut_leaves_all_or_nothing(
    prepared: Prepared, market: Market, cut: Cut, superuser: "asyncpg.Connection[Any]"
) -> None:
    """Before its every statement in turn, until none is left; then it is done."""
    before = await dump(superuser)
    executed: list[str] = []
    """By all tries: one goes on where another's transaction ended."""
    for number in count():
        cut.arm(before=number)
        try:
            await prepared.case.act(prepared.there)
        except BROKEN:
            assert cut.was_cut
            executed += cut.statements
            after = await dump(superuser)
            if prepared.case.transactions > 1 and cut.committed:
                await prepared.case.check(superuser, market)
                before = after
            assert after == before, f"cut after {cut.statements}"
        else:
            assert not cut.was_cut
            executed += cut.statements
            break
    assert all(any(word in statement for statement in executed) for word in prepared.case.touches), executed
    assert await prepared.case.done()
    await _assert_done_once(prepared.case, market, superuser)


async def assert_a_lost_answer_leaves_all_done(
    prepared: Prepared, market: Market, cut: Cut, superuser: "asyncpg.Connection[Any]"
) -> None:
    """Of its COMMIT; of each, when there are several."""
    assert not await prepared.case.done()
    for number in range(prepared.case.transactions):
        cut.arm(loses_commit=True, commits_first=number)
        with pytest.raises(BROKEN):
            await prepared.case.act(prepared.there)
        assert cut.was_cut
    assert await prepared.case.done()
    await _assert_done_once(prepared.case, market, superuser)


async def _assert_done_once(case: Case, market: Market, superuser: "asyncpg.Connection[Any]") -> None:
    await case.check(superuser, market)
    after = await dump(superuser)
    try:
        await case.act(market)
    except Exception as error:
        if case.repeated is None or not isinstance(error, case.repeated):
            raise
    assert await dump(superuser) == after

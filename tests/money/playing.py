"""The machine, with a stage to play on."""

import asyncio
from typing import Any

import asyncpg
import pytest

from tests.billing.conftest import MakeCustomer, Market
from tests.money import stage
from tests.money.cut import Cut
from tests.money.machine import Money


@pytest.fixture
async def played(
    market: Market,
    cut_market: Market,
    cut: Cut,
    make_customer: MakeCustomer,
    superuser: "asyncpg.Connection[Any]",
) -> type[Money]:
    cast = await stage.prepare(market, make_customer, superuser)

    class Played(Money):
        pass

    Played.stage = stage.Stage(cast, cut, market.database, cut_market.database, superuser, asyncio.get_running_loop())
    return Played

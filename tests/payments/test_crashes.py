"""A crash before any statement of the webhook or of the worker, and after any commit: no credit twice, none lost."""

import shutil
import tempfile
from collections.abc import AsyncIterator
from itertools import count
from pathlib import Path

import pytest

from chappe_billing.payments.calling import LEASE
from chappe_billing.payments.service import Bounds
from chappe_billing.payments.stripe_service import StripeSettings
from chappe_control.payments.office import PaymentOffice
from chappe_local import postgres as embedded
from chappe_store.session import Database
from tests.conftest import TESTS, DatabaseUrls, PostgresServer
from tests.money.cut import BROKEN, Cut
from tests.payments.world import PaymentWorld

_EUR = 10**9


@pytest.fixture
async def cut(postgres: PostgresServer) -> AsyncIterator[Cut]:
    directory = Path(tempfile.mkdtemp(prefix="chappe-cut-"))
    async with Cut(postgres.socket_dir, directory).open() as opened:
        yield opened
    shutil.rmtree(directory)


@pytest.fixture
async def crashing(
    world: PaymentWorld, cut: Cut, postgres: PostgresServer, database_urls: DatabaseUrls
) -> AsyncIterator[PaymentOffice]:
    """The same office, over a way to its database that can be cut."""
    url = embedded.database_url(cut.dir, embedded.LOGIN, postgres.passwords.control, database_urls.name)
    database = Database(url, pool_size=1, origin=TESTS)
    settings = StripeSettings(world.stripe.api_key, world.stripe.webhook_secret, world.stripe.url)
    office = PaymentOffice(settings, database, world.clock, Bounds())
    yield office
    await office.close()
    await database.close()


async def test_a_webhook_that_is_cut_anywhere_credits_once(
    world: PaymentWorld, crashing: PaymentOffice, cut: Cut
) -> None:
    scope = await world.buyer()
    await world.pay(scope)
    [body] = [body for body in await world.events() if b'"payment_intent.succeeded"' in body]
    for number in count():
        cut.arm(before=number)
        try:
            await crashing.hear(body, world.sign(body))
        except BROKEN:
            assert await world.balance_nano(scope) == 0
            assert await world.sql("SELECT count(*) FROM payment_event") == [(0,)]
        else:
            break
    assert number > 10, "it was cut before many statements"
    assert await world.balance_nano(scope) == 100 * _EUR
    await world.hear_all()
    assert await world.balance_nano(scope) == 100 * _EUR
    await world.assert_sound()


async def test_a_worker_that_is_cut_anywhere_refunds_once(
    world: PaymentWorld, crashing: PaymentOffice, cut: Cut
) -> None:
    scope = await world.buyer()
    payment = await world.topped_up(scope)
    await world.refund(payment, 6_000)
    for number in count():
        cut.arm(before=number)
        try:
            done = await crashing.carry_out_due()
        except BROKEN:
            # Whoever claimed it is gone: it is due again when its time with it is over.
            world.clock.advance(LEASE.total_seconds() + 1)
        else:
            assert done == 1
            break
    assert number > 10, "it was cut before many statements"
    assert len((await (await world.client()).v1.refunds.list_async()).data) == 1
    assert await world.sql("SELECT state FROM payment_refund") == [("succeeded",)]
    assert await world.balance_nano(scope) == 50 * _EUR
    await world.assert_sound()

"""A letter is sent if and only if its transaction was committed, as often as it takes, and never twice at once."""

import asyncio
from contextlib import AbstractAsyncContextManager
from datetime import timedelta

import pytest
from sqlalchemy import text

from chappe_billing.payments.service import Bounds
from chappe_control.mail.orders import Order
from chappe_control.mail.service import Mail
from chappe_control.payments.office import PaymentOffice
from chappe_control.settings import WorkSettings
from chappe_control.webhooks.sealing import SecretSeal
from chappe_control.working import UNTIL_DONE, Work, working
from chappe_control.works import Workshop, answering_at_once
from chappe_kernel.clock import SystemClock
from chappe_kernel.errors import Unavailable
from chappe_store.session import NOBODY, Database
from tests.control.world import PEPPERS
from tests.mail.conftest import SENDER, PostOffice, hello, make_due, open_office, rows

HOUR = timedelta(hours=1)


def delivering(mail: Mail) -> AbstractAsyncContextManager[None]:
    """Nothing is found by looking within a test's time: what is sent was heard of."""
    return working([Work("mail", mail.send_due, 60, rounds=UNTIL_DONE, wait=mail.until_ordered)])


async def order(database: Database, mail: Mail, *orders: Order, useful_for: timedelta = HOUR) -> None:
    async with database.operator() as session:
        for one in orders:
            await mail.order(session, one, useful_for=useful_for)


async def test_an_order_becomes_a_letter_and_is_forgotten(database: Database, post_office: PostOffice) -> None:
    mail = open_office(database, post_office.port)
    await order(database, mail, hello())
    assert await mail.send_due() == 1
    assert await mail.send_due() == 0
    (letter,) = post_office.taken
    assert (letter["To"], letter["X-To"], letter["From"]) == ("mia@example.eu", "mia@example.eu", SENDER)
    assert "Hello Mia." in str(letter)
    assert await rows(database) == [
        {"payload": "{}", "attempts": 1, "delivered": True, "given_up": False, "due_in_s": pytest.approx(120, abs=10)}
    ]


async def test_what_is_rolled_back_is_never_sent(database: Database, post_office: PostOffice) -> None:
    mail = open_office(database, post_office.port)
    with pytest.raises(RuntimeError):
        async with database.operator() as session:
            await mail.order(session, hello(), useful_for=HOUR)
            raise RuntimeError
    assert await mail.send_due() == 0
    assert post_office.taken == []


async def test_the_role_of_tenants_may_order_and_not_read(database: Database, post_office: PostOffice) -> None:
    mail = open_office(database, post_office.port)
    async with database.tenant(NOBODY) as session:
        await mail.order(session, hello(), useful_for=HOUR)
    assert await mail.send_due() == 1


@pytest.mark.parametrize("answer", ["451 try again later", "421 too busy"])
async def test_a_server_that_cannot_now_is_asked_again_later_and_later(
    database: Database, post_office: PostOffice, answer: str
) -> None:
    mail = open_office(database, post_office.port)
    post_office.content_answers += [answer] * 3
    await order(database, mail, hello())
    waits = []
    for _ in range(3):
        assert await mail.send_due() == 1
        assert await mail.send_due() == 0, "not before its time"
        waits.append((await rows(database))[0]["due_in_s"])
        await make_due(database)
    assert waits == pytest.approx([5, 10, 20], abs=3)
    await mail.send_due()
    assert post_office.recipients == ["mia@example.eu"]
    assert (await rows(database))[0]["attempts"] == 4


async def test_a_server_that_is_away_costs_nothing_but_time(database: Database, post_office: PostOffice) -> None:
    away = open_office(database, 1)
    await order(database, away, hello())
    assert await away.send_due() == 1
    await make_due(database)
    assert await open_office(database, post_office.port).send_due() == 1
    assert post_office.recipients == ["mia@example.eu"]


async def test_an_address_that_does_not_exist_is_given_up_and_holds_up_nobody(
    database: Database, post_office: PostOffice
) -> None:
    mail = open_office(database, post_office.port)
    post_office.recipient_answers += ["550 no such mailbox"]
    await order(database, mail, hello("nobody@example.eu"))
    await mail.send_due()
    await order(database, mail, hello())
    await mail.send_due()
    assert post_office.recipients == ["mia@example.eu"]
    gone, sent = await rows(database)
    assert (gone["given_up"], gone["delivered"], gone["payload"]) == (True, False, "{}")
    assert sent["delivered"]


async def test_a_recipient_who_is_greylisted_is_tried_again(database: Database, post_office: PostOffice) -> None:
    mail = open_office(database, post_office.port)
    post_office.recipient_answers += ["450 greylisted"]
    await order(database, mail, hello())
    await mail.send_due()
    assert not (await rows(database))[0]["given_up"]


async def test_what_nobody_wants_any_more_is_not_sent(database: Database, post_office: PostOffice) -> None:
    mail = open_office(database, post_office.port)
    await order(database, mail, hello(), useful_for=timedelta(seconds=-1))
    await mail.send_due()
    assert post_office.taken == []
    assert (await rows(database))[0]["given_up"]


async def test_when_there_is_nothing_to_tell_nothing_is_sent(database: Database, post_office: PostOffice) -> None:
    mail = open_office(database, post_office.port)
    await order(database, mail, hello(kind="nothing"))
    await mail.send_due()
    assert post_office.taken == []
    assert (await rows(database))[0]["delivered"]


async def test_an_order_that_no_process_can_read_is_given_up(database: Database, post_office: PostOffice) -> None:
    mail = open_office(database, post_office.port)
    await order(database, mail, hello())
    async with database.operator() as session:
        await session.execute(text("""UPDATE outbox SET payload = '{"pepper_version": 9, "sealed": "AAAA"}'"""))
    await mail.send_due()
    assert (await rows(database))[0]["given_up"]


async def test_many_processes_send_each_letter_once(database: Database, post_office: PostOffice) -> None:
    offices = [open_office(database, post_office.port) for _ in range(3)]
    wanted = [f"reader-{number}@example.eu" for number in range(40)]
    await order(database, offices[0], *map(hello, wanted))

    async def drain(mail: Mail) -> None:
        while await mail.send_due():
            pass

    await asyncio.gather(*map(drain, offices))
    assert sorted(post_office.recipients) == sorted(wanted)


async def test_what_a_killed_process_had_claimed_is_due_again(database: Database, post_office: PostOffice) -> None:
    """Its lease is over after two minutes. The letter keeps its id, so that a reader's program knows a repetition."""
    mail = open_office(database, post_office.port)
    await order(database, mail, hello())
    await mail.send_due()
    async with database.operator() as session:
        await session.execute(text("UPDATE outbox SET delivered_at = NULL"))
    assert await mail.send_due() == 0
    await make_due(database)
    assert await mail.send_due() == 1
    assert (await rows(database))[0]["given_up"], "nothing is left of what it said"


async def test_the_worker_sends_what_was_ordered_at_once(database: Database, post_office: PostOffice) -> None:
    mail = open_office(database, post_office.port)
    async with delivering(mail), asyncio.timeout(15):
        await order(database, mail, hello())
        await post_office.arrived.wait()


async def test_a_control_plane_without_work_sends_what_it_has_ordered_at_once_and_not_the_bulk_before_it(
    database: Database, post_office: PostOffice
) -> None:
    """As many letters as three rounds take wait already; whoever waits for a link is not behind them."""
    mail, clock = open_office(database, post_office.port), SystemClock()
    bulk = [f"reader-{number}@example.eu" for number in range(24)]
    await order(database, open_office(database, post_office.port), *map(hello, bulk))
    settings = WorkSettings(database_url="", key_peppers="", portal_url="http://localhost:8400")
    payments = PaymentOffice(None, database, clock, Bounds())
    shop = Workshop(settings, database, mail, payments, SecretSeal(PEPPERS), None, clock)
    await order(database, mail, hello("who-waits@example.eu"))
    async with answering_at_once(shop), asyncio.timeout(15):
        while "who-waits@example.eu" not in post_office.recipients:
            await post_office.arrived.wait()
            post_office.arrived.clear()
    # A round at the start, and perhaps one because something was ordered.
    assert len(post_office.recipients) <= 16


async def test_the_worker_outlives_a_database_that_is_away(database: Database, post_office: PostOffice) -> None:
    broken = open_office(Database("postgresql+asyncpg://nobody@127.0.0.1:1/none"), post_office.port)
    with pytest.raises(Unavailable):
        await broken.send_due()
    async with delivering(broken), asyncio.timeout(15):
        await asyncio.sleep(0)
        broken._database = database
        await order(database, broken, hello())
        await post_office.arrived.wait()


async def test_without_a_server_nothing_is_promised_and_nothing_lost(database: Database) -> None:
    mute = open_office(database, 1)
    mute._server = None
    assert not mute.is_open
    await order(database, mute, hello())
    async with delivering(mute):
        assert await mute.send_due() == 0
    assert not (await rows(database))[0]["delivered"]


async def test_nobody_orders_what_nobody_writes(database: Database) -> None:
    mail = open_office(database, 1)
    with pytest.raises(ValueError, match="unheard-of"):
        await order(database, mail, hello(kind="unheard-of"))

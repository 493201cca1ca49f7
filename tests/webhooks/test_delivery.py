"""An event reaches every endpoint that asks for it, signed, as often as it takes, and its log says how it went."""

import asyncio
from datetime import timedelta

import msgspec
import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from chappe_control.webhooks import service
from chappe_control.webhooks.kinds import EventKind
from chappe_control.webhooks.schedule import MOST_ATTEMPTS
from chappe_control.webhooks.service import EndpointOrder
from chappe_control.webhooks.signing import read_secret, sign
from chappe_kernel.errors import Conflict, Invalid, NotFound
from chappe_kernel.ids import EVENT, TENANT, encode_id
from chappe_store.session import Database
from tests.webhooks.conftest import SEAL, Post, make_courier, make_endpoint, make_tenant
from tests.webhooks.receiver import Received

DAY = timedelta(days=1)
_FAULT = b"HTTP/1.1 500 Oh\r\n\r\n"


def is_signed(taken: Received, secret: str) -> bool:
    made = sign(
        read_secret(secret),
        message_id=taken.headers["webhook-id"],
        timestamp=int(taken.headers["webhook-timestamp"]),
        body=taken.body,
    )
    return made in taken.headers["webhook-signature"].split(" ")


async def test_an_event_arrives_signed_once(post: Post) -> None:
    event_id = await post.publish(available="1.000000000")
    assert (await post.deliver(), await post.deliver()) == (1, 0)
    (taken,) = post.receiver.taken
    assert is_signed(taken, post.made.secret)
    assert taken.headers["webhook-id"] == encode_id(EVENT, event_id)
    told = msgspec.json.decode(taken.body)
    assert (told["type"], told["data"]) == (
        "balance.low",
        {"tenant_id": encode_id(TENANT, post.scope.tenant_id), "available": "1.000000000"},
    )
    (logged,) = await post.log()
    assert (logged.state, logged.attempts, logged.status, logged.error) == ("delivered", 1, 204, None)


async def test_only_those_hear_who_ask_for_the_kind(post: Post) -> None:
    other = await make_tenant(post.database)
    url = f"http://127.0.0.1:{post.receiver.port}"
    await make_endpoint(post.database, other, f"{url}/others")
    await make_endpoint(post.database, post.scope, f"{url}/payments", EventKind.PAYMENT_FAILED)
    await post.publish()
    await post.deliver()
    assert [taken.line for taken in post.receiver.taken] == ["POST /in HTTP/1.1"]


async def test_what_is_not_taken_comes_again_under_the_same_id(post: Post) -> None:
    post.receiver.answers += [_FAULT, None, b"HTTP/1.1 302 Away\r\nLocation: /x\r\n\r\n"]
    post.courier._sender._timeout_s = 0.2
    event_id = await post.publish()
    waits = []
    for _ in range(4):
        await post.deliver()
        assert await post.deliver() == 0, "not before its time"
        (logged,) = await post.log()
        waits.append((logged.status, logged.error))
        await post.pass_time(timedelta(hours=1))
    assert waits == [(500, None), (None, "timed_out"), (302, None), (204, None)]
    assert {taken.headers["webhook-id"] for taken in post.receiver.taken} == {encode_id(EVENT, event_id)}
    (logged,) = await post.log()
    assert (logged.state, logged.attempts) == ("delivered", 4)
    assert (await post.endpoint()).failing_since is None


async def test_after_a_day_it_is_given_up_and_can_be_sent_again(post: Post) -> None:
    post.receiver.answers += [_FAULT] * MOST_ATTEMPTS
    await post.publish()
    for _ in range(MOST_ATTEMPTS + 2):
        await post.deliver()
        async with post.database.operator() as session:
            await session.execute(text("UPDATE outbox SET due_at = now() WHERE given_up_at IS NULL"))
    (logged,) = await post.log()
    assert (logged.state, logged.attempts, len(post.receiver.taken)) == ("failed", MOST_ATTEMPTS, MOST_ATTEMPTS)
    async with post.database.tenant(post.scope) as session:
        endpoint = await service.get_endpoint(session, post.scope, post.endpoint_id, lock=True)
        await service.redeliver(session, post.scope, endpoint, logged.id)
    await post.deliver()
    again, first = await post.log()
    assert (again.state, again.redelivers, first.state) == ("delivered", logged.id, "failed")
    assert post.receiver.taken[-1].headers["webhook-id"] == post.receiver.taken[0].headers["webhook-id"]


async def test_after_days_of_failures_it_is_disabled_and_its_tenant_told_once(post: Post) -> None:
    post.receiver.answers += [_FAULT] * 3
    await post.publish()
    await post.publish()
    await post.deliver()
    assert (await post.endpoint()).disabled_at is None
    await post.pass_time(timedelta(days=3))
    await post.deliver()
    endpoint = await post.endpoint()
    assert (endpoint.disabled_reason, len(await post.outbox("notice"))) == ("failing", 1)
    await post.publish()
    await post.pass_time(DAY)
    before = len(post.receiver.taken)
    await post.deliver()
    assert len(post.receiver.taken) == before, "nothing goes to one that is disabled"
    async with post.database.tenant(post.scope) as session:
        locked = await service.get_endpoint(session, post.scope, post.endpoint_id, lock=True)
        await service.set_enabled(session, post.scope, locked, enabled=True)
    await post.publish()
    await post.deliver()
    assert (await post.log())[0].state in {"waiting", "delivered"}


async def test_an_endpoint_that_says_it_is_gone_is_believed(post: Post) -> None:
    post.receiver.answers.append(b"HTTP/1.1 410 Gone\r\n\r\n")
    await post.publish()
    await post.deliver()
    assert (await post.endpoint()).disabled_reason == "gone"
    (notice,) = await post.outbox("notice")
    assert notice["kind"] == "webhook.disabled" and notice["data"]["reason"] == "gone"


async def test_both_secrets_sign_for_a_day(post: Post) -> None:
    async with post.database.tenant(post.scope) as session:
        endpoint = await service.get_endpoint(session, post.scope, post.endpoint_id, lock=True)
        rotated = await service.rotate_secret(session, post.scope, SEAL, endpoint)
    await post.publish()
    await post.deliver()
    async with post.database.tenant(post.scope) as session:
        await session.execute(text("UPDATE webhook_endpoint SET old_secret_until = now()"))
    await post.publish()
    await post.deliver()
    during, after = post.receiver.taken
    assert is_signed(during, post.made.secret) and is_signed(during, rotated.secret)
    assert is_signed(after, rotated.secret) and not is_signed(after, post.made.secret)


async def test_two_workers_deliver_each_event_once(post: Post) -> None:
    other = make_courier(post.database)
    for _ in range(20):
        await post.publish()
    await asyncio.gather(post.deliver(), other.deliver_due())
    other.close()
    assert len({taken.headers["webhook-id"] for taken in post.receiver.taken}) == len(post.receiver.taken) == 20


async def test_killed_before_it_is_noted_it_comes_again_under_the_same_id(post: Post) -> None:
    """A crash between the endpoint's answer and the transaction that notes it."""
    await post.publish()

    async def die(*_: object) -> None:
        raise ConnectionAbortedError

    post.courier._note, note = die, post.courier._note  # type: ignore[method-assign,assignment]
    with pytest.raises(ConnectionAbortedError):
        await post.deliver()
    post.courier._note = note  # type: ignore[method-assign]
    assert await post.deliver() == 0, "its lease has not ended"
    await post.pass_time(timedelta(minutes=3))
    assert await post.deliver() == 1
    assert len({taken.headers["webhook-id"] for taken in post.receiver.taken}) == 1
    (logged,) = await post.log()
    assert (logged.state, logged.attempts) == ("delivered", 2)


async def test_an_event_is_published_once(post: Post) -> None:
    event_id = await post.publish()
    with pytest.raises(IntegrityError):
        async with post.database.operator() as session:
            await service.publish(session, post.scope.tenant_id, event_id, EventKind.LOW_BALANCE, {})


async def test_an_address_that_was_stored_is_checked_again(post: Post) -> None:
    """However it came into the table: what is not a public address gets nothing."""
    async with post.database.tenant(post.scope) as session:
        await session.execute(text("UPDATE webhook_endpoint SET url = 'http://10.0.0.1/'"))
    await post.publish()
    await post.deliver()
    (logged,) = await post.log()
    assert (logged.error, logged.duration_ms) == ("invalid_url", 0)


async def test_a_removed_endpoint_gets_nothing_more(post: Post) -> None:
    await post.publish()
    async with post.database.tenant(post.scope) as session:
        endpoint = await service.get_endpoint(session, post.scope, post.endpoint_id, lock=True)
        await service.remove_endpoint(session, post.scope, endpoint)
    await post.deliver()
    assert post.receiver.taken == []


async def test_another_tenant_finds_nothing_of_it(post: Post) -> None:
    other = await make_tenant(post.database)
    await post.publish()
    await post.deliver()
    async with post.database.tenant(other) as session:
        with pytest.raises(NotFound):
            await service.get_endpoint(session, other, post.endpoint_id)
        for table in ("endpoint", "event", "delivery", "attempt"):
            assert await session.scalar(text(f"SELECT count(*) FROM webhook_{table}")) == 0


async def test_a_test_event_and_what_is_refused(post: Post, database: Database) -> None:
    async with database.tenant(post.scope) as session:
        endpoint = await service.get_endpoint(session, post.scope, post.endpoint_id, lock=True)
        delivery_id = await service.send_test(session, post.scope, endpoint)
    with pytest.raises(Conflict):
        async with database.tenant(post.scope) as session:
            await service.redeliver(session, post.scope, endpoint, delivery_id)
    await post.deliver()
    assert msgspec.json.decode(post.receiver.taken[0].body)["type"] == "test"
    for order in (
        EndpointOrder(url="https://127.0.0.1/", kinds=["balance.low"]),
        EndpointOrder(url="https://a.example.org/", kinds=[]),
        EndpointOrder(url="https://a.example.org/", kinds=["test"]),
        EndpointOrder(url="https://a.example.org/"),
        EndpointOrder(url="https://a.example.org/", kinds=["balance.low"], description="x" * 201),
    ):
        with pytest.raises(Invalid):
            async with database.tenant(post.scope) as session:
                await service.create_endpoint(session, post.scope, SEAL, order, to_loopback=False)
    assert await post.courier.drop_old() == 0
    assert await post.courier.drop_old(timedelta()) == 1
    assert await post.log() == []

"""A repeated POST does not happen twice, whoever calls: a tenant's programs, or the operator's people."""

import asyncio
from typing import Any

import pytest
from litestar import Request
from litestar.testing import RequestFactory
from msgspec import Struct
from sqlalchemy import text

from chappe_control.idempotency.queries import Owner
from chappe_control.idempotency.service import Call, begin, call_of, once
from chappe_kernel.errors import Conflict, Invalid
from chappe_kernel.ids import OperatorUserId
from chappe_store.session import Database
from chappe_tenants.operators.queries import list_operators
from chappe_tenants.operators.service import OperatorRole, put_operator
from chappe_tenants.organisations.service import create_organisation
from tests.pages.browser import PASSWORD


class Answer(Struct, frozen=True):
    number: int


@pytest.fixture(params=["a tenant", "one of the operator's people"])
async def owner(request: pytest.FixtureRequest, database: Database) -> Owner:
    """Each among all others, whose records must not be in the way."""
    async with database.operator() as session:
        owners: dict[str, Owner] = {}
        for name in ("a tenant", "another tenant"):
            owners[name] = await create_organisation(session, name=name, allowed_regions=["FR"], requests_per_minute=60)
        for name in ("one of the operator's people", "another of them"):
            address = f"{name.split()[0]}@operator.example"
            await put_operator(session, email=address, password=PASSWORD, role=OperatorRole.SUPPORT)
            (user,) = [user for user in await list_operators(session) if user.email == address]
            owners[name] = OperatorUserId(user.id)
        for other in owners.values():
            if other != owners[request.param]:
                await once(session, other, CALL, Answer, Counter())
    return owners[request.param]


class Counter:
    """Work that can be counted."""

    def __init__(self) -> None:
        self.calls = 0

    async def __call__(self) -> Answer:
        self.calls += 1
        return Answer(self.calls)


CALL = Call("POST /things", "abc", b"d" * 32)


async def test_a_repeat_gets_the_same_answer_and_no_second_effect(database: Database, owner: Owner) -> None:
    work = Counter()

    async def call() -> Answer:
        async with database.operator() as session:
            return await once(session, owner, CALL, Answer, work)

    assert await asyncio.gather(*(call() for _ in range(5))) == [Answer(1)] * 5
    assert work.calls == 1


async def test_the_same_key_for_another_thing_is_refused(database: Database, owner: Owner) -> None:
    async with database.operator() as session:
        await once(session, owner, CALL, Answer, Counter())
        with pytest.raises(Conflict) as raised:
            await once(session, owner, Call(CALL.route, CALL.key, b"e" * 32), Answer, Counter())
        assert raised.value.code == "idempotency_key_reused"
        assert await once(session, owner, Call("POST /others", CALL.key, b"e" * 32), Answer, Counter()) == Answer(1)


async def test_an_answer_that_is_not_kept_is_told_and_not_repeated(database: Database, owner: Owner) -> None:
    async with database.operator() as session:
        assert await begin(session, owner, CALL) is None
        with pytest.raises(Conflict) as raised:
            await begin(session, owner, CALL)
    assert raised.value.code == "already_completed"


async def test_failed_work_may_be_done_again(database: Database, owner: Owner) -> None:
    class Failed(Exception):
        pass

    async def fail() -> Answer:
        raise Failed

    with pytest.raises(Failed):
        async with database.operator() as session:
            await once(session, owner, CALL, Answer, fail)
    async with database.operator() as session:
        assert await once(session, owner, CALL, Answer, Counter()) == Answer(1)


async def test_a_day_later_the_key_is_free_again(database: Database, owner: Owner) -> None:
    work = Counter()
    async with database.operator() as session:
        await once(session, owner, CALL, Answer, work)
        for table in ("idempotency_record", "operator_idempotency_record"):
            await session.execute(text(f"UPDATE {table} SET created_at = now() - interval '25 hours'"))
        assert await once(session, owner, CALL, Answer, work) == Answer(2)


async def test_without_a_key_every_call_counts(database: Database, owner: Owner) -> None:
    work = Counter()
    async with database.operator() as session:
        assert [await once(session, owner, None, Answer, work) for _ in range(2)] == [Answer(1), Answer(2)]


def request(path: str, *keys: str, body: Any = None) -> Request[Any, Any, Any]:
    made = RequestFactory().post(path, data=body)
    made.scope["path_template"] = "/things/{thing_id}/doings"
    sent = [(b"idempotency-key", key.encode("latin-1")) for key in keys]
    made.scope["headers"] = [*made.scope["headers"], *sent]
    return made


async def test_a_call_is_its_route_its_path_and_its_body() -> None:
    one = await call_of(request("/things/1/doings", "k", body={"a": 1}))
    again = await call_of(request("/things/1/doings", "k", body={"a": 1}))
    of_another = await call_of(request("/things/2/doings", "k", body={"a": 1}))
    with_more = await call_of(request("/things/1/doings", "k", body={"a": 2}))
    assert one is not None and of_another is not None and with_more is not None
    assert one == again
    assert {(call.route, call.key) for call in (one, of_another, with_more)} == {
        ("POST /things/{thing_id}/doings", "k")
    }
    assert len({call.body_digest for call in (one, of_another, with_more)}) == 3
    assert await call_of(request("/things/1/doings")) is None


@pytest.mark.parametrize("keys", [("",), ("x" * 256,), ("ключ".encode().decode("latin-1"),), ("a\x00",), ("a", "a")])
async def test_what_is_no_key_is_refused(keys: tuple[str, ...]) -> None:
    with pytest.raises(Invalid) as raised:
        await call_of(request("/things/1/doings", *keys))
    assert raised.value.param == "Idempotency-Key"

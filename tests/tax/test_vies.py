"""Asking VIES: an answer is kept with its proof, and whatever is no certain answer is asked again and never taken for a
no."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest
import uvicorn
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import text, update

from chappe_billing.tax.checking import check_due, note_new_numbers, wait_after
from chappe_billing.tax.queries import list_answers, list_checks, make_due, read_check
from chappe_billing.tax.service import treatment_of
from chappe_billing.tax.treatment import TaxCategory
from chappe_billing.tax.vies import NoAnswer, Vies, ViesAnswer, read_answer
from chappe_kernel.errors import Conflict
from chappe_kernel.ids import TenantId
from chappe_local.vies_stand_in import ERRORS, make_app
from chappe_store.queries import read_now
from chappe_store.session import Database, TenantScope
from chappe_tenants.organisations.models import Tenant
from tests.tax.conftest import MakeBuyer

NUMBER, REQUESTER = "DE123456789", "FR40303265045"


@pytest.fixture
async def stand_in() -> AsyncIterator[str]:
    """The local instance's, on a free port."""
    server = uvicorn.Server(uvicorn.Config(make_app(), host="127.0.0.1", port=0, log_config=None, ws="none"))
    task = asyncio.create_task(server.serve())
    while not server.started:  # noqa: ASYNC110 -- uvicorn has no event for it
        await asyncio.sleep(0.01)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    await task


@asynccontextmanager
async def saying(answer: bytes | None) -> AsyncIterator[str]:
    """A server that says these bytes to everybody, or for None says nothing and waits."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"}")
        if answer is None:
            await reader.read()
        else:
            writer.write(answer)
            await writer.drain()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


def http(body: bytes, status: str = "200 OK", head: bytes = b"") -> bytes:
    return f"HTTP/1.1 {status}\r\ncontent-length: {len(body)}\r\n".encode() + head + b"\r\n" + body


async def ask(url: str, number: str = NUMBER, requester: str | None = REQUESTER, timeout_s: float = 5.0) -> ViesAnswer:
    vies = Vies(url, timeout_s=timeout_s)
    try:
        return await vies(number, requester)
    finally:
        await vies.close()


async def test_a_valid_number_comes_with_its_proof(stand_in: str) -> None:
    answer = await ask(stand_in)
    assert answer.valid
    assert answer.consultation_number is not None
    assert answer.name == "A company of the stand-in's"
    assert (await ask(stand_in, requester=None)).consultation_number is None


async def test_an_invalid_number_is_said_to_be_so(stand_in: str) -> None:
    answer = await ask(stand_in, "DE123456200")
    assert (answer.valid, answer.name, answer.address) == (False, None, None)


@pytest.mark.parametrize("code", ERRORS)
async def test_every_error_of_the_test_service_is_an_outage(stand_in: str, code: str) -> None:
    with pytest.raises(NoAnswer) as raised:
        await ask(stand_in, f"DE123456{code}")
    assert raised.value.code == ERRORS[code]


VALID = {"countryCode": "DE", "vatNumber": "123456789", "valid": False}


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"SSH-2.0-OpenSSH\r\n",
        http(b"<html>Bad gateway</html>"),
        http(b"\xff\xfe\x00"),
        http(b"[]"),
        http(b"null"),
        http(b"{}"),
        http(json.dumps(VALID).encode(), "500 Error"),
        http(json.dumps(VALID).encode(), "302 Found", b"location: http://127.0.0.1:9/\r\n"),
        http(json.dumps(VALID | {"valid": None}).encode()),
        http(json.dumps(VALID | {"valid": "false"}).encode()),
        http(json.dumps(VALID | {"vatNumber": "999999999"}).encode()),
        http(json.dumps(VALID | {"userError": "MS_UNAVAILABLE"}).encode()),
        http(json.dumps(VALID | {"actionSucceed": False}).encode()),
        http(b'{"x": "' + b"x" * 100_000 + b'"}'),
    ],
)
async def test_garbage_is_an_outage_and_never_a_no(answer: bytes) -> None:
    async with saying(answer) as url:
        with pytest.raises(NoAnswer):
            await ask(url)


async def test_silence_is_an_outage(unused_tcp_port_url: str) -> None:
    async with saying(None) as url:
        with pytest.raises(NoAnswer):
            await ask(url, timeout_s=0.2)
    with pytest.raises(NoAnswer):
        await ask(unused_tcp_port_url)


@pytest.fixture
async def unused_tcp_port_url() -> str:
    """Where nobody listens any more."""
    async with saying(b"") as url:
        return url


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=12), inner, max_size=3),
    max_leaves=10,
)
FIELDS = st.fixed_dictionaries(
    {},
    optional={
        **dict.fromkeys(("countryCode", "vatNumber", "valid", "requestIdentifier", "name", "address"), JSON),
        **dict.fromkeys(("userError", "errorWrappers", "actionSucceed"), JSON),
    },
)


@given(st.integers(100, 599), JSON | FIELDS | FIELDS.map(lambda found: found | {"countryCode": "DE"}))
def test_nothing_but_a_whole_answer_about_the_number_is_one(status: int, said: Any) -> None:
    try:
        answer = read_answer(NUMBER, status, json.dumps(said).encode())
    except NoAnswer:
        return
    assert status == 200
    assert said["valid"] is answer.valid
    assert f"{said['countryCode']}{said['vatNumber']}" == NUMBER
    assert said.get("userError") in {None, "VALID", "INVALID"}


class Register:
    """Whom the worker asks. `answers` by number; a number that is missing finds the register away."""

    def __init__(self, **answers: bool) -> None:
        self.answers = answers
        self.asked: list[tuple[str, str | None]] = []
        self.before: Callable[[], Any] | None = None

    async def __call__(self, vat_number: str, requester: str | None) -> ViesAnswer:
        self.asked.append((vat_number, requester))
        if self.before is not None:
            await self.before()
        if vat_number not in self.answers:
            raise NoAnswer("away", code="MS_UNAVAILABLE")
        valid = self.answers[vat_number]
        return ViesAnswer(valid, "WAPIAAAA", "Muster GmbH" if valid else None, "Musterweg 1" if valid else None)


async def category(database: Database, tenant_id: TenantId) -> TaxCategory:
    async with database.operator() as session:
        return (await treatment_of(session, tenant_id, (await read_now(session)).date())).category


async def let_pass(database: Database, time: timedelta) -> None:
    async with database.operator() as session:
        await session.execute(text("UPDATE vat_check SET due_at = due_at - cast(:time AS interval)"), {"time": time})


async def test_a_new_number_is_checked_and_its_answer_kept(database: Database, buyer: MakeBuyer) -> None:
    tenant_id = await buyer(country="DE", vat_number=NUMBER)
    register = Register(DE123456789=True)
    assert await check_due(database, register, recheck_days=90) == 1
    assert await check_due(database, register, recheck_days=90) == 0
    assert register.asked == [(NUMBER, REQUESTER)]
    assert await category(database, tenant_id) is TaxCategory.REVERSE_CHARGE
    async with database.tenant(TenantScope(tenant_id)) as session:
        (kept,) = await list_answers(session, TenantScope(tenant_id), limit=10)
    assert (kept.outcome, kept.source, kept.consultation_number) == ("confirmed", "vies", "WAPIAAAA")
    assert (kept.requester, kept.name, kept.address) == (REQUESTER, "Muster GmbH", "Musterweg 1")


async def test_an_outage_queues_retries_with_back_off_and_decides_nothing(database: Database, buyer: MakeBuyer) -> None:
    tenant_id = await buyer(country="DE", vat_number=NUMBER)
    scope, away = TenantScope(tenant_id), Register()
    for attempts in range(1, 4):
        assert await check_due(database, away, recheck_days=90) == 0
        assert len(away.asked) == attempts
        async with database.operator() as session:
            check = await read_check(session, scope)
            assert check is not None
            assert (check.attempts, check.last_error) == (attempts, "MS_UNAVAILABLE")
            assert check.due_at - await read_now(session) <= wait_after(attempts)
            ((shown, _, answer),) = await list_checks(session, limit=10)
            assert (shown.tenant_id, answer) == (tenant_id, None)
        with pytest.raises(Conflict):
            await category(database, tenant_id)
        await check_due(database, away, recheck_days=90)
        assert len(away.asked) == attempts, "not before its time"
        await let_pass(database, wait_after(attempts))
    assert await check_due(database, Register(DE123456789=True), recheck_days=90) == 1
    assert await category(database, tenant_id) is TaxCategory.REVERSE_CHARGE


async def test_an_outage_of_a_later_check_takes_no_confirmation_away_and_a_no_does(
    database: Database, buyer: MakeBuyer
) -> None:
    tenant_id = await buyer(country="DE", vat_number=NUMBER)
    await check_due(database, Register(DE123456789=True), recheck_days=90)
    await let_pass(database, timedelta(days=90))
    away = Register()
    await check_due(database, away, recheck_days=90)
    assert away.asked
    assert await category(database, tenant_id) is TaxCategory.REVERSE_CHARGE
    await let_pass(database, timedelta(days=1))
    assert await check_due(database, Register(DE123456789=False), recheck_days=90) == 1
    assert await category(database, tenant_id) is TaxCategory.STANDARD


async def test_a_changed_number_is_asked_about_at_once_and_the_old_answer_is_not_its(
    database: Database, buyer: MakeBuyer
) -> None:
    tenant_id = await buyer(country="DE", vat_number=NUMBER)

    async def change() -> None:
        async with database.operator() as session:
            await session.execute(update(Tenant).where(Tenant.id == tenant_id).values(vat_number="DE999999999"))

    register = Register(DE123456789=True, DE999999999=True)
    await check_due(database, register, recheck_days=90)
    await change()
    with pytest.raises(Conflict):
        await category(database, tenant_id)
    assert await check_due(database, register, recheck_days=90) == 1
    assert [number for number, _ in register.asked] == [NUMBER, "DE999999999"]


async def test_an_answer_that_comes_after_the_number_changed_is_not_kept(database: Database, buyer: MakeBuyer) -> None:
    tenant_id = await buyer(country="DE", vat_number=NUMBER)
    register = Register(DE123456789=True)

    async def change() -> None:
        async with database.operator() as session:
            await session.execute(update(Tenant).where(Tenant.id == tenant_id).values(vat_number="DE999999999"))
        await note_new_numbers(database)

    register.before = change
    assert await check_due(database, register, recheck_days=90) == 0
    async with database.operator() as session:
        assert await list_answers(session, TenantScope(tenant_id), limit=10) == []


async def test_two_workers_ask_once_and_a_killed_ones_number_is_due_again(database: Database, buyer: MakeBuyer) -> None:
    for _ in range(7):
        await buyer(country="DE", vat_number=NUMBER)
    register = Register(DE123456789=True)
    done = await asyncio.gather(*(check_due(database, register, recheck_days=90) for _ in range(3)))
    assert (sum(done), len(register.asked)) == (7, 7)


async def test_check_again_is_due_at_once(database: Database, buyer: MakeBuyer) -> None:
    tenant_id = await buyer(country="DE", vat_number=NUMBER)
    away = Register()
    await check_due(database, away, recheck_days=90)
    async with database.operator() as session:
        assert await make_due(session, TenantScope(tenant_id))
    await check_due(database, away, recheck_days=90)
    assert len(away.asked) == 2


async def test_numbers_that_vies_does_not_know_of_are_not_asked_about(database: Database, buyer: MakeBuyer) -> None:
    await buyer(country="CH", vat_number="CHE123456789MWST")
    await buyer(country="GB", vat_number="XI123456789")
    await buyer(country="FR")
    assert await note_new_numbers(database) == 0


def test_waits_double_up_to_six_hours() -> None:
    waits = [wait_after(attempts) for attempts in range(1, 30)]
    assert waits[:3] == [timedelta(minutes=1), timedelta(minutes=2), timedelta(minutes=4)]
    assert waits[-1] == timedelta(hours=6)

"""Nobody undoes another's change unseen: `If-Match` names what the caller saw, and anything else changes nothing."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from litestar import Litestar, Request, Response, get, patch
from litestar.params import JSONBody
from litestar.testing import AsyncTestClient
from msgspec import Struct

from chappe_control.etags import check_match, etag_of, with_etag
from chappe_control.problems import EXCEPTION_HANDLERS


class Thing(Struct, frozen=True):
    name: str
    count: int = 0
    seen_at: datetime | None = None


class Renaming(Struct, frozen=True):
    name: str


def make_app() -> Litestar:
    """One thing, and the lock that a row would have."""
    kept = [Thing("first")]
    lock = asyncio.Lock()

    @get("/thing")
    async def read() -> Response[Thing]:
        return with_etag(kept[0])

    @patch("/thing")
    async def rename(request: Request[Any, Any, Any], data: JSONBody[Renaming]) -> Response[Thing]:
        async with lock:
            check_match(request, kept[0])
            await asyncio.sleep(0)
            kept[0] = Thing(data.name, kept[0].count + 1)
        return with_etag(kept[0])

    return Litestar([read, rename], exception_handlers=EXCEPTION_HANDLERS)


@pytest.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    async with AsyncTestClient(make_app()) as client:
        yield client


async def rename(http: httpx.AsyncClient, *if_match: str, name: str = "second") -> httpx.Response:
    return await http.patch("/thing", headers=[("if-match", tag) for tag in if_match], json={"name": name})


async def test_a_change_answers_with_the_tag_of_the_new_state(http: httpx.AsyncClient) -> None:
    seen = (await http.get("/thing")).headers["etag"]
    changed = await rename(http, seen)
    assert (changed.status_code, changed.json()["name"]) == (200, "second")
    assert changed.headers["etag"] == (await http.get("/thing")).headers["etag"] != seen


async def test_without_if_match_nothing_changes(http: httpx.AsyncClient) -> None:
    answer = await rename(http)
    assert (answer.status_code, answer.json()["code"]) == (428, "if_match_required")
    assert (await http.get("/thing")).json()["name"] == "first"


async def test_of_two_who_saw_the_same_one_changes_it(http: httpx.AsyncClient) -> None:
    seen = (await http.get("/thing")).headers["etag"]
    answers = await asyncio.gather(*(rename(http, seen, name=str(number)) for number in range(5)))
    assert sorted(answer.status_code for answer in answers) == [200, 412, 412, 412, 412]
    assert (await http.get("/thing")).json()["count"] == 1


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (["{seen}"], 200),
        (['"other", {seen}'], 200),
        (['"other"', "{seen}"], 200),
        (["*"], 200),
        ([" {seen} "], 200),
        (['"other"'], 412),
        (["W/{seen}"], 412),
        (['""'], 412),
        (["{bare}"], 400),
        (["{seen}, *"], 400),
        ([""], 400),
        (['"a" "b"'], 400),
        (['"a\\"b"'], 400),
    ],
)
async def test_if_match_is_read_as_the_standard_says(http: httpx.AsyncClient, sent: list[str], status: int) -> None:
    seen = (await http.get("/thing")).headers["etag"]
    answer = await rename(http, *(text.format(seen=seen, bare=seen.strip('"')) for text in sent))
    assert answer.status_code == status, answer.text
    assert status != 400 or answer.json()["param"] == "If-Match"


@given(st.text(), st.integers(), st.text(), st.integers())
def test_a_tag_names_one_state(name: str, count: int, other_name: str, other_count: int) -> None:
    one, other = Thing(name, count), Thing(other_name, other_count)
    assert (etag_of(one) == etag_of(other)) == (one == other)


def test_what_changes_by_itself_is_no_other_state() -> None:
    seen, unseen = Thing("a", seen_at=datetime(2026, 11, 22, tzinfo=UTC)), Thing("a")
    assert etag_of(seen, ignoring=["seen_at"]) == etag_of(unseen, ignoring=["seen_at"])
    assert etag_of(seen) != etag_of(unseen)

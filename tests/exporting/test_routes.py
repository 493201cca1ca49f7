"""Exports over HTTP: a tenant's own, the operator's, and the portal's page."""

import csv
import io
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass

import httpx
import pytest

from chappe_kernel.ids import REQUEST, TENANT, encode_id, new_id
from chappe_tenants.members.service import Role
from chappe_tenants.operators.service import OperatorRole
from tests.access.world import Home, make_tenant, make_token, sign_in_member, sign_in_operator
from tests.conftest import PostgresServer
from tests.control.running import RunningControl, hashing_with, quick_hasher, running_control
from tests.control.world import CREDENTIALS, MANIFEST, Cell
from tests.pages.browser import Visitor

TENANTS = "/api/v1/usage/export"
OPERATORS = "/api/v1/operator/usage/export"
NAVIGATION = {"sec-fetch-site": "same-origin", "sec-fetch-mode": "navigate", "accept": "text/html"}


@dataclass(frozen=True)
class World:
    control: RunningControl
    alpha: Home
    beta: Home
    token: str
    owner: Visitor
    used: list[str]
    """Of Alpha's, in order. Beta used one."""

    async def get(self, home: Home, **query: str) -> httpx.Response:
        return await self.control.http.get(TENANTS, params=query, headers=home.headers("management"))

    async def get_as_operator(self, **query: str) -> httpx.Response:
        headers = {"authorization": f"Bearer {self.token}"}
        return await self.control.http.get(OPERATORS, params=query, headers=headers)


@pytest.fixture(scope="module")
async def world(postgres: PostgresServer) -> AsyncIterator[World]:
    with hashing_with(quick_hasher()):
        async with running_control(postgres, MANIFEST, CREDENTIALS) as control:
            alpha, beta = await make_tenant(control, "Alpha"), await make_tenant(control, "Beta")
            cell = Cell("fr-par", control.http, control.clock)
            events = await cell.use(alpha.keys["inference"], await cell.lease(alpha.id), 4)
            await cell.use(beta.keys["inference"], await cell.lease(beta.id), 1)
            token = await make_token(await sign_in_operator(control, OperatorRole.AUDITOR))
            owner = await sign_in_member(control, alpha, Role.OWNER)
            used = sorted(encode_id(REQUEST, event.request_id) for event in events)
            yield World(control, alpha, beta, token["secret"], owner, used)


def rows_of(answer: httpx.Response) -> list[dict[str, str]]:
    assert answer.status_code == 200, answer.text
    return list(csv.DictReader(io.StringIO(answer.text)))


async def test_a_tenant_gets_its_own_usage_and_nobody_elses(world: World) -> None:
    answer = await world.get(world.alpha)
    assert [row["request_id"] for row in rows_of(answer)] == world.used
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert answer.headers["content-disposition"].startswith('attachment; filename="usage-')
    assert len(rows_of(await world.get(world.beta))) == 1


async def test_json_lines_say_the_same(world: World) -> None:
    answer = await world.get(world.alpha, format="jsonl")
    assert answer.headers["content-type"].startswith("application/x-ndjson")
    lines = [json.loads(line) for line in answer.text.splitlines()]
    assert [{name: str(value) for name, value in line.items()} for line in lines] == rows_of(
        await world.get(world.alpha)
    )


async def test_focus_is_for_the_billing_account_that_asks(world: World) -> None:
    rows = rows_of(await world.get(world.alpha, format="focus"))
    assert {row["BillingAccountId"] for row in rows} == {encode_id(TENANT, world.alpha.id)}


async def test_the_operator_gets_all_tenants_or_one(world: World) -> None:
    assert len(rows_of(await world.get_as_operator())) == 5
    one = await world.get_as_operator(tenant_id=encode_id(TENANT, world.alpha.id), format="csv")
    assert [row["request_id"] for row in rows_of(one)] == world.used
    assert (await world.get_as_operator(tenant_id=encode_id(TENANT, new_id()))).status_code == 404


@pytest.mark.parametrize(
    "query", [{"format": "xml"}, {"since": "2026-11-22T00:00:00"}, {"since": "2019-01-01T00:00:00Z"}]
)
async def test_an_order_that_cannot_be_meant_is_refused(world: World, query: dict[str, str]) -> None:
    assert (await world.get(world.alpha, **query)).status_code == 400


async def test_the_portals_page_hands_out_the_same_file(world: World) -> None:
    form = await world.owner.request("GET", "/exports", headers=NAVIGATION)
    assert form.status_code == 200
    assert "/api/v1/usage/export" in form.text
    assert '<a href="/requests" aria-current="page">' in form.text
    today = (await world.get(world.alpha)).headers["content-disposition"][-15:-5]
    since = f"{today[:8]}01"
    answer = await world.owner.request(
        "GET", f"/exports/file?format=csv&since={since}&until={today}", headers=NAVIGATION
    )
    assert [row["request_id"] for row in rows_of(answer)] == world.used
    for wrong in (f"format=csv&since={today}&until={since[:5]}01-01", "format=csv&since=x&until=y", ""):
        assert (await world.owner.request("GET", f"/exports/file?{wrong}", headers=NAVIGATION)).status_code == 400

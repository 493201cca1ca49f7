"""The feed over HTTP: batch by batch for whoever books them, and record by record in TM Forum's shape."""

import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import httpx
import pytest

from chappe_billing.feed.service import close_batch
from chappe_kernel.ids import TENANT, encode_id, new_id
from chappe_tenants.operators.service import OperatorRole
from tests.access.world import Home, make_tenant, make_token, sign_in_operator
from tests.conftest import PostgresServer
from tests.control.running import RunningControl, hashing_with, quick_hasher, running_control
from tests.control.world import CREDENTIALS, MANIFEST, Cell
from tests.feed.bss import Altered, FakeBss, Missing, nano

FEED = "/api/v1/operator/feed"
USAGE = "/tmf-api/usageManagement/v4/usage"


@dataclass
class ApiConsumer:
    """Takes batches over HTTP, and acknowledges what it booked."""

    http: httpx.AsyncClient
    headers: dict[str, str]
    bss: FakeBss = field(default_factory=FakeBss)

    async def get(self, path: str, **query: Any) -> httpx.Response:
        return await self.http.get(path, headers=self.headers, params=query)

    async def post(self, path: str, body: Any) -> httpx.Response:
        return await self.http.post(path, headers=self.headers, json=body)

    async def run(self) -> int:
        """Take all that is new; how many batches."""
        last = (await self.get(FEED)).json()["last_sequence"]
        taken = 0
        while self.bss.sequence < last:
            page = (await self.get(f"{FEED}/batches", after=self.bss.sequence, limit=2)).json()["items"]
            if not page:
                raise Missing(f"there is no batch after {self.bss.sequence}")
            for shown in page:
                manifest = {name: value for name, value in shown.items() if name != "acknowledged_at"}
                path = f"{FEED}/batches/{shown['sequence']}"
                self.bss.take(manifest, (await self.get(f"{path}/records")).content)
                answer = await self.post(f"{path}/acknowledgement", {"chain": manifest["chain"]})
                assert answer.status_code == 200 and answer.json()["acknowledged_at"], answer.text
                taken += 1
        return taken


@dataclass(frozen=True)
class World:
    control: RunningControl
    alpha: Home
    beta: Home
    consumer: ApiConsumer

    async def use(self, home: Home, count: int) -> None:
        cell = Cell("fr-par", self.control.http, self.control.clock)
        await cell.use(home.keys["inference"], await cell.lease(home.id), count)

    async def close(self, max_records: int = 1000) -> None:
        while True:
            async with self.control.database.operator() as session:
                if await close_batch(session, max_records=max_records) is None:
                    return


@pytest.fixture(scope="module")
async def world(postgres: PostgresServer) -> AsyncIterator[World]:
    """Three batches: two welcome credits, usage of Alpha's, usage of Beta's."""
    with hashing_with(quick_hasher()):
        async with running_control(postgres, MANIFEST, CREDENTIALS) as control:
            token = await make_token(await sign_in_operator(control, OperatorRole.FINANCE))
            consumer = ApiConsumer(control.http, {"authorization": f"Bearer {token['secret']}"})
            made = World(control, await make_tenant(control, "Alpha"), await make_tenant(control, "Beta"), consumer)
            await made.close()
            await made.use(made.alpha, 5)
            await made.close()
            await made.use(made.beta, 3)
            await made.close()
            yield made


async def test_a_consumer_over_http_has_what_the_ledger_has(world: World) -> None:
    consumer = ApiConsumer(world.control.http, world.consumer.headers)
    assert await consumer.run() >= 3
    for home in (world.alpha, world.beta):
        answer = await world.control.http.get("/api/v1/balance", headers=home.headers("management"))
        owed = consumer.bss.sums()[encode_id(TENANT, home.id), "EUR"]
        assert owed == -nano(answer.json()["available"])
    state = (await consumer.get(FEED)).json()
    assert (state["acknowledged_until"], state["gaps"]) == (state["last_sequence"], [])
    assert await consumer.run() == 0


async def test_a_gap_in_what_is_acknowledged_shows(world: World) -> None:
    await world.use(world.alpha, 1)
    await world.close()
    await world.use(world.alpha, 1)
    await world.close()
    last = (await world.consumer.get(FEED)).json()["last_sequence"]
    batch = (await world.consumer.get(f"{FEED}/batches/{last}")).json()
    answer = await world.consumer.post(f"{FEED}/batches/{last}/acknowledgement", {"chain": batch["chain"]})
    assert answer.status_code == 200
    state = (await world.consumer.get(FEED)).json()
    assert last - 1 in state["gaps"] and state["acknowledged_until"] < last - 1


async def test_another_batch_of_that_number_is_not_acknowledged(world: World) -> None:
    answer = await world.consumer.post(f"{FEED}/batches/1/acknowledgement", {"chain": "0" * 64})
    assert (answer.status_code, answer.json()["code"]) == (409, "batch_differs")
    answer = await world.consumer.post(f"{FEED}/batches/999999/acknowledgement", {"chain": "0" * 64})
    assert answer.status_code == 404


async def test_a_batch_that_was_altered_on_its_way_is_not_booked(world: World) -> None:
    (shown,) = (await world.consumer.get(f"{FEED}/batches", limit=1)).json()["items"]
    shown.pop("acknowledged_at")
    content = (await world.consumer.get(f"{FEED}/batches/1/records")).content
    bss = FakeBss()
    with pytest.raises(Altered):
        bss.take(shown, content.replace(b"welcome", b"Welcome"))
    with pytest.raises(Altered):
        bss.take(shown | {"records": shown["records"] + 1}, content)
    bss.take(shown, content)


async def test_usages_come_in_pages_that_add_up_to_all(world: World) -> None:
    whole = await world.consumer.get(USAGE, limit=1000)
    total = int(whole.headers["x-total-count"])
    assert total == len(whole.json()) == int(whole.headers["x-result-count"])
    paged = []
    for offset in range(0, total + 3, 3):
        answer = await world.consumer.get(USAGE, offset=offset, limit=3)
        assert answer.headers["x-total-count"] == str(total)
        paged += answer.json()
    assert paged == whole.json()


@pytest.mark.parametrize("query", [{"usageType": "usage"}, {"usageType": "welcome_credit"}, {"batch": 2}, {}])
async def test_a_filter_takes_what_it_says_and_no_more(world: World, query: dict[str, Any]) -> None:
    everything = (await world.consumer.get(USAGE, limit=1000)).json()
    party = {"relatedParty.id": encode_id(TENANT, world.alpha.id)}
    answer = await world.consumer.get(USAGE, limit=1000, **query, **party)
    wanted = [
        usage
        for usage in everything
        if usage["relatedParty"][0]["id"] == party["relatedParty.id"]
        and usage["usageType"] == query.get("usageType", usage["usageType"])
        and _characteristic(usage, "batch") == query.get("batch", _characteristic(usage, "batch"))
    ]
    assert wanted and answer.json() == wanted
    assert answer.headers["x-total-count"] == str(len(wanted))
    second = await world.consumer.get(USAGE, offset=1, limit=2, **query, **party)
    assert second.json() == wanted[1:3]


async def test_usage_is_found_by_its_time(world: World) -> None:
    everything = (await world.consumer.get(USAGE, limit=1000)).json()
    at = everything[5]["usageDate"]
    comparisons: dict[str, Callable[[Any], bool]] = {
        "usageDate.lt": lambda usage: usage["usageDate"] < at,
        "usageDate.lte": lambda usage: usage["usageDate"] <= at,
        "usageDate.gt": lambda usage: usage["usageDate"] > at,
        "usageDate.gte": lambda usage: usage["usageDate"] >= at,
    }
    for name, holds in comparisons.items():
        found = (await world.consumer.get(USAGE, limit=1000, **{name: at})).json()
        assert found == [usage for usage in everything if holds(usage)], name


async def test_amounts_are_exact_numbers_and_exact_strings(world: World) -> None:
    answer = await world.consumer.get(USAGE, usageType="usage", limit=1)
    (usage,) = json.loads(answer.content, parse_float=Decimal)
    (rated,) = usage["ratedProductUsage"]
    assert str(rated["taxExcludedRatingAmount"]["value"]) == _characteristic(usage, "amount")
    assert rated["taxExcludedRatingAmount"]["unit"] == "EUR"


async def test_one_usage_is_read_by_its_id(world: World) -> None:
    for usage in (await world.consumer.get(USAGE, limit=4)).json():
        assert (await world.consumer.get(usage["href"])).json() == usage
        (specification,) = [usage["usageSpecification"]]
        found = (await world.consumer.get(specification["href"])).json()
        names = {each["name"] for each in found["usageSpecCharacteristic"]}
        assert {each["name"] for each in usage["usageCharacteristic"]} <= names
    assert (await world.consumer.get(f"{USAGE}/req_{'0' * 26}")).status_code == 404
    assert (await world.consumer.get(f"{USAGE}/nothing")).status_code == 404


async def test_only_the_fields_that_were_asked_for_come(world: World) -> None:
    (usage,) = (await world.consumer.get(USAGE, fields="usageDate,status", limit=1)).json()
    assert set(usage) == {"id", "href", "usageDate", "status"}


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ({"usagedate.gte": "2026-11-22T00:00:00Z"}, "usagedate.gte"),
        ({"fields": "price"}, "fields"),
        ({"relatedParty.id": "alpha"}, "relatedParty.id"),
        ({"usageDate.gte": "2026-11-22T00:00:00"}, "usageDate.gte"),
        ({"limit": 0}, "limit"),
    ],
)
async def test_what_would_be_ignored_is_refused(world: World, query: dict[str, Any], param: str) -> None:
    answer = await world.consumer.get(USAGE, **query)
    assert (answer.status_code, answer.json()["param"]) == (400, param)


async def test_an_unknown_tenant_has_nothing(world: World) -> None:
    answer = await world.consumer.get(USAGE, **{"relatedParty.id": encode_id(TENANT, new_id())})
    assert (answer.json(), answer.headers["x-total-count"]) == ([], "0")


def _characteristic(usage: dict[str, Any], name: str) -> Any:
    return next(each["value"] for each in usage["usageCharacteristic"] if each["name"] == name)

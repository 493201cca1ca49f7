"""The pages say what the API says, refuse what it refuses, and show no form to those who may not use it."""

from datetime import UTC, datetime, timedelta

import pytest

from chappe_control.seeding.schemas import Seed, SeedPerson, SeedTenant
from chappe_control.seeding.service import plant_seed
from chappe_kernel.ids import TENANT, encode_id, new_id
from chappe_tenants.operators.service import OperatorRole, put_operator
from tests.control.world import CHAT, PEPPERS
from tests.pages.browser import PASSWORD, Visitor
from tests.portal.reading import Element, read_page
from tests.quotas.shop import Shop


async def owner(shop: Shop) -> tuple[Visitor, str]:
    """Of an organisation of their own with 600 requests per minute in its contract; and its id."""
    visitor, email = Visitor(shop.control.http), f"mia-{new_id()}@example.eu"
    seed = Seed(
        tenant=SeedTenant(name=f"Page {new_id()}", allowed_regions=("fr-par",), requests_per_minute=600),
        project="default",
        keys=(),
        member=SeedPerson(email, PASSWORD),
    )
    async with shop.database.operator() as session:
        tenant_id = await plant_seed(session, seed, peppers=PEPPERS, welcome_credit_nano=10**10)
    await visitor.sign_in(email)
    return visitor, encode_id(TENANT, tenant_id)


async def read(visitor: Visitor, path: str = "/quotas") -> Element:
    answer = await visitor.get(path)
    assert answer.status_code == 200, answer.text[:500]
    return read_page(answer.text)


async def rows(visitor: Visitor, path: str = "/quotas") -> list[list[str]]:
    return (await read(visitor, path)).by_id("quotas-table").rows()


async def quota_id(visitor: Visitor, level: str) -> str:
    (found,) = [
        row.attributes["id"]
        for row in (await read(visitor)).by_id("quotas-table").all("tr")
        if "id" in row.attributes and row.all("th")[0].text == level
    ]
    return found


async def test_a_quota_is_set_shown_changed_and_removed(shop: Shop) -> None:
    mia, _ = await owner(shop)
    set_it = await mia.post(
        "/quotas",
        subject="organisation",
        model=CHAT,
        requests_per_minute="1 00",
        monthly_budget="12,50",
        hard_stop="on",
        alert_percents="50, 80 %",
    )
    assert set_it.status_code == 303, set_it.text
    (contract, own) = await rows(mia)
    assert contract[:3] == ["Contract", "all", "600"]
    assert own[:5] == ["Organisation", CHAT, "100", "\N{EN DASH}", "€12.50 stops when used up announced at 50, 80 %"]
    quota = await quota_id(mia, "Organisation")
    seen = (await read(mia, f"/quotas?edit={quota}")).by_id("quota-form").one("input", name="seen").attributes["value"]
    changed = await mia.post(f"/quotas/{quota}", requests_per_minute="90", seen=seen)
    assert changed.status_code == 303, changed.text
    stale = await mia.post(f"/quotas/{quota}", requests_per_minute="80", seen=seen)
    assert stale.status_code == 409
    assert (await rows(mia))[1][2] == "90"
    assert (await mia.post(f"/quotas/{quota}/remove")).status_code == 303
    assert len(await rows(mia)) == 1


@pytest.mark.parametrize(
    ("typed", "field"),
    [
        ({"requests_per_minute": "0"}, "requests_per_minute"),
        ({"requests_per_minute": "many"}, "requests_per_minute"),
        ({"requests_per_minute": "601"}, "requests_per_minute"),
        ({"tokens_per_minute": "9" * 30}, "tokens_per_minute"),
        ({"monthly_budget": "-5"}, "monthly_budget"),
        ({"monthly_budget": "5", "alert_percents": "80, 50"}, "alert_percents"),
        ({"monthly_budget": "5", "alert_percents": "all"}, "alert_percents"),
        ({"requests_per_minute": "5", "subject": "key_x"}, "subject"),
        ({"requests_per_minute": "5", "subject": ""}, "subject"),
        ({"requests_per_minute": "5", "model": "no-such-model"}, "model"),
    ],
)
async def test_what_is_wrong_is_said_at_its_field_and_what_was_typed_stays(
    shop: Shop, typed: dict[str, str], field: str
) -> None:
    mia, _ = await owner(shop)
    answer = await mia.post("/quotas", **({"subject": "organisation", "model": "*"} | typed))
    assert answer.status_code == 400, answer.text[:500]
    page = read_page(answer.text)
    assert page.has(f"{field}-error")
    for name in typed.keys() - {"subject", "model"}:
        assert page.by_id(name).attributes["value"] == typed[name]
    assert len(await rows(mia)) == 1


async def test_another_organisations_quota_cannot_be_opened_or_removed(shop: Shop) -> None:
    mia, _ = await owner(shop)
    eve, _ = await owner(shop)
    await mia.post("/quotas", subject="organisation", model="*", requests_per_minute="5")
    quota = await quota_id(mia, "Organisation")
    assert (await eve.get(f"/quotas?edit={quota}")).status_code == 404
    assert (await eve.post(f"/quotas/{quota}", requests_per_minute="50")).status_code == 404
    assert (await eve.post(f"/quotas/{quota}/remove")).status_code == 404
    assert len(await rows(mia)) == 2


async def test_the_contract_has_no_buttons_and_cannot_be_posted_to(shop: Shop) -> None:
    mia, _ = await owner(shop)
    contract = await quota_id(mia, "Contract")
    assert not (await read(mia)).by_id(contract).all("button")
    assert (await mia.get(f"/quotas?edit={contract}")).status_code == 403
    assert (await mia.post(f"/quotas/{contract}", requests_per_minute="500")).status_code == 403
    assert (await mia.post(f"/quotas/{contract}/remove")).status_code == 403


async def test_the_operator_raises_and_ends_it_in_the_console(shop: Shop) -> None:
    mia, tenant = await owner(shop)
    path, tomorrow = f"/console/tenants/{tenant}/quotas", (datetime.now(UTC) + timedelta(days=1)).date()
    typed = {"model": "*", "requests_per_minute": "6000", "reason": "launch on TV", "last_day": tomorrow.isoformat()}
    for change, field in (
        ({"last_day": "soon"}, "last_day"),
        ({"last_day": "2020-01-01"}, "last_day"),
        ({"reason": " "}, "reason"),
        ({"requests_per_minute": "600"}, "requests_per_minute"),
    ):
        refused = await shop.administrator.post(f"{path}/raises", **(typed | change))
        assert refused.status_code == 400
        assert read_page(refused.text).has(f"{field}-error"), change
    assert (await shop.administrator.post(f"{path}/raises", **typed)).status_code == 303
    page = await read(shop.administrator, path)
    (raised,) = page.by_id("raises-table").rows()
    assert raised[3:5] == ["6,000 requests per minute", "launch on TV"]
    assert page.by_id("stat-requests").text.startswith("Requests per minute 6,000 Raised until")
    assert (await rows(mia))[1][2] == "6,000"
    (end,) = [
        form.attributes["action"] for form in page.all("form", method="post") if "/raises/" in form.attributes["action"]
    ]
    assert (await shop.administrator.post(end)).status_code == 303
    assert [row[2] for row in await rows(mia)] == ["600"]


async def test_an_auditor_sees_quotas_and_may_raise_none(shop: Shop) -> None:
    _, tenant = await owner(shop)
    async with shop.database.operator() as session:
        await put_operator(session, email="auditor@operator.example", password=PASSWORD, role=OperatorRole.AUDITOR)
    auditor = Visitor(shop.control.http)
    await auditor.console_sign_in("auditor@operator.example")
    path = f"/console/tenants/{tenant}/quotas"
    page = await read(auditor, f"{path}?raise=1")
    assert page.by_id("quotas-table").rows()[0][0] == "Contract"
    assert not page.has("raise-form")
    assert (await auditor.post(f"{path}/raises", requests_per_minute="6000")).status_code == 403

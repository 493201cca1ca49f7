"""The pages of alerts and webhooks, through the real routes: what is typed is kept, and a secret is shown once."""

from collections.abc import AsyncIterator

import pytest

from chappe_billing.alerts import queries
from chappe_kernel.ids import TENANT, TenantId, decode_id
from chappe_store.session import TenantScope
from chappe_tenants.members.queries import list_members
from tests.conftest import PostgresServer
from tests.control.running import RunningControl, hashing_with, quick_hasher, running_control
from tests.control.world import CREDENTIALS, MANIFEST
from tests.pages.browser import Visitor
from tests.portal.reading import read_page


@pytest.fixture(scope="module")
async def control(postgres: PostgresServer) -> AsyncIterator[RunningControl]:
    with hashing_with(quick_hasher()):
        async with running_control(postgres, MANIFEST, CREDENTIALS) as running:
            yield running


async def scope_of(control: RunningControl, visitor: Visitor) -> TenantScope:
    answer = await visitor.request("GET", "/api/v1/organisation", headers={})
    return TenantScope(TenantId(decode_id(TENANT, answer.json()["id"])))


async def test_settings_are_kept_and_a_wrong_one_is_named(control: RunningControl) -> None:
    visitor = Visitor(control.http, language="de")
    await visitor.sign_up()
    page = read_page((await visitor.get("/alerts")).text)
    assert page.by_id("low_balance_days").attributes["value"] == "7"
    answer = await visitor.post(
        "/alerts", low_balance="12,50", low_balance_days="", emails="a@example.eu\nb@example.eu", told="balance.low"
    )
    assert answer.status_code == 303
    page = read_page((await visitor.get("/alerts")).text)
    assert page.by_id("low_balance").attributes["value"] == "12.50"
    assert page.by_id("emails").exact_text.split() == ["a@example.eu", "b@example.eu"]
    settings = (await visitor.request("GET", "/api/v1/alerts/settings", headers={})).json()
    assert (settings["low_balance"], settings["to_members"]) == ("12.500000000", False)
    assert "forecast.exceeded" in settings["muted"] and "balance.low" not in settings["muted"]
    answer = await visitor.post("/alerts", emails="nobody")
    assert answer.status_code == 400 and "emails-error" in answer.text


async def test_a_webhook_is_made_changed_and_its_secret_shown_once(control: RunningControl) -> None:
    visitor = Visitor(control.http)
    await visitor.sign_up()
    wrong = await visitor.post("/webhooks", url="https://127.0.0.1/", kinds="balance.low")
    assert wrong.status_code == 400 and "url-error" in wrong.text
    made = await visitor.post("/webhooks", url="https://hooks.chappe.invalid/in", kinds="balance.low")
    assert made.status_code == 201
    secret = read_page(made.text).by_id("secret").exact_text
    assert secret.startswith("whsec_")
    (webhook,) = (await visitor.request("GET", "/api/v1/webhooks", headers={})).json()["items"]
    path = f"/webhooks/{webhook['id']}"
    assert secret not in (await visitor.get(path)).text
    assert secret not in (await visitor.request("GET", "/api/v1/audit", headers={})).text
    rotated = await visitor.post(f"{path}/rotate")
    assert rotated.status_code == 201 and secret not in rotated.text
    assert (await visitor.post(f"{path}/test")).status_code == 303
    assert "webhook_id" not in (await visitor.get(path)).text
    assert (await visitor.post(f"{path}/enabled")).status_code == 303
    refused = await visitor.request("POST", f"/api/v1/webhooks/{webhook['id']}/test", headers={"origin": "x"})
    assert refused.status_code in {403, 409}
    assert (await visitor.post(f"{path}/remove")).status_code == 303
    assert (await visitor.get(path)).status_code == 404


async def test_another_organisation_finds_neither_webhook_nor_settings(control: RunningControl) -> None:
    alice, bob = Visitor(control.http), Visitor(control.http)
    await alice.sign_up()
    await bob.sign_up()
    await alice.post("/webhooks", url="https://hooks.chappe.invalid/in", kinds="balance.low")
    await alice.post("/alerts", low_balance="77")
    (webhook,) = (await alice.request("GET", "/api/v1/webhooks", headers={})).json()["items"]
    for path in ("", "/rotate", "/test", "/enabled", "/remove"):
        assert (await bob.post(f"/webhooks/{webhook['id']}{path}")).status_code == 404
    assert (await bob.get(f"/webhooks/{webhook['id']}")).status_code == 404
    assert (await bob.request("GET", "/api/v1/webhooks", headers={})).json()["items"] == []
    assert (await bob.request("GET", "/api/v1/alerts/settings", headers={})).json()["low_balance"] is None


async def test_who_signs_in_leaves_the_language_for_letters(control: RunningControl) -> None:
    visitor = Visitor(control.http, language="fr")
    email = await visitor.sign_up()
    again = Visitor(control.http, language="fr")
    await again.sign_in(email)
    scope = await scope_of(control, again)
    async with control.database.operator() as session:
        (reader,) = await queries.read_readers(session, scope.tenant_id)
        assert len(await list_members(session, scope, limit=5, before=None)) == 1
    assert (reader.email, reader.language) == (email.lower(), "fr")

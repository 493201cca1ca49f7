"""What each state opens and closes: to people, to management keys, to gateways."""

from dataclasses import replace

import httpx
import pytest

from chappe_tenants.organisations.lifecycle import TenantState
from tests.control.conftest import serve
from tests.organisations.world import Api, Organisation, Organisations
from tests.pages.browser import Visitor

S = TenantState
WAYS: dict[S, list[tuple[str, str]]] = {
    S.ACTIVE: [],
    S.SUSPENDED: [("suspended", "unpaid")],
    S.CLOSED: [("suspended", "unpaid"), ("closed", "unpaid")],
}


async def organisation_in(world: Organisations, state: S) -> Organisation:
    made = await world.organisation()
    if state in WAYS:
        for step, reason in WAYS[state]:
            await world.step(made.id, step, reason)
    else:
        # There is no way back to these, and who has keys and members already began active.
        await world.sql("ALTER TABLE tenant DISABLE TRIGGER tenant_state")
        await world.sql("UPDATE tenant SET state = $2 WHERE id = $1", made.id, state.value)
        await world.sql("ALTER TABLE tenant ENABLE TRIGGER tenant_state")
    return made


@pytest.mark.parametrize("state", S)
async def test_members_see_and_change_what_the_state_leaves_them(world: Organisations, state: S) -> None:
    made = await organisation_in(world, state)
    if state is S.CLOSED:
        assert (await made.api.call("GET", "/organisation")).status_code == 401
        assert (await made.visitor.post("/sign-in", email=made.email, password="wrong")).status_code == 403
        return
    assert (await made.api.get("/organisation"))["state"] == state
    for path in ("/balance", "/usage/events", "/keys", "/audit"):
        assert (await made.api.call("GET", path)).status_code == 200
    named = await made.api.call("PATCH", "/organisation", {"name": "New name"}, if_match="*")
    made_project = await made.api.call("POST", "/projects", {"name": "second"})
    assert named.status_code == (403 if state is S.SUSPENDED else 200)
    assert made_project.status_code == (201 if state in {S.VERIFIED, S.ACTIVE} else 403)
    for refused in (named, made_project):
        assert refused.is_success or refused.json()["code"] == "tenant_not_active"


@pytest.mark.parametrize("state", S)
async def test_who_signs_in_anew_is_let_in_until_it_is_closed(world: Organisations, state: S) -> None:
    made = await organisation_in(world, state)
    visitor = world.visitor()
    answer = await visitor.post("/sign-in", email=made.email, password="tidal lantern mosaic 42")
    assert answer.status_code == (403 if state is S.CLOSED else 303)


@pytest.mark.parametrize("state", S)
async def test_a_management_key_opens_the_api_of_who_is_verified_or_active(world: Organisations, state: S) -> None:
    made = await organisation_in(world, state)
    answer = await world.key_call(made.keys["management"])
    expected = {S.VERIFIED: 200, S.ACTIVE: 200, S.CLOSED: 401}
    assert answer.status_code == expected.get(state, 403)


@pytest.mark.parametrize("state", S)
async def test_gateways_serve_and_lend_to_the_active_alone(world: Organisations, state: S) -> None:
    made = await organisation_in(world, state)
    facts = await world.cell().resolve(made.keys["inference"])
    assert (facts is not None and facts.active) is (state is S.ACTIVE)
    assert (await world.cell().ask(made.id)).status_code == (200 if state is S.ACTIVE else 403)


async def test_what_was_resumed_works_as_before(world: Organisations) -> None:
    made = await organisation_in(world, S.SUSPENDED)
    await world.step(made.id, "active", "resolved")
    facts = await world.cell().resolve(made.keys["inference"])
    assert facts is not None and facts.active
    assert (await world.key_call(made.keys["management"])).status_code == 200


async def test_closing_revokes_every_key_for_good(world: Organisations) -> None:
    made = await organisation_in(world, S.CLOSED)
    rows = await world.sql("SELECT revoked_at IS NOT NULL FROM api_key WHERE tenant_id = $1", made.id)
    assert rows == [(True,), (True,)]
    entries = await world.sql(
        "SELECT count(*) FROM audit_entry WHERE tenant_id = $1 AND noun = 'api_key' AND after->>'revoked_at' <> ''",
        made.id,
    )
    assert entries == [(2,)]


async def test_every_step_tells_the_gateways(world: Organisations) -> None:
    made = await world.organisation()
    seen = [await world.cell().keys_revision()]
    for state, reason in (("suspended", "abuse"), ("active", "resolved"), ("closed", "requested")):
        await world.step(made.id, state, reason)
        seen.append(await world.cell().keys_revision())
    assert seen == sorted(set(seen))


async def test_its_people_read_why_in_their_audit_log(world: Organisations) -> None:
    made = await organisation_in(world, S.SUSPENDED)
    newest = (await made.api.get("/audit"))["items"][0]
    assert (newest["noun"], newest["after"]["state"], newest["after"]["state_reason"]) == (
        "tenant",
        "suspended",
        "unpaid",
    )
    assert newest["actor"] == {"kind": "operator", "id": None, "address": None}


async def test_who_signs_up_applies_where_the_operator_reviews(world: Organisations) -> None:
    settings = replace(world.control.settings, sign_up_review=True)
    async with serve(settings, world.control.clock) as url, httpx.AsyncClient(base_url=url, timeout=20) as http:
        visitor = Visitor(http, settings.portal_url)
        await visitor.sign_up()
        view = await Api(visitor).get("/organisation")
        assert (view["state"], view["state_reason"]) == ("applied", None)
        assert (await Api(visitor).call("POST", "/projects", {"name": "x"})).status_code == 403

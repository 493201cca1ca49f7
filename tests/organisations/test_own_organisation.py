"""What an organisation's own people do at `/api/v1/organisation`."""

import pytest

from chappe_tenants.members.service import Role
from tests.organisations.world import DETAILS, Organisations


async def test_it_reads_itself_and_not_what_is_the_operators(world: Organisations) -> None:
    made = await world.organisation()
    view = await made.api.get("/organisation")
    assert (view["id"], view["name"], view["state"], view["address"]) == (made.public_id, made.name, "active", None)
    assert not {"reference", "parent", "credit_limit", "steps", "state_by"} & set(view)
    assert (await world.key_call(made.keys["management"])).json() == view


async def test_it_completes_its_details_once(world: Organisations) -> None:
    made = await world.organisation()
    view = await made.api.change("/organisation", DETAILS)
    assert (view["legal_name"], view["vat_number"]) == ("Exemple Télécom SAS", "FR40303265045")
    moved = {"address": {"line_1": "2 place Bellecour", "city": "Lyon", "country": "FR"}}
    assert (await made.api.change("/organisation", moved))["address"]["city"] == "Lyon"
    abroad = {"address": {"line_1": "Hauptstraße 1", "city": "Berlin", "country": "DE"}}
    for change in ({"legal_name": "Other"}, {"vat_number": None}, {"address": None}, abroad):
        assert (await made.api.change("/organisation", change, 409))["code"] == "verified_detail"


async def test_a_change_takes_the_tag_of_what_was_seen(world: Organisations) -> None:
    made = await world.organisation()
    tag = (await made.api.call("GET", "/organisation")).headers["etag"]
    assert (await made.api.call("PATCH", "/organisation", {"name": "A"})).status_code == 428
    assert (await made.api.call("PATCH", "/organisation", {"name": "A"}, if_match=tag)).status_code == 200
    assert (await made.api.call("PATCH", "/organisation", {"name": "B"}, if_match=tag)).status_code == 412


async def test_regions_are_taken_away_and_put_in_order_and_never_added(world: Organisations) -> None:
    made = await world.organisation(regions=("FR", "de-fra"))
    assert (await made.api.change("/organisation", {"allowed_regions": ["DE", "fr-par"]}))["allowed_regions"] == [
        "DE",
        "fr-par",
    ]
    facts = await world.cell().resolve(made.keys["inference"])
    assert facts is not None and facts.regions == ("de-fra", "fr-par")
    await made.api.change("/organisation", {"allowed_regions": ["FR"]})
    facts = await world.cell().resolve(made.keys["inference"])
    assert facts is not None and facts.regions == ("fr-par",)
    for widened in (["FR", "de-fra"], ["DE"], ["nowhere"], []):
        refused = await made.api.change("/organisation", {"allowed_regions": widened}, 400)
        assert refused["param"] == "allowed_regions"


async def test_it_says_how_long_answers_are_kept_and_gateways_are_told(world: Organisations) -> None:
    made = await world.organisation()
    assert (await made.api.get("/organisation"))["answers_kept_for_s"] == 0
    before = await world.cell().keys_revision()
    await made.api.change("/organisation", {"answers_kept_for_s": 3600})
    assert await world.cell().keys_revision() > before
    facts = await world.cell().resolve(made.keys["inference"])
    assert facts is not None and facts.answers_kept_for_s == 3600
    for wrong in (-1, 24 * 3600 + 1, "1", None):
        assert (await made.api.change("/organisation", {"answers_kept_for_s": wrong}, 400))["param"] is not None


@pytest.mark.parametrize(
    "field", ["state", "plan", "is_reseller", "parent", "credit_limit", "reference", "contract_reference", "currency"]
)
async def test_nobody_assigns_themselves_what_is_the_operators(world: Organisations, field: str) -> None:
    made = await world.organisation()
    value = True if field == "is_reseller" else "active"
    refused = await made.api.change("/organisation", {field: value}, 400)
    assert refused["param"] == field


@pytest.mark.parametrize("role", Role)
async def test_owners_and_admins_change_it(world: Organisations, role: Role) -> None:
    made = await world.organisation()
    # Around the rule that somebody owns it.
    async with world.control.engine.connect() as connection:
        await connection.exec_driver_sql("SET session_replication_role = replica")
        await connection.exec_driver_sql("UPDATE member SET role = $1 WHERE tenant_id = $2", (role.value, made.id))
    answer = await made.api.call("PATCH", "/organisation", {"name": "New"}, if_match="*")
    assert answer.status_code == (200 if role in {Role.OWNER, Role.ADMIN} else 403)
    assert (await made.api.call("GET", "/organisation")).status_code == 200


async def test_a_key_reads_and_does_not_change(world: Organisations) -> None:
    made = await world.organisation()
    headers = {"authorization": f"Bearer {made.keys['management']}", "if-match": "*"}
    answer = await world.control.http.patch("/api/v1/organisation", headers=headers, json={"name": "New"})
    assert (answer.status_code, answer.json()["code"]) == (403, "role_denied")


async def test_the_log_says_who_changed_it(world: Organisations) -> None:
    made = await world.organisation()
    await made.api.change("/organisation", {"name": "Renamed"})
    entry = (await made.api.get("/audit"))["items"][0]
    assert (entry["actor"]["kind"], entry["before"], entry["after"]) == (
        "member",
        {"name": made.name},
        {"name": "Renamed"},
    )

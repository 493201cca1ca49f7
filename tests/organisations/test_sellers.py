"""Who of the operator sells to an organisation: chosen once, in its currency, under the operator's own name."""

import asyncio
import json
import os
import secrets
import sys
from asyncio.subprocess import PIPE
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.exc import IntegrityError

from chappe_control.onboarding.tenants import Defaults, create_customer
from chappe_kernel.ids import LEGAL_ENTITY, decode_id, encode_id, new_id
from chappe_local.prepare import SELLER
from chappe_store.session import Database, TenantScope
from chappe_tenants.legal_entities.models import DEFAULT_LEGAL_ENTITY_ID
from chappe_tenants.organisations.schemas import CreateCustomer
from tests.conftest import DatabaseUrls
from tests.organisations.test_console_pages import NEW, read
from tests.organisations.test_database_rules import insert
from tests.organisations.world import Organisations, tenant_id_of

FIRST = encode_id(LEGAL_ENTITY, DEFAULT_LEGAL_ENTITY_ID)


async def an_entity(world: Organisations, currency: str = "CHF") -> dict[str, Any]:
    body = {"name": f"Chappe {secrets.token_hex(4)}", "currency": currency}
    made = await (await world.operator()).post("/operator/legal-entities", body, 201)
    assert isinstance(made, dict)
    return made


async def test_a_tenant_is_sold_to_by_the_entity_that_is_chosen_in_its_currency(world: Organisations) -> None:
    entity = await an_entity(world)
    made = await world.create(legal_entity_id=entity["id"])
    assert (made["legal_entity_id"], made["currency"]) == (entity["id"], "CHF")
    operator = await world.operator()
    limit = await operator.get(f"/operator/tenants/{made['id']}/credit-limit")
    assert limit["currency"] == "CHF"
    assert (await world.create())["legal_entity_id"] == FIRST


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"currency": "CHF"}, "currency"),
        ({"legal_entity_id": encode_id(LEGAL_ENTITY, new_id())}, "legal_entity_id"),
        ({"legal_entity_id": "ent_no"}, "legal_entity_id"),
    ],
)
async def test_what_nobody_sells_is_refused_by_name(world: Organisations, body: dict[str, str], param: str) -> None:
    problem = await (await world.operator()).post("/operator/tenants", {"name": "x", **body}, 400)
    assert problem["param"] == param


async def test_a_resellers_customer_is_sold_to_by_who_sells_to_the_reseller(world: Organisations) -> None:
    entity = await an_entity(world)
    reseller = TenantScope(tenant_id_of(await world.create(is_reseller=True, legal_entity_id=entity["id"])))
    async with world.control.database.operator() as session:
        made = await create_customer(session, reseller, CreateCustomer(name="Customer"), Defaults(60))
    assert (encode_id(LEGAL_ENTITY, made.legal_entity_id), made.currency) == (entity["id"], "CHF")


async def test_the_database_keeps_a_tenant_in_its_sellers_currency(database: Database) -> None:
    with pytest.raises(IntegrityError, match="fk_tenant_legal_entity_id_currency_legal_entity"):
        await insert(database, currency="CHF")


async def test_the_console_asks_who_sells(world: Organisations) -> None:
    entity, visitor = await an_entity(world), await world.operator_visitor()
    options = (await read(world, "/console/tenants/new")).by_id("legal_entity_id").all("option")
    assert options[0].attributes["value"] == FIRST and "selected" in options[0].attributes
    assert f"{entity['name']} (CHF)" in [one.text for one in options]
    answer = await visitor.post("/console/tenants/new", **{**NEW, "name": "In francs", "legal_entity_id": entity["id"]})
    page = (await visitor.open(answer.headers["location"])).text
    assert entity["name"] in page
    wrong = await visitor.post("/console/tenants/new", **{**NEW, "name": "x", "legal_entity_id": "ent_no"})
    assert wrong.status_code == 400


async def command(urls: DatabaseUrls, *arguments: str) -> tuple[int, str, str]:
    environ = {"PATH": os.environ["PATH"], "CHAPPE_DATABASE_URL": urls.app}
    chappe = str(Path(sys.executable).with_name("chappe"))
    process = await asyncio.create_subprocess_exec(
        chappe, "legal-entity", "set", *arguments, env=environ, stdout=PIPE, stderr=PIPE, cwd="/"
    )
    out, err = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


async def test_the_operators_own_name_stands_there(database: Database, database_urls: DatabaseUrls) -> None:
    said = ("--name", "Exemple Télécom SAS", "--country", "FR", "--vat-number", "FR 40 303 265 045")
    first, again = [await command(database_urls, *said, "--currency", "CHF") for _ in range(2)]
    assert (first[0], again[:2]) == (0, first[:2]), first[2] + again[2]
    shown = json.loads(again[1])
    assert (shown["id"], shown["name"], shown["country"]) == (FIRST, "Exemple Télécom SAS", "FR")
    assert (shown["vat_number"], shown["currency"]) == ("FR40303265045", "CHF")
    code, out, _ = await command(database_urls, "--registration", "RCS Paris 1")
    assert code == 0 and json.loads(out)["name"] == "Exemple Télécom SAS", "what is left out stays"
    await insert(database, currency="CHF")
    code, _, err = await command(database_urls, "--currency", "EUR")
    assert (code, "books have begun" in err) == (1, True)
    address = ("--street", "1 rue du Télégraphe", "--postal-code", "75020", "--city", "Paris", "--country", "FR")
    code, out, _ = await command(database_urls, *address, "--payments", "external")
    shown = json.loads(out)
    assert (code, shown["address"]["city"], shown["payments"], shown["registration"]) == (
        *(0, "Paris", "external", "RCS Paris 1"),
    )
    code, out, _ = await command(database_urls, "--name", "Another", "--payments", "stripe", "--if-unsaid")
    assert code == 0 and json.loads(out) == shown, "what somebody has said is not said over"
    code, _, err = await command(database_urls, "--street", "1 rue du Télégraphe")
    assert code == 2 and "--city" in err
    code, _, err = await command(database_urls, "--country", "XX")
    assert code == 1 and "ISO 3166" in err
    assert decode_id(LEGAL_ENTITY, FIRST) == DEFAULT_LEGAL_ENTITY_ID


async def test_a_new_instances_seller_is_said_once(database: Database, database_urls: DatabaseUrls) -> None:
    said = (*SELLER, "--payments", "stripe", "--if-unsaid")
    code, out, err = await command(database_urls, *said)
    shown = json.loads(out)
    assert (code, shown["payments"], shown["address"]["country"]) == (0, "stripe", "FR"), err
    number = shown["vat_number"].removeprefix("FR")
    assert int(number[:2]) == (12 + 3 * int(number[2:])) % 97, "a French VAT number checks its own SIREN"
    await command(database_urls, "--payments", "none")
    code, out, _ = await command(database_urls, *said)
    assert json.loads(out)["payments"] == "none", "what an operator chose since stays"

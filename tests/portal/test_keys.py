"""A key is made once, shown once, used at once, and dead when it is revoked."""

import asyncio
import json
import shlex
import subprocess
import sys

import pytest

from chappe_control.portal.keys.snippets import Offer, inference_snippets, management_snippets
from chappe_kernel.api_keys import KeyKind, generate_key
from chappe_kernel.ids import KEY, encode_id, new_id
from tests.portal.reading import read_page
from tests.portal.world import EMBEDDINGS, Customer, PortalWorld, unlike


async def test_secret_is_in_the_answer_to_its_creation_and_nowhere_else(
    portal: PortalWorld, customer: Customer, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    answer = await customer.visitor.post("/keys", name="billing job", kind="inference")
    page = read_page(answer.text)
    secret = page.by_id("secret").exact_text
    assert answer.status_code == 201
    assert answer.headers["cache-control"] == "no-store"
    assert "location" not in answer.headers
    assert "set-cookie" not in answer.headers or secret not in answer.headers["set-cookie"]
    for path in ("/keys", "/keys?new=1", "/overview", "/requests"):
        assert secret not in (await customer.visitor.get(path)).text
    for table in ("api_key", "idempotency_record", "outbox", "member_session"):
        rows = await portal.sql(f"SELECT t::text FROM {table} t")
        assert not any(secret in row[0] for row in rows)
    output = capfd.readouterr()
    assert secret not in caplog.text + output.out + output.err


async def test_form_that_is_sent_again_makes_no_second_key(customer: Customer) -> None:
    form = await form_fields(customer, "/keys?new=1")
    first = await customer.visitor.post("/keys", **form, name="once")
    assert first.status_code == 201
    again = await customer.visitor.post("/keys", **form, name="once")
    assert (again.status_code, again.headers["location"]) == (303, "/keys")
    page = read_page((await customer.visitor.open("/keys")).text)
    assert "cannot be shown again" in page.text
    assert [row[0].split(" ")[0] for row in page.by_id("keys-table").rows()].count("once") == 1


async def test_form_that_was_sent_before_can_be_changed_and_sent(customer: Customer) -> None:
    form = await form_fields(customer, "/keys?new=1")
    await customer.visitor.post("/keys", **form, name="once")
    changed = await customer.visitor.post("/keys", **form, name="twice")
    assert changed.status_code == 409
    page = read_page(changed.text)
    assert "sent before" in page.text
    assert page.by_id("name").attributes["value"] == "twice"
    fresh = {field.attributes["name"]: field.attributes["value"] for field in page.all("input", type="hidden")}
    assert fresh["form_id"] != form["form_id"]


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"name": ""}, "name"),
        ({"name": " "}, "name"),
        ({"name": "x" * 101}, "name"),
        ({"name": "a\x00b"}, "name"),
        ({"name": "a\u202eb"}, "name"),
        ({"name": "ok", "kind": "browser"}, "kind"),
        ({"name": "ok", "kind": ""}, "kind"),
        ({"name": "ok", "regions": "us-east"}, "regions"),
        ({"name": "ok", "models": "gpt"}, "models"),
        ({"name": "ok", "project": "prj_x"}, "project"),
        ({"name": "ok", "project": "prj_" + "0" * 26}, "project"),
    ],
)
async def test_what_is_wrong_is_said_at_the_form(customer: Customer, fields: dict[str, str], field: str) -> None:
    answer = await customer.visitor.post("/keys", **{"kind": "inference", **fields})
    assert answer.status_code == 400
    page = read_page(answer.text)
    if field == "project":
        assert "Choose one of your projects" in page.by_id("new-key-form").one("div", role="alert").text
    else:
        assert page.by_id(f"{field}-error").text
    assert len((await customer.read("/keys")).by_id("keys-table").rows()) == 1


async def test_key_is_narrowed_as_it_was_asked_for(portal: PortalWorld, customer: Customer) -> None:
    secret = await customer.make_key("narrow", regions="de-fra", models=EMBEDDINGS)
    facts = await portal.cells["de-fra"].resolve(secret)
    assert facts is not None
    assert (facts.regions, facts.models) == (("de-fra",), (EMBEDDINGS,))
    row = next(row for row in (await customer.read("/keys")).by_id("keys-table").rows() if row[0].startswith("narrow"))
    assert row[2:4] == ["de-fra", EMBEDDINGS]


async def test_first_call_is_ready_for_every_region_of_the_key(customer: Customer) -> None:
    answer = await customer.visitor.post("/keys", name="all", kind="inference")
    page = read_page(answer.text)
    secret = page.by_id("secret").exact_text
    offered = [option.attributes["value"] for option in page.by_id("region").all("option")]
    assert offered == ["fr-par", "de-fra"]
    for region, url in (("fr-par", "http://127.0.0.1:8411/v1"), ("de-fra", "http://127.0.0.1:8421/v1")):
        (shown,) = (one for one in page.walk() if one.attributes.get("data-choice") == region)
        texts = [code.exact_text for code in shown.all("code")]
        assert len(texts) == 3
        for text in texts:
            assert (secret in text, url in text, region_is_alone(text, url)) == (True, True, True)
            assert "smollm2" in text or "mistral" in text


async def test_snippets_of_a_narrow_key_use_what_it_may(customer: Customer) -> None:
    answer = await customer.visitor.post("/keys", name="narrow", kind="inference", regions="de-fra", models=EMBEDDINGS)
    page = read_page(answer.text)
    assert not page.has("region")
    for code in page.by_id("first-call").all("code"):
        assert "8421" in code.exact_text
        assert EMBEDDINGS in code.exact_text
        assert "embeddings" in code.exact_text


async def test_management_snippets_run(portal: PortalWorld, customer: Customer) -> None:
    secret = await customer.make_key("management", kind="management")
    curl, python, _ = management_snippets(str(portal.http.base_url).rstrip("/"), secret)
    done = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-c", python.text], capture_output=True, text=True, check=True
    )
    assert "available" in done.stdout
    words = shlex.split(curl.text.replace("\\\n", ""))
    assert (words[0], words[2], words[3]) == ("curl", "-H", f"Authorization: Bearer {secret}")


@pytest.mark.parametrize("task", ["chat", "embeddings"])
def test_snippets_are_sound(task: str) -> None:
    secret = generate_key(KeyKind.INFERENCE)
    offer = Offer("fr-par", "https://fr-par.example", 'it\'s a "model" $HOME', task)
    curl, python, javascript = inference_snippets(offer, secret)
    words = shlex.split(curl.text.replace("\\\n", ""))
    assert words[1].startswith("https://fr-par.example/v1/")
    assert json.loads(words[-1])["model"] == offer.model
    compile(python.text, "snippet", "exec")
    for snippet in (curl, python, javascript):
        assert secret in snippet.text
        assert not snippet.text.startswith((" ", "\n"))


async def test_revoked_key_opens_nothing_and_stays_listed(portal: PortalWorld, customer: Customer) -> None:
    secret = await customer.make_key("leaked")
    public = await key_id(portal, customer, "leaked")
    page = await customer.read("/keys")
    assert page.by_id(f"revoke-{public}").one("form").attributes["action"] == f"/keys/{public}/revoke"
    for _ in range(2):
        answer = await customer.visitor.post(f"/keys/{public}/revoke")
        assert (answer.status_code, answer.headers["location"]) == (303, "/keys")
    assert await portal.cells["fr-par"].resolve(secret) is None
    page = await customer.read("/keys")
    assert "Revoked" in page.by_id(public).text
    assert "is-over" in page.by_id(public).attributes["class"]
    assert not page.has(f"revoke-{public}")


async def test_anothers_key_is_not_found_and_stays_alive(portal: PortalWorld, customer: Customer) -> None:
    other = await portal.sign_up(unlike())
    public = await key_id(portal, customer, "app")
    assert (await other.visitor.post(f"/keys/{public}/revoke")).status_code == 404
    assert (await other.visitor.post(f"/keys/{encode_id(KEY, new_id())}/revoke")).status_code == 404
    assert (await other.visitor.post("/keys/key_x/revoke")).status_code == 404
    assert await portal.cells["fr-par"].resolve(customer.keys["app"]) is not None


async def test_anothers_project_takes_no_key(portal: PortalWorld, customer: Customer) -> None:
    other = await portal.sign_up(unlike())
    ((project_id,),) = await portal.sql("SELECT id FROM project WHERE tenant_id = $1", customer.id)
    answer = await other.visitor.post("/keys", name="x", kind="inference", project=encode_id("prj", project_id))
    assert answer.status_code == 400


async def test_projects_can_be_chosen_when_there_are_several(portal: PortalWorld, customer: Customer) -> None:
    assert not (await customer.read("/keys?new=1")).has("project")
    await portal.sql("INSERT INTO project (tenant_id, id, name) VALUES ($1, uuidv7(), 'second')", customer.id)
    options = (await customer.read("/keys?new=1")).by_id("project").all("option")
    assert [option.text for option in options] == ["default", "second"]
    await customer.make_key("elsewhere", project=options[1].attributes["value"])
    page = await customer.read("/keys")
    assert "second" in page.by_id(await key_id(portal, customer, "elsewhere")).text


async def test_lists_of_many_keys_have_pages(portal: PortalWorld, customer: Customer) -> None:
    await portal.sql(
        "INSERT INTO api_key (tenant_id, id, project_id, kind, name, prefix, pepper_version, digest) "
        "SELECT tenant_id, uuidv7(), project_id, kind, 'key ' || n, prefix, 1, sha256((id::text || n)::bytea) "
        "FROM api_key, generate_series(1, 60) n WHERE tenant_id = $1",
        customer.id,
    )
    names, path = [], "/keys"
    while path:
        page = await customer.read(path)
        names += [row.one("th").text for row in page.by_id("keys-table").one("tbody").all("tr")]
        path = next((link.attributes["href"] for link in page.all("a") if link.text == "Next page"), "")
    assert len(names) == len(set(names)) == 61
    assert (await customer.visitor.get("/keys?cursor=x")).status_code == 400


async def test_newcomer_is_welcomed_to_the_first_key(portal: PortalWorld) -> None:
    customer = await portal.sign_up(unlike())
    page = await customer.read("/keys?welcome=1")
    assert "Welcome" in page.by_id("new-key").text
    assert page.by_id("name").attributes["value"]
    assert not page.has("keys-table")


async def test_key_without_a_token_of_the_form_is_refused(customer: Customer) -> None:
    customer.visitor.cookies["__Host-chappe-csrf"] = "x" * 64
    assert (await customer.visitor.post("/keys", name="forged", kind="inference")).status_code == 403
    assert (await customer.visitor.request("POST", "/keys", headers={}, data={"name": "x"})).status_code == 403


async def form_fields(customer: Customer, path: str) -> dict[str, str]:
    """What the form sends besides what one types."""
    form = (await customer.read(path)).by_id("new-key-form")
    hidden = {field.attributes["name"]: field.attributes["value"] for field in form.all("input", type="hidden")}
    return {"form_id": hidden["form_id"], "kind": "inference"}


async def key_id(portal: PortalWorld, customer: Customer, name: str) -> str:
    ((found,),) = await portal.sql("SELECT id FROM api_key WHERE tenant_id = $1 AND name = $2", customer.id, name)
    return encode_id(KEY, found)


def region_is_alone(text: str, url: str) -> bool:
    """No other region's address is in it."""
    return text.count("http") == text.count(url)

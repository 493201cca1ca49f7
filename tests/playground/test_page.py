"""The page offers what may be called now, names the gateways to the browser, and can send a prompt nowhere else."""

import json
from typing import Any

import pytest

from chappe_kernel.ids import PRICE_VERSION, encode_id
from tests.pages.browser import Visitor
from tests.playground.cells import new_token
from tests.portal.reading import read_page
from tests.portal.world import BIG_CHAT, CHAT, EMBEDDINGS, Customer, PortalWorld, unlike

GATEWAYS = {"fr-par": "http://127.0.0.1:8411", "de-fra": "http://127.0.0.1:8421"}


@pytest.fixture
async def customer(portal: PortalWorld) -> Customer:
    return await portal.sign_up(unlike())


async def beat(portal: PortalWorld, **answering: tuple[str, ...]) -> None:
    """Exactly these deployments answer: `fr_par=(CHAT,)`."""
    await portal.sql("DELETE FROM gateway_heartbeat")
    for region, names in answering.items():
        await portal.cells[region.replace("_", "-")].beat(*names)


async def offers(customer: Customer) -> Any:
    page = await customer.read("/playground")
    return json.loads(page.by_id("playground").attributes["data-offers"])


async def test_models_are_offered_where_they_answer_with_the_price_in_force(
    portal: PortalWorld, customer: Customer
) -> None:
    await beat(portal, fr_par=(CHAT, EMBEDDINGS), de_fra=(CHAT, BIG_CHAT))
    found = await offers(customer)
    assert {model["name"]: [place["region"] for place in model["places"]] for model in found["models"]} == {
        CHAT: ["fr-par", "de-fra"],
        BIG_CHAT: ["de-fra"],
    }
    assert (found["other"], found["silent"]) == ([EMBEDDINGS], [])
    (chat,) = (model for model in found["models"] if model["name"] == CHAT)
    offer = (await portal.offers("fr-par"))[CHAT]
    (step,) = chat["places"][0]["prices"]
    assert step.pop("starts_in_s") < 0
    assert step == {
        "id": encode_id(PRICE_VERSION, offer.version),
        "input_nano": str(offer.price.input_nano_per_token),
        "cached_input_nano": str(offer.price.cached_input_nano_per_token),
        "output_nano": str(offer.price.output_nano_per_token),
        "request_nano": str(offer.price.request_nano),
    }
    assert (await customer.visitor.get("/playground/offers")).json()["other"] == [EMBEDDINGS]


async def test_first_choice_is_on_the_page_before_any_script(portal: PortalWorld, customer: Customer) -> None:
    await beat(portal, de_fra=(CHAT,))
    page = await customer.read("/playground")
    options = [option.text for option in page.by_id("playground-model").all("option")]
    assert options == [CHAT, BIG_CHAT, EMBEDDINGS]
    assert [option.text for option in page.by_id("playground-region").all("option")] == ["de-fra · DE"]
    assert page.by_id("price-input").text == "€0.065"
    assert page.by_id("price-output").text == "€0.24"
    assert page.by_id("price-request").text == "€0.0000001"


async def test_model_that_answers_nowhere_is_named_and_cannot_be_chosen(
    portal: PortalWorld, customer: Customer
) -> None:
    await beat(portal, fr_par=(CHAT,))
    found = await offers(customer)
    assert found["silent"] == [BIG_CHAT]
    page = await customer.read("/playground")
    disabled = [option.text for option in page.by_id("playground-model").all("option", disabled="")]
    assert disabled == [BIG_CHAT, EMBEDDINGS]


async def test_without_any_model_the_page_says_so(portal: PortalWorld, customer: Customer) -> None:
    await beat(portal, fr_par=(EMBEDDINGS,))
    page = await customer.read("/playground")
    assert "No chat model is available" in page.text
    assert not page.has("playground")


async def test_regions_that_the_organisation_does_not_allow_are_neither_offered_nor_reachable(
    portal: PortalWorld, customer: Customer
) -> None:
    await beat(portal, fr_par=(CHAT,), de_fra=(CHAT,))
    await portal.sql("UPDATE tenant SET allowed_regions = '{DE}' WHERE id = $1", customer.id)
    found = await offers(customer)
    assert [place["region"] for place in found["models"][0]["places"]] == ["de-fra"]
    await portal.sql("UPDATE project SET allowed_regions = '{fr-par}' WHERE tenant_id = $1", customer.id)
    assert "No chat model is available" in (await customer.read("/playground")).text
    policy = (await customer.visitor.get("/playground")).headers["content-security-policy"]
    assert "connect-src 'self';" in policy


async def test_only_this_page_may_call_gateways_and_only_those(portal: PortalWorld, customer: Customer) -> None:
    """A region that is down now is among them: it may recover while the page is open."""
    await beat(portal, fr_par=(CHAT,))
    for path, connect in (("/playground", " " + " ".join(GATEWAYS.values())), ("/overview", ""), ("/keys", "")):
        policy = (await customer.visitor.get(path)).headers["content-security-policy"]
        (directive,) = [part for part in policy.split("; ") if part.startswith("connect-src")]
        if path == "/playground":
            assert set(directive.split()[1:]) == {"'self'", *GATEWAYS.values()}
        else:
            assert directive == f"connect-src 'self'{connect}"


async def test_nothing_that_is_written_can_be_submitted(portal: PortalWorld, customer: Customer) -> None:
    """No form around it and no name on it: not even a broken script can put a prompt into a request to the portal."""
    await beat(portal, fr_par=(CHAT,))
    playground = (await customer.read("/playground")).by_id("playground")
    assert not playground.all("form")
    fields = [*playground.all("input"), *playground.all("textarea"), *playground.all("select")]
    assert len(fields) == 7
    assert not [one for one in fields if "name" in one.attributes or "form" in one.attributes]
    assert not [button for button in playground.all("button") if button.attributes.get("type") != "button"]


async def test_texts_of_the_script_are_on_the_page(portal: PortalWorld, customer: Customer) -> None:
    await beat(portal, fr_par=(CHAT,))
    attributes = (await customer.read("/playground")).by_id("playground").attributes
    reasons = {name.removeprefix("data-reason-") for name in attributes if name.startswith("data-reason-")}
    assert reasons == {
        "session", "funds", "denied", "model", "request", "length", "region", "limit", "unavailable", "busy",
        "network", "portal", "broken",
    }  # fmt: skip
    assert "{seconds}" in attributes["data-reason-limit"]
    assert {"{low}", "{high}"} <= set(attributes["data-text-wrong-number"].replace(",", "").split())
    assert attributes["data-locale"] == "en-GB"


async def test_who_is_not_signed_in_gets_a_sign_in_and_no_token(portal: PortalWorld) -> None:
    nobody = Visitor(portal.http, portal.settings.portal_url)
    answer = await nobody.get("/playground")
    assert (answer.status_code, answer.headers["location"]) == (303, "/sign-in?next=/playground")
    assert (await nobody.post_json("/playground/token")).status_code == 401
    for path in ("/playground/offers", "/playground/requests/req_00000000000000000000000000"):
        assert (await nobody.get(path)).status_code == 303


async def test_token_is_given_to_the_portals_own_pages_only(portal: PortalWorld, customer: Customer) -> None:
    visitor = customer.visitor
    token = await visitor.csrf_token()
    own = {"origin": visitor.portal_url, "sec-fetch-site": "same-origin", "x-csrftoken": token}
    refused: list[dict[str, str]] = [
        own | {"origin": "http://127.0.0.1:8411"},
        own | {"sec-fetch-site": "cross-site"},
        own | {"x-csrftoken": "x" * len(token)},
        {"x-csrftoken": token},
    ]
    for headers in refused:
        answer = await visitor.request("POST", "/playground/token", headers=headers)
        assert answer.status_code == 403, headers
    assert (await visitor.request("GET", "/playground/token", headers=own)).status_code in {404, 405}
    assert (await visitor.request("POST", "/playground/token", headers=own)).status_code == 201
    assert await portal.sql("SELECT count(*) FROM browser_token WHERE tenant_id = $1", customer.id) == [(1,)]


async def test_token_is_stored_nowhere_and_logged_nowhere(
    portal: PortalWorld, customer: Customer, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    answer = await customer.visitor.post_json("/playground/token")
    token = answer.json()["token"]
    assert answer.headers["cache-control"] == "no-store"
    assert 0 < answer.json()["expires_in_s"] <= 600
    assert "set-cookie" not in answer.headers or token not in answer.headers["set-cookie"]
    for table in ("browser_token", "api_key", "outbox", "member_session"):
        rows = await portal.sql(f"SELECT t::text FROM {table} t")
        assert not any(token in row[0] for row in rows)
    output = capfd.readouterr()
    assert token not in caplog.text + output.out + output.err


async def test_too_many_tokens_of_one_session_are_429_with_a_time(portal: PortalWorld, customer: Customer) -> None:
    for _ in range(20):
        await new_token(customer)
    answer = await customer.visitor.post_json("/playground/token")
    assert answer.status_code == 429
    assert 500 < int(answer.headers["retry-after"]) <= 600


async def test_organisation_without_a_project_gets_no_token(portal: PortalWorld, customer: Customer) -> None:
    await portal.sql("DELETE FROM api_key WHERE tenant_id = $1", customer.id)
    await portal.sql("DELETE FROM project WHERE tenant_id = $1", customer.id)
    answer = await customer.visitor.post_json("/playground/token")
    assert (answer.status_code, answer.json()["code"]) == (404, "no_project")


async def test_request_that_is_no_id_is_404(customer: Customer) -> None:
    for name in ("x", "key_00000000000000000000000000", "req_%00", "req_8zzzzzzzzzzzzzzzzzzzzzzzzz"):
        answer = await customer.visitor.request(
            "GET", f"/playground/requests/{name}", headers={"accept": "application/json"}
        )
        assert answer.status_code == 404, name


async def test_page_reads_well_formed_in_every_language(portal: PortalWorld) -> None:
    await beat(portal, fr_par=(CHAT,))
    for language in ("en", "fr", "de"):
        customer = await portal.sign_up(unlike(), language=language)
        page = read_page((await customer.visitor.get("/playground")).text)
        assert page.one("html").attributes["lang"] == language
        assert len(page.all("h1")) == 1

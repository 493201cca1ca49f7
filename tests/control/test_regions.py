"""A region acts for itself and for nobody else."""

import msgspec

from chappe_catalogue.manifest import read_manifest
from chappe_control.catalogue.service import apply_catalogue
from chappe_kernel.api_keys import KeyKind, generate_key
from chappe_kernel.ids import TenantId, new_id
from chappe_kernel.wire import control as wire
from chappe_store.session import Database
from tests.control.world import CHAT, CREDENTIALS, MANIFEST, WELCOME_NANO, Cell, World

CALLS = [
    ("GET", "/snapshot"),
    ("GET", "/deployments"),
    ("POST", "/deployments/status"),
    ("POST", "/heartbeat"),
    ("GET", "/keys/changes?since=0"),
    ("POST", "/keys/resolve"),
    ("POST", "/grants"),
    ("PUT", f"/grants/{new_id()}/returned"),
    ("POST", "/usage"),
]


async def test_only_a_regions_credential_opens_the_internal_api(world: World) -> None:
    for method, path in CALLS:
        for headers in (
            {},
            world.alice.headers(),
            world.alice.headers("inference"),
            {"authorization": "Bearer ' OR 1=1 --"},
        ):
            answer = await world.http.request(method, f"/internal/v1{path}", headers=headers, content=b"{}")
            assert answer.status_code == 401, (method, path, headers)
            assert answer.headers["content-type"] == "application/problem+json"


async def test_grant_is_leased_once_per_id(world: World) -> None:
    grant_id = new_id()
    first, again = [await world.paris.ask(world.alice.id, 7_000, grant_id) for _ in range(2)]
    assert (first.status_code, again.status_code) == (200, 200)
    assert first.json()["amount_nano"] == again.json()["amount_nano"] == 7_000
    balance = (await world.api("GET", "/balance")).json()
    assert balance == {
        "currency": "EUR",
        "available": "10.000000000",
        "pending": "0.000007000",
        "credit_limit": "0.000000000",
    }


async def test_returned_money_is_pending_no_more(world: World) -> None:
    grant_id = await world.paris.lease(world.alice.id)
    answer = await world.paris.call("PUT", f"/grants/{grant_id}/returned", wire.ReturnGrant(50_000_000))
    assert answer.status_code == 204
    assert (await world.api("GET", "/balance")).json()["pending"] == "0.000000000"


async def test_another_regions_grant_cannot_be_returned_or_taken_over(world: World) -> None:
    grant_id = await world.paris.lease(world.alice.id)
    answer = await world.frankfurt.call("PUT", f"/grants/{grant_id}/returned", wire.ReturnGrant(50_000_000))
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
    assert (await world.frankfurt.ask(world.alice.id, 1, grant_id)).status_code == 409
    assert (await world.paris.ask(world.bob.id, 1, grant_id)).status_code == 409
    assert (await world.api("GET", "/balance")).json()["pending"] == "0.050000000"


async def test_usage_on_another_regions_grant_or_price_is_not_posted(world: World) -> None:
    grant_id = await world.paris.lease(world.alice.id)
    facts = await world.paris.resolve(world.alice.keys["inference"])
    assert facts is not None
    stolen = world.frankfurt.event(facts, grant_id, await world.frankfurt.price_version())
    foreign_price = world.frankfurt.event(
        facts, await world.frankfurt.lease(world.alice.id), await world.paris.price_version()
    )
    answer = await world.frankfurt.call("POST", "/usage", wire.UsageBatch("gw-1", (stolen, foreign_price)))
    receipt = msgspec.json.decode(answer.content, type=wire.UsageReceipt)
    assert (receipt.posted, receipt.quarantined) == (0, 2)
    assert await world.available_nano(world.alice) == WELCOME_NANO


async def test_repeated_batch_is_charged_once(world: World) -> None:
    grant_id = await world.paris.lease(world.alice.id)
    facts = await world.paris.resolve(world.alice.keys["inference"])
    assert facts is not None
    batch = wire.UsageBatch("gw-1", (world.paris.event(facts, grant_id, await world.paris.price_version()),))
    receipts = [(await world.paris.call("POST", "/usage", batch)).json() for _ in range(3)]
    assert [receipt["posted"] for receipt in receipts] == [1, 0, 0]
    assert receipts[0]["epoch"] == (await world.paris.snapshot()).epoch
    assert await world.available_nano(world.alice) == WELCOME_NANO - batch.events[0].amount_nano


async def test_region_that_the_tenant_does_not_allow_gets_no_grant(world: World, database: Database) -> None:
    manifest = read_manifest(
        msgspec.json.encode(
            MANIFEST
            | {"regions": [*MANIFEST["regions"], {"name": "us-nyc", "jurisdiction": "US", "gateway_url": "http://x"}]}
        )
    )
    credential = "credential-of-us-nyc-0123456789"
    async with database.operator() as session:
        await apply_catalogue(session, manifest, {"us-nyc": credential})
    ask = wire.AskGrant(new_id(), world.alice.id, "gw", 1, 1)
    headers = {"authorization": f"Bearer {credential}"}
    answer = await world.http.post("/internal/v1/grants", headers=headers, content=msgspec.json.encode(ask))
    assert (answer.status_code, answer.json()["code"]) == (403, "residency_denied")


async def test_spent_budget_is_402_and_lent_budget_is_503(world: World) -> None:
    everything = wire.AskGrant(new_id(), world.alice.id, "gw-1", WELCOME_NANO, WELCOME_NANO)
    assert (await world.paris.call("POST", "/grants", everything)).status_code == 200
    lent = await world.frankfurt.ask(world.alice.id)
    assert (lent.status_code, lent.json()["code"]) == (503, "budget_unavailable")
    assert "retry-after" in lent.headers
    too_much = wire.AskGrant(new_id(), world.bob.id, "gw-1", WELCOME_NANO + 1, WELCOME_NANO + 1)
    spent = await world.paris.call("POST", "/grants", too_much)
    assert (spent.status_code, spent.json()["code"]) == (402, "insufficient_funds")


async def test_unknown_tenant_gets_no_grant(world: World) -> None:
    assert (await world.paris.ask(TenantId(new_id()))).status_code == 404


async def test_injected_digests_resolve_nothing(world: World) -> None:
    assert await world.paris.resolve(generate_key(KeyKind.INFERENCE)) is None
    for digest in (b"", b"' OR 1=1 --", b"\x00" * 32, b"x" * 10_000):
        message = wire.ResolveKey((wire.KeyDigest(1, digest),))
        assert (await world.paris.call("POST", "/keys/resolve", message)).status_code == 404
    for count in (0, 9):
        message = wire.ResolveKey((wire.KeyDigest(1, b"x"),) * count)
        assert (await world.paris.call("POST", "/keys/resolve", message)).status_code == 400


async def test_region_learns_only_its_own_deployments(world: World) -> None:
    answer = await world.paris.call("GET", "/deployments")
    (spec,) = msgspec.json.decode(answer.content, type=list[wire.DeploymentSpec])
    assert (spec.name, spec.engine, spec.replicas, spec.options) == (CHAT, "simulated", 1, {})
    status = [wire.DeploymentStatus(CHAT, "running", "a\0b", 1), wire.DeploymentStatus("gone", "running", "", 1)]
    assert (await world.paris.call("POST", "/deployments/status", status)).status_code == 204


async def test_new_credential_breaks_no_gateway_that_uses_the_one_before(world: World, database: Database) -> None:
    """The newest two are valid: the third makes the first one stop, within the 5 s for which it is remembered."""
    manifest = read_manifest(msgspec.json.encode(MANIFEST))
    for turn in ("second", "third"):
        async with database.operator() as session:
            await apply_catalogue(session, manifest, {"fr-par": f"{turn}-credential-of-fr-par-012345"})
        world.clock.advance(6)
        status = (await world.paris.call("GET", "/snapshot")).status_code
        assert status == (200 if turn == "second" else 401)
    assert (await world.frankfurt.call("GET", "/snapshot")).status_code == 200


async def test_bad_internal_bodies_are_400(world: World) -> None:
    headers = {"authorization": f"Bearer {CREDENTIALS['fr-par']}"}
    for body in (b"", b"{", b"[]", b"null", b'{"gateway": "\\ud800"}', b"\xff", b"[" * 50_000):
        for path in ("/heartbeat", "/keys/resolve", "/grants", "/usage"):
            answer = await world.http.post(f"/internal/v1{path}", headers=headers, content=body)
            assert answer.status_code == 400, (path, answer.text)


async def test_strings_that_no_column_can_hold_are_400(world: World) -> None:
    assert (await world.paris.beat(gateway="a\0b")).status_code == 400
    assert (await world.paris.beat("\0")).status_code == 400
    ask = wire.AskGrant(new_id(), world.alice.id, "gw", 2**70, 1)
    assert (await world.paris.call("POST", "/grants", ask)).status_code == 400


async def test_batches_are_bounded(world: World) -> None:
    cell: Cell = world.paris
    facts = await cell.resolve(world.alice.keys["inference"])
    assert facts is not None
    event = cell.event(facts, new_id(), new_id())
    answer = await cell.call("POST", "/usage", wire.UsageBatch("gw", (event,) * 5001))
    assert (answer.status_code, answer.json()["code"]) == (400, "batch_too_large")
    answer = await cell.call("POST", "/usage", wire.UsageBatch("gw", (event,) * 40_000))
    assert answer.status_code == 413

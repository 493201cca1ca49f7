"""The page of regions shows each cell's state and load, and a problem at a glance."""

import pytest

from chappe_kernel.wire import control as wire
from tests.console.world import CHAT, EMBEDDINGS, ConsoleWorld
from tests.portal.reading import Element


@pytest.fixture(autouse=True)
async def _all_report(console: ConsoleWorld) -> None:
    await console.sql("DELETE FROM gateway_heartbeat")
    await console.sql("DELETE FROM deployment_state")
    await console.cell("fr-par").report()
    await console.cell("de-fra").report()
    await stay_alive(console)
    await take_snapshots(console)


async def take_snapshots(console: ConsoleWorld) -> None:
    """Every gateway that lives has the newest snapshot, which says who lives."""
    newest = (await console.cell("fr-par").snapshot()).version
    await console.sql("UPDATE gateway_heartbeat SET snapshot_version = $1 WHERE seen_at > now()", newest)


async def stay_alive(console: ConsoleWorld) -> None:
    """However long this machine takes for the rest of the test: a gateway is silent after five seconds."""
    await console.sql("UPDATE gateway_heartbeat SET seen_at = now() + interval '1 hour'")


async def card(console: ConsoleWorld, region: str, path: str = "/console/regions") -> Element:
    return (await console.read(path)).by_id(f"region-{region}")


def badge(found: Element) -> str:
    (header,) = (element for element in found.walk() if element.attributes.get("class") == "card-header")
    return header.all("span")[-1].text


async def test_a_region_that_reports_is_healthy_and_one_that_never_did_says_so(console: ConsoleWorld) -> None:
    page = await console.read("/console/regions")
    assert badge(page.by_id("region-fr-par")) == "Healthy"
    never = page.by_id("region-it-mil")
    assert badge(never) == "Never reported"
    assert "No gateway of this region has ever reported" in never.text and "Start a gateway" in never.text
    assert page.by_id("stat-healthy").text.startswith("Healthy regions 2 of 3")


async def test_a_region_that_went_silent_looks_different_and_comes_first(console: ConsoleWorld) -> None:
    await console.sql("UPDATE gateway_heartbeat SET seen_at = now() - interval '3 minutes' WHERE region = 'de-fra'")
    await take_snapshots(console)
    page = await console.read("/console/regions")
    silent = page.by_id("region-de-fra")
    assert badge(silent) == "Silent"
    assert "No gateway reports any more · 3 minutes ago" in silent.text
    assert "1 region needs attention" in page.by_id("stat-healthy").text
    cards = [element.attributes["id"] for element in page.all("section") if "region-" in element.attributes["id"]]
    assert cards == ["region-de-fra", "region-fr-par", "region-it-mil"]


async def test_gateways_that_see_nothing_answer_make_the_region_down(console: ConsoleWorld) -> None:
    await console.cell("de-fra").beat_with(())
    await stay_alive(console)
    found = await card(console, "de-fra")
    assert badge(found) == "Down" and "No deployment answers" in found.text


async def test_an_old_snapshot_is_told_only_after_the_time_to_take_a_new_one(console: ConsoleWorld) -> None:
    await console.cell("fr-par").beat_with((CHAT, EMBEDDINGS), version="an older one")
    await stay_alive(console)
    await console.sql("UPDATE region SET gateway_url = gateway_url || '0' WHERE name = 'it-mil'")
    assert "runs an old snapshot" not in (await console.read("/console/regions")).text
    found = await card(console, "fr-par")
    assert badge(found) == "Degraded" and "Gateway gw-1 runs an old snapshot" in found.text


async def test_a_silent_reconciler_and_missing_replicas_are_told(console: ConsoleWorld) -> None:
    statuses = [wire.DeploymentStatus(EMBEDDINGS, "deploying", "waiting for memory", 1)]
    await console.cell("fr-par").call("POST", "/deployments/status", statuses)
    assert f"{EMBEDDINGS} runs 1 of 2 replicas" in (await card(console, "fr-par")).text
    await console.sql("UPDATE deployment_state SET reported_at = now() - interval '1 hour' WHERE region = 'fr-par'")
    assert "The reconciler has gone silent · 1 hour ago" in (await card(console, "fr-par")).text


async def test_load_is_summed_over_the_gateways_that_live(console: ConsoleWorld) -> None:
    cell = console.cell("fr-par")
    await cell.report(gateway="gw-1", loads={CHAT: 3, EMBEDDINGS: 1})
    await cell.report(gateway="gw-2", loads={CHAT: 4, "a deployment that nobody knows": 2})
    await cell.report(gateway="gw-3", loads={CHAT: 100})
    await stay_alive(console)
    await console.sql("UPDATE gateway_heartbeat SET seen_at = now() - interval '6 seconds' WHERE gateway = 'gw-3'")
    page = await console.read("/console/regions")
    assert "In flight 10" in page.by_id("region-fr-par").text
    assert page.by_id("stat-in-flight").text.startswith("Requests in flight 10")
    rows = {row.attributes["id"]: row.text for row in (await console.read("/console/deployments")).all("tr")[1:]}
    assert "7 / 4" in rows[f"deployment-fr-par-{CHAT}"]
    assert "1 / 16" in rows[f"deployment-fr-par-{EMBEDDINGS}"]
    assert "0 / 4" in rows[f"deployment-de-fra-{CHAT}"]


async def test_a_heartbeat_without_loads_is_one_of_the_release_before(console: ConsoleWorld) -> None:
    old = {"gateway": "gw-1", "snapshot_version": "v", "healthy_deployments": [CHAT]}
    answer = await console.cell("fr-par").call("POST", "/heartbeat", old)
    assert answer.status_code == 204
    assert await console.sql("SELECT loads FROM gateway_heartbeat WHERE region = 'fr-par'") == [({},)]


@pytest.mark.parametrize(
    "loads",
    [
        (wire.DeploymentLoad(CHAT, -1),),
        (wire.DeploymentLoad(CHAT, 10**6 + 1),),
        (wire.DeploymentLoad("x" * 101, 1),),
        (wire.DeploymentLoad("x\0", 1),),
        tuple(wire.DeploymentLoad(str(number), 1) for number in range(1001)),
    ],
)
async def test_absurd_loads_are_refused(console: ConsoleWorld, loads: tuple[wire.DeploymentLoad, ...]) -> None:
    answer = await console.cell("fr-par").call("POST", "/heartbeat", wire.Heartbeat("gw-1", "v", (), loads))
    assert (answer.status_code, answer.json()["param"]) == (400, "loads")


async def test_what_ray_says_is_text_and_not_markup(console: ConsoleWorld) -> None:
    statuses = [wire.DeploymentStatus(CHAT, "deploy_failed", "<script>alert(1)</script>" + "x" * 400, 0)]
    await console.cell("fr-par").call("POST", "/deployments/status", statuses)
    answer = await (await console.operator()).get("/console/deployments")
    assert "<script>alert" not in answer.text and "&lt;script&gt;alert" in answer.text
    assert "Failed to start" in answer.text and "Whole message" in answer.text


@pytest.mark.parametrize("page", ["/console/regions", "/console/deployments"])
async def test_the_fragment_is_what_the_page_holds(console: ConsoleWorld, page: str) -> None:
    live = (await console.read(page)).one("div", data_live=f"{page}/live")
    fragment = await console.read(f"{page}/live")
    assert [element.tag for element in fragment.walk()][1:] == [element.tag for element in live.walk()][1:]
    assert not fragment.all("html")

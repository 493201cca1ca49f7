"""The list of tenants can be searched, sorted and paged through; a tenant's page shows its figures and no secret."""

import base64
import random
import time
from typing import Any

import pytest

from chappe_control.console.tenants.queries import PAGE_ROWS
from chappe_kernel.ids import TENANT, encode_id, new_id
from tests.console.world import CHAT, ConsoleWorld, show
from tests.portal.reading import Element, nano, number, read_page

LINK = "/console/tenants"
NASTY = "<script>alert(1)</script>\"'><img src=x>"


SOME_ID = '"0190a000-0000-7000-8000-000000000000"]'


def forged(text: str, encoding: str = "utf-8") -> str:
    return base64.urlsafe_b64encode(text.encode(encoding)).decode().rstrip("=")


def names(page: Element) -> list[str]:
    if not page.has("tenants-table"):
        return []
    return [row.one("th").one("a").text for row in page.by_id("tenants-table").one("tbody").all("tr")]


async def search(console: ConsoleWorld, text: str) -> list[str]:
    visitor = await console.operator()
    answer = await visitor.request("GET", LINK, headers={"accept": "text/html"}, params={"q": text})
    assert answer.status_code == 200
    return names(read_page(answer.text))


@pytest.fixture(scope="module", autouse=True)
async def _some(console: ConsoleWorld) -> None:
    for name in ("Alpha 100% AG", "Beta_1 SA", "Beta-1 SA", "Gamma\\Delta", "Société Générique", NASTY):
        await console.tenant(name)


@pytest.fixture(scope="module")
async def many(console: ConsoleWorld) -> None:
    """A hundred and twenty tenants, of which groups have the same name, balance and spend."""
    await console.sql(
        "INSERT INTO tenant (id, name, state, currency, allowed_regions, requests_per_minute) "
        "SELECT uuidv7(), 'Group ' || (i / 7), 'active', 'EUR', '{fr-par}', 60 FROM generate_series(1, 120) i"
    )
    await console.sql(
        "INSERT INTO budget (tenant_id, currency, funds_nano) "
        "SELECT id, 'EUR', 10 ^ 9 * (length(name) + ascii(right(name, 1)) % 3) FROM tenant t "
        "WHERE NOT EXISTS (SELECT FROM budget b WHERE b.tenant_id = t.id)"
    )
    await console.sql(
        "INSERT INTO usage_month SELECT date_trunc('month', now(), 'UTC'), id, 1, 2, 0, 3, "
        "1000 * (ascii(right(name, 1)) % 4), 0 FROM tenant WHERE name LIKE 'Group %%'"
    )


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("%", ["Alpha 100% AG"]),
        ("_", ["Beta_1 SA"]),
        ("beta_1", ["Beta_1 SA"]),
        ("BETA", ["Beta-1 SA", "Beta_1 SA"]),
        ("\\", ["Gamma\\Delta"]),
        ("SOCIÉTÉ", ["Société Générique"]),
        ("  générique ", ["Société Générique"]),
        ("' OR 1=1 --", []),
        ("%%%%%%%%", []),
        ("<script>alert", [NASTY]),
    ],
)
async def test_a_search_means_its_characters(console: ConsoleWorld, text: str, found: list[str]) -> None:
    assert await search(console, text) == found


async def test_a_whole_id_finds_its_tenant(console: ConsoleWorld) -> None:
    tenant = await console.tenant("Found by id")
    assert await search(console, show(tenant)) == ["Found by id"]
    assert await search(console, show(tenant)[:-1]) == []


async def test_a_search_that_would_stall_a_pattern_does_not(console: ConsoleWorld, many: None) -> None:
    assert many is None
    began = time.monotonic()
    await search(console, "%a" * 50)
    assert time.monotonic() - began < 5


async def test_a_name_is_text_wherever_it_stands(console: ConsoleWorld) -> None:
    visitor = await console.operator()
    listed = (await visitor.get(LINK)).text
    assert "<script>alert" not in listed and "<img" not in listed
    (tenant_id,) = (await console.sql("SELECT id FROM tenant WHERE name = $1", NASTY))[0]
    from_list = read_page(listed)
    (link,) = (found for found in from_list.all("a") if found.text == NASTY)
    page = (await visitor.get(link.attributes["href"])).text
    assert "<script>alert" not in page and "<img" not in page
    assert read_page(page).one("h1").text == NASTY and tenant_id is not None
    again = await visitor.request("GET", LINK, headers={"accept": "text/html"}, params={"q": NASTY})
    assert "<script>alert" not in again.text and "<img" not in again.text


@pytest.mark.parametrize("sort", ["name", "balance", "spend"])
@pytest.mark.parametrize("order", ["asc", "desc"])
async def test_pages_hold_every_tenant_once_and_in_order(
    console: ConsoleWorld, many: None, sort: str, order: str
) -> None:
    assert many is None
    path: str | None = f"{LINK}?sort={sort}&order={order}"
    rows: list[tuple[str, int, int]] = []
    links: list[str] = []
    while path is not None:
        page = await console.read(path)
        found = page.by_id("tenants-table").rows()
        assert len(found) <= PAGE_ROWS
        links += [link.attributes["href"] for link in page.by_id("tenants-table").all("a")]
        rows += [(row[0].rsplit(" ten_", 1)[0].lower(), nano(row[2].split()[0]), nano(row[4])) for row in found]
        following = [link for link in page.all("a") if link.text == "Next page"]
        path = following[0].attributes["href"] if following else None
    keys: list[Any] = [row[["name", "balance", "spend"].index(sort)] for row in rows]
    assert keys == sorted(keys, reverse=order == "desc")
    ids = [link for link in links if link.startswith(f"{LINK}/ten_")]
    assert len(ids) == len(set(ids)) == (await console.sql("SELECT count(*) FROM tenant"))[0][0]


async def test_a_page_stays_where_it_is_when_tenants_come_and_go(console: ConsoleWorld, many: None) -> None:
    assert many is None
    first = await console.read(f"{LINK}?sort=name&order=asc")
    (following,) = (link.attributes["href"] for link in first.all("a") if link.text == "Next page")
    before = names(await console.read(following))
    await console.tenant("Aaa, before all others")
    assert names(await console.read(following)) == before
    assert names(await console.read(following.replace("?", "/live?"))) == before


async def test_a_sorted_column_says_so(console: ConsoleWorld) -> None:
    head = (await console.read(f"{LINK}?sort=spend&order=desc")).by_id("tenants-table").one("thead")
    assert [cell.text for cell in head.all("th", aria_sort="descending")] == ["Spend"]
    plain = (await console.read(LINK)).by_id("tenants-table").one("thead")
    assert not any("aria-sort" in cell.attributes for cell in plain.all("th"))


@pytest.mark.parametrize(
    "query",
    [
        "sort=password_hash",
        "order=sideways",
        "sort=name&order=desc&cursor=x",
        "cursor=" + forged('["name","asc","a"]'),
        "cursor=" + forged('["name","asc","a","no id"]'),
        "sort=balance&cursor=" + forged('["balance","asc","a",' + SOME_ID),
        "cursor=" + forged('["name","asc",5,' + SOME_ID),
        "cursor=" + forged('["name","asc","\\u0000",' + SOME_ID),
        "sort=balance&cursor=" + forged('["balance","asc",9223372036854775808,' + SOME_ID),
        "cursor=" + forged('["name","asc","a",' + SOME_ID, "utf-16"),
        "cursor=" + "A" * 3000,
        "cursor=é",
        "q=" + "a" * 101,
        "q=a%00b",
    ],
)
@pytest.mark.parametrize("path", [LINK, f"{LINK}/live"])
async def test_what_no_link_of_ours_says_is_refused_on_a_page(console: ConsoleWorld, path: str, query: str) -> None:
    answer = await (await console.operator()).get(f"{path}?{query}")
    assert answer.status_code == 400
    assert read_page(answer.text).one("h1").text == "This request cannot work"


async def test_a_cursor_belongs_to_its_order(console: ConsoleWorld, many: None) -> None:
    assert many is None
    first = await console.read(f"{LINK}?sort=name&order=asc")
    (following,) = (link.attributes["href"] for link in first.all("a") if link.text == "Next page")
    answer = await (await console.operator()).get(following.replace("order=asc", "order=desc"))
    assert answer.status_code == 400


async def test_the_list_has_what_the_operator_looks_for(console: ConsoleWorld) -> None:
    tenant = await console.tenant("Figures GmbH", funds_nano=10**9)
    used = await console.cell("fr-par").spend(tenant, random.Random(4), 6)  # noqa: S311 -- traffic, no secrets
    await console.sql("UPDATE tenant SET state = 'suspended' WHERE id = $1", tenant.id)
    await console.sql("UPDATE budget SET credit_limit_nano = 5000000000 WHERE tenant_id = $1", tenant.id)
    page = await console.read(f"{LINK}?q=Figures")
    (row,) = page.by_id("tenants-table").rows()
    spent = sum(sums.rated_nano for sums in used.values())
    assert row[0] == f"Figures GmbH {show(tenant)}"
    assert row[1] == "Suspended fr-par, DE"
    assert nano(row[2].split()[0]) == 10**9 - spent and "pending" in row[2] and "€5.00 credit" in row[2]
    assert number(row[3].split()[0]) == 6
    assert nano(row[4]) == spent
    assert row[5].endswith("ago 0 members")


async def test_a_tenants_page_has_its_figures_and_no_secret(console: ConsoleWorld) -> None:
    tenant = await console.tenant("Page SA")
    used = await console.cell("de-fra").spend(tenant, random.Random(5), 4)  # noqa: S311 -- traffic, no secrets
    answer = await (await console.operator()).get(f"{LINK}/{show(tenant)}")
    page = read_page(answer.text)
    (usage,) = page.by_id("usage-table").rows()
    assert usage[:3] == [CHAT, "de-fra", "4"]
    assert nano(usage[6]) == used[CHAT].rated_nano == nano(page.by_id("stat-spend").all("p")[1].text)
    assert nano(page.by_id("stat-available").all("p")[1].text) == 10**10 - used[CHAT].rated_nano
    (key,) = page.by_id("keys-table").rows()
    assert key[:3] == [f"production {tenant.keys['inference'][:8]}…", "Inference", "default"]
    assert tenant.keys["inference"] not in answer.text and "argon2" not in answer.text
    (digest,) = (await console.sql("SELECT encode(digest, 'hex') FROM api_key WHERE tenant_id = $1", tenant.id))[0]
    assert digest not in answer.text
    kinds = [(row[1], nano(row[2])) for row in page.by_id("ledger-table").rows()]
    assert kinds == [("Usage", -used[CHAT].rated_nano), ("Welcome credit", 10**10)]


@pytest.mark.parametrize("text", ["ten_nothing", "prj_00000000000000000000000000", "x" * 300, "ten_%00", "..%2f"])
async def test_no_tenant_is_not_found(console: ConsoleWorld, text: str) -> None:
    for path in (f"{LINK}/{text}", f"{LINK}/{encode_id(TENANT, new_id())}"):
        assert (await (await console.operator()).get(path)).status_code == 404


async def test_one_tenants_figures_are_never_anothers(console: ConsoleWorld) -> None:
    busy, quiet = await console.tenant("Busy Ltd"), await console.tenant("Quiet Ltd")
    await console.cell("fr-par").spend(busy, random.Random(6), 3)  # noqa: S311 -- traffic, no secrets
    page = await console.read(f"{LINK}/{show(quiet)}")
    assert not page.has("usage-table") and "No usage this month" in page.text
    assert [row[1] for row in page.by_id("ledger-table").rows()] == ["Welcome credit"]


async def test_the_fragments_are_what_the_pages_hold(console: ConsoleWorld) -> None:
    tenant = await console.tenant("Fragment AG")
    for page in (f"{LINK}?q=Fragment", f"{LINK}/{show(tenant)}"):
        whole = await console.read(page)
        (live,) = (found for found in whole.all("div") if "data-live" in found.attributes)
        fragment = await console.read(live.attributes["data-live"])
        assert [found.tag for found in fragment.walk()][1:] == [found.tag for found in live.walk()][1:]
        assert "Fragment AG" in whole.text

"""Who may open what: every route of the console with every role, and nobody else."""

import pytest
from litestar import Litestar
from litestar.routes import HTTPRoute

from chappe_control.console.menu import MENU, first_page
from chappe_control.permissions import Permission, may
from chappe_kernel.ids import PRICE_DRAFT, PRICE_VERSION, encode_id
from chappe_tenants.operators.service import OperatorRole
from tests.console.world import ConsoleWorld, show
from tests.portal.reading import read_page
from tests.routes import app_without_services

ALL = frozenset(OperatorRole)
OPERATIONS = ALL - {OperatorRole.FINANCE}
MONEY = ALL - {OperatorRole.SUPPORT}
CARE = frozenset({OperatorRole.ADMINISTRATOR, OperatorRole.SUPPORT})
CREDIT = frozenset({OperatorRole.ADMINISTRATOR, OperatorRole.FINANCE})
# Written down a second time on purpose: whoever changes who may see what changes it here too.
EXPECTED = {
    "/console": ALL,
    "/console/regions": OPERATIONS,
    "/console/regions/live": OPERATIONS,
    "/console/deployments": OPERATIONS,
    "/console/deployments/live": OPERATIONS,
    "/console/tenants": ALL,
    "/console/tenants/live": ALL,
    "/console/tenants/{tenant_id}": ALL,
    "/console/tenants/{tenant_id}/live": ALL,
    "/console/tenants/{tenant_id}/quotas": ALL,
    "/console/tenants/new": CARE,
    "/console/tenants/{tenant_id}/edit": CARE,
    "/console/tenants/{tenant_id}/credit-limit": CREDIT,
    "/console/tenants/{tenant_id}/owners": CARE,
    "/console/revenue": MONEY,
    "/console/revenue/live": MONEY,
    "/console/dunning": MONEY,
    "/console/payments": MONEY,
    "/console/disputes": MONEY,
    "/console/tax": ALL,
    "/console/tax/rates": ALL,
    "/console/tenants/{tenant_id}/tax": ALL,
    "/console/prices": ALL,
    "/console/prices/history": ALL,
    "/console/prices/versions/{price_version}": ALL,
    "/console/prices/drafts": ALL,
    "/console/prices/drafts/new": CREDIT,
    "/console/prices/drafts/{draft_id}": ALL,
    "/console/tenants/{tenant_id}/prices": ALL,
    "/console/invoices": MONEY,
    "/console/gallery": frozenset({OperatorRole.ADMINISTRATOR}),
    "/console/gallery/live": frozenset({OperatorRole.ADMINISTRATOR}),
}
# Who is not signed in yet, and who leaves.
FOR_EVERYBODY = {"/console/sign-in", "/console/sign-out"}
# No pages of their own: `tests/quotas/test_pages.py`, `tests/organisations/test_console_pages.py`, `test_disputes.py`,
# `test_price_drafts.py`, `test_tenant_prices.py` and `test_tax.py`, and those of dunning and
# payments, have them.
POSTED_ONLY = {
    "/console/invoices/runs",
    "/console/invoices/issue/{tenant_id}",
    "/console/invoices/{invoice_id}/payments",
    "/console/invoices/{invoice_id}/write-offs",
    "/console/invoices/{invoice_id}/credit-notes",
    "/console/tenants/{tenant_id}/quotas/raises",
    "/console/tenants/{tenant_id}/quotas/raises/{raise_id}/end",
    "/console/tenants/{tenant_id}/transitions",
    "/console/disputes/discrepancies/{discrepancy_id}",
    "/console/disputes/quarantine/{request_id}/{digest}",
    "/console/prices/versions/{price_version}/withdraw",
    "/console/prices/versions/{price_version}/revert",
    "/console/prices/drafts/{draft_id}/lines",
    "/console/prices/drafts/{draft_id}/lines/remove",
    "/console/prices/drafts/{draft_id}/simulate",
    "/console/prices/drafts/{draft_id}/publish",
    "/console/prices/drafts/{draft_id}/discard",
    "/console/tenants/{tenant_id}/prices/terms",
    "/console/tenants/{tenant_id}/prices/terms/{term_id}/end",
    "/console/dunning/tenants/{tenant_id}/pause",
    "/console/dunning/tenants/{tenant_id}/resume",
    "/console/dunning/policies/{entity_id}",
    "/console/payments/{payment_id}/refund",
    "/console/payments/calls/{call_id}/retry",
    "/console/payments/quarantine/{quarantined_id}/close",
    "/console/tax/checks/{tenant_id}",
    "/console/tax/rates/{country}/{starts_on}/withdrawal",
    "/console/tax/refusals/{invoice_id}",
    "/console/tenants/{tenant_id}/tax/rulings",
}
# Of things that nobody has here: `tests/invoice_pages` opens them with every role.
OF_INVOICES = {"/console/invoices/{invoice_id}", "/console/invoices/runs/{run_id}"}


@pytest.fixture(scope="module")
def app() -> Litestar:
    return app_without_services()


def console_routes(app: Litestar) -> set[str]:
    """As `path_template` has them."""
    paths = {route.path_format for route in app.routes if isinstance(route, HTTPRoute)}
    own = {path for path in paths if path == "/console" or path.startswith("/console/")}
    return own - FOR_EVERYBODY - POSTED_ONLY - OF_INVOICES


async def prices(console: ConsoleWorld) -> dict[str, str]:
    """A published price, and a draft."""
    ((version_id,), *_) = await console.sql("SELECT id FROM price_version LIMIT 1")
    ((draft_id,),) = await console.sql(
        "INSERT INTO price_draft (id, title) VALUES (uuidv7(), 'Any draft') RETURNING id"
    )
    return {"price_version": encode_id(PRICE_VERSION, version_id), "draft_id": encode_id(PRICE_DRAFT, draft_id)}


def test_every_route_of_the_console_is_expected_here(app: Litestar) -> None:
    assert console_routes(app) == set(EXPECTED)


@pytest.mark.parametrize("role", OperatorRole)
@pytest.mark.parametrize("route", sorted(EXPECTED))
async def test_each_role_opens_what_the_table_says_and_nothing_else(
    console: ConsoleWorld, route: str, role: OperatorRole
) -> None:
    tenant = await console.tenant("Any tenant")
    answer = await (await console.operator(role)).get(route.format(tenant_id=show(tenant), **await prices(console)))
    if role not in EXPECTED[route]:
        assert answer.status_code == 403
        assert read_page(answer.text).one("h1").text == "Not open to your role"
    elif route == "/console":
        assert (answer.status_code, answer.headers["location"]) == (303, first_page(role))
    else:
        assert answer.status_code == 200


@pytest.mark.parametrize("role", OperatorRole)
async def test_the_menu_holds_what_the_role_may_open(console: ConsoleWorld, role: OperatorRole) -> None:
    page = read_page((await (await console.operator(role)).get(first_page(role))).text)
    (menu,) = (element for element in page.all("ul") if element.attributes.get("class") == "sidebar-nav")
    assert [link.attributes["href"] for link in menu.all("a")] == [
        path for path, permission in MENU.items() if may(role, permission)
    ]
    assert first_page(role) == next(path for path in MENU if role in EXPECTED[path])


@pytest.mark.parametrize("route", sorted(EXPECTED))
async def test_nobody_and_no_member_enters(console: ConsoleWorld, route: str) -> None:
    path = route.format(**dict.fromkeys(("tenant_id", "price_version", "draft_id"), "ten_00000000000000000000000000"))
    member = console.nobody()
    await member.sign_up()
    for visitor in (console.nobody(), member):
        answer = await visitor.get(path)
        assert (answer.status_code, answer.headers["location"].split("?")[0]) == (303, "/console/sign-in")
    live = await console.nobody().live(path, "/console/regions")
    assert live.headers["hx-redirect"] == "/console/sign-in?next=/console/regions"


async def test_a_members_cookie_under_the_consoles_name_opens_nothing(console: ConsoleWorld) -> None:
    member = console.nobody()
    await member.sign_up()
    member.cookies["__Host-chappe-console"] = member.cookies["__Host-chappe"]
    assert (await member.get("/console/regions")).status_code == 303
    operator = console.nobody()
    operator.cookies = dict((await console.operator()).cookies)
    operator.cookies["__Host-chappe"] = operator.cookies["__Host-chappe-console"]
    assert (await operator.get("/overview")).headers["location"].startswith("/sign-in")


async def test_revenue_and_members_show_only_where_the_role_may_see_them(console: ConsoleWorld) -> None:
    tenant = await console.tenant("With members")
    await console.sql(
        "WITH a AS (INSERT INTO account (id, email, password_hash) "
        "VALUES (uuidv7(), 'mia@with-members.example', '$argon2id$x') RETURNING id, email) "
        "INSERT INTO member (tenant_id, id, account_id, email, role) SELECT $1, uuidv7(), id, email, 'owner' FROM a",
        tenant.id,
    )
    for role in OperatorRole:
        page = await console.read(f"/console/tenants/{show(tenant)}", role)
        assert ("mia@with-members.example" in page.text) is may(role, Permission.SEE_TENANT_MEMBERS)
        if may(role, Permission.SEE_REGIONS):
            regions = await console.read("/console/regions", role)
            assert ("Revenue today" in regions.text) is may(role, Permission.SEE_REVENUE)


async def test_a_changed_role_counts_from_the_next_request_on(console: ConsoleWorld) -> None:
    visitor = console.nobody()
    await console.sql(
        "INSERT INTO operator_user (id, email, role, password_hash) "
        "SELECT uuidv7(), 'changing@operator.example', 'administrator', password_hash FROM operator_user LIMIT 1"
    )
    await visitor.console_sign_in("changing@operator.example")
    assert (await visitor.get("/console/revenue")).status_code == 200
    await console.sql("UPDATE operator_user SET role = 'support' WHERE email = 'changing@operator.example'")
    assert (await visitor.get("/console/revenue")).status_code == 403


async def test_a_forbidden_fragment_is_refused_like_its_page(console: ConsoleWorld) -> None:
    support = await console.operator(OperatorRole.SUPPORT)
    assert (await support.live("/console/revenue/live", "/console/revenue")).status_code == 403


@pytest.mark.parametrize("language", ["fr", "de"])
async def test_the_refusal_is_in_the_visitors_language(console: ConsoleWorld, language: str) -> None:
    visitor = await console.operator(OperatorRole.SUPPORT, language)
    page = read_page((await visitor.get("/console/revenue")).text)
    assert page.one("html").attributes["lang"] == language
    assert page.one("h1").text != "Not open to your role"

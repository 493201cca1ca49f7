"""Topping up by a hosted page in a real browser: paid, refused, abandoned, paid twice. The balance rises once."""

import secrets
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pytest
from playwright.async_api import Browser, Page, expect
from sqlalchemy import update

from chappe_billing.budgets.queries import open_budget
from chappe_catalogue.manifest import read_manifest
from chappe_control.catalogue.service import apply_catalogue
from chappe_control.settings import ControlSettings
from chappe_store.session import Database
from chappe_tenants.legal_entities.models import DEFAULT_LEGAL_ENTITY_ID, LegalEntity
from chappe_tenants.members.service import Role, put_member
from chappe_tenants.organisations.service import create_organisation
from tests.conftest import DatabaseUrls
from tests.control.conftest import serve
from tests.control.world import AUDIT_KEYS_TEXT, CREDENTIALS, MANIFEST, PEPPERS_TEXT, HandClock
from tests.pages.browser import PASSWORD
from tests.stripe_server import LocalStripe, local_stripe
from tests.valkey_server import start_valkey

_WAIT_MS = 30_000


@dataclass(frozen=True)
class Shop:
    url: str
    stripe: LocalStripe
    email: str


@pytest.fixture
async def shop(database: Database, database_urls: DatabaseUrls, tmp_path: Path) -> AsyncIterator[Shop]:
    """A control plane whose webhooks really arrive, and a tenant without money."""
    email = f"owner-{secrets.token_hex(4)}@example.eu"
    async with database.operator() as session:
        await apply_catalogue(session, read_manifest(msgspec.json.encode(MANIFEST)), dict(CREDENTIALS))
        await session.execute(
            update(LegalEntity)
            .where(LegalEntity.id == DEFAULT_LEGAL_ENTITY_ID)
            .values(country="FR", postal_code="75007", payments="stripe")
        )
        scope = await create_organisation(
            session, name="Exemple SA", allowed_regions=["FR"], requests_per_minute=600, details={"country": "FR"}
        )
        await open_budget(session, scope.tenant_id, "EUR")
        await put_member(session, scope, email=email, password=PASSWORD, role=Role.OWNER)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    hook = f"http://127.0.0.1:{port}/webhooks/stripe"
    with start_valkey(tmp_path) as valkey:
        async with local_stripe(tmp_path, webhooks_to=[hook]) as stripe:
            settings = ControlSettings(
                database_url=database_urls.app,
                redis_url=valkey.url,
                key_peppers=PEPPERS_TEXT,
                audit_keys=AUDIT_KEYS_TEXT,
                port=port,
                portal_url=f"http://localhost:{port}",
                stripe_api_key=stripe.api_key,
                stripe_webhook_secret=stripe.webhook_secret,
                stripe_api_base=stripe.url,
            )
            async with serve(settings, HandClock()):
                yield Shop(f"http://localhost:{port}", stripe, email)


async def test_a_top_up_refused_paid_abandoned_and_paid_twice_raises_the_balance_once(
    browser: Browser, shop: Shop
) -> None:
    context = await browser.new_context(locale="en-GB")
    page = await context.new_page()
    page.set_default_timeout(_WAIT_MS)
    await _sign_in(page, shop)
    await _begin(page, shop)
    paid_page = str(await page.get_attribute("#pay", "href"))
    assert "24.00" in await page.inner_text("#payment"), "the total is there before anything is paid"
    await page.click("#pay")
    await _fill_in(page, "4000000000000002")
    await expect(page.locator("body")).to_contain_text("declined", timeout=_WAIT_MS)
    await _fill_in(page, "4242424242424242")
    await page.wait_for_url(f"{shop.url}/balance/payments/*")
    await expect(page.locator("main")).to_contain_text("has arrived", timeout=_WAIT_MS)
    assert "20.00" in await _balance(page, shop)
    # Once more, on the page that was paid: it does not let them.
    await page.goto(paid_page)
    assert await page.locator("#number").count() == 0
    # Another, abandoned: somebody goes back, and nothing has happened.
    await _begin(page, shop)
    await page.click("#pay")
    await page.wait_for_selector("#number")
    await page.go_back()
    await expect(page.locator("#payment")).to_contain_text("To be paid")
    await shop.stripe.switch("clock", advance_s=25 * 3600)
    await expect(page.locator("main")).to_contain_text("abandoned", timeout=_WAIT_MS)
    assert "20.00" in await _balance(page, shop)
    await context.close()


async def _sign_in(page: Page, shop: Shop) -> None:
    await page.goto(f"{shop.url}/sign-in")
    await page.fill("#email", shop.email)
    await page.fill("#password", PASSWORD)
    await page.click("form[action='/sign-in'] button[type=submit]")
    await page.wait_for_url(f"{shop.url}/overview")


async def _begin(page: Page, shop: Shop) -> None:
    await page.goto(f"{shop.url}/balance")
    await page.select_option("#amount", "20")
    await page.click("#top-up-form button[type=submit]")
    await page.wait_for_selector("#pay")


async def _fill_in(page: Page, number: str) -> None:
    await page.fill("#number", number)
    await page.fill("#expiry", "12/34")
    await page.fill("#cvc", "123")
    await page.fill("#card_name", "Ada")
    await page.click("button.wide")


async def _balance(page: Page, shop: Shop) -> str:
    await page.goto(f"{shop.url}/balance")
    return await page.inner_text("#available")

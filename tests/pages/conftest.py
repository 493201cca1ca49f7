"""The site of the sign-in tests, for what needs somebody who is signed in; the rest runs without a database."""

import secrets
from collections.abc import AsyncIterator

import pytest

from chappe_tenants.operators.service import OperatorRole, put_operator
from tests.browser.conftest import browser
from tests.pages.browser import PASSWORD, Visitor
from tests.pages.small_site import open_site
from tests.sign_in.conftest import site
from tests.sign_in.site import Site

__all__ = ["administrator", "browser", "site", "visitor"]


@pytest.fixture
async def administrator(site: Site) -> Visitor:
    """Signed in to the console, and allowed everything there."""
    email = f"ada-{secrets.token_hex(6)}@operator.example"
    async with site.database.operator() as session:
        await put_operator(session, email=email, password=PASSWORD, role=OperatorRole.ADMINISTRATOR)
    visitor = site.visitor()
    await visitor.console_sign_in(email)
    return visitor


@pytest.fixture
async def visitor() -> AsyncIterator[Visitor]:
    async with open_site() as opened:
        yield opened

"""The site of the sign-in tests, for what needs somebody who is signed in; the rest runs without a database."""

from collections.abc import AsyncIterator

import pytest

from tests.browser.conftest import browser
from tests.pages.browser import Visitor
from tests.pages.small_site import open_site
from tests.sign_in.conftest import quick_hashes, site

__all__ = ["browser", "quick_hashes", "site", "visitor"]


@pytest.fixture
async def visitor() -> AsyncIterator[Visitor]:
    async with open_site() as opened:
        yield opened

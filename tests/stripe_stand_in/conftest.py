"""One stand-in per test: they start within milliseconds, and none sees another's customers."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from stripe import StripeClient

from tests.stripe_server import LocalStripe, local_stripe


@pytest.fixture
async def stripe(tmp_path: Path) -> AsyncIterator[LocalStripe]:
    async with local_stripe(tmp_path) as running:
        yield running


@pytest.fixture
def client(stripe: LocalStripe) -> StripeClient:
    return stripe.client()

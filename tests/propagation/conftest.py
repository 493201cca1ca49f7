"""One control plane for all of these tests, as the portal's suite starts it, and four gateways beside it."""

from collections.abc import AsyncIterator

import pytest

from tests.portal.conftest import portal
from tests.portal.world import PortalWorld
from tests.propagation.world import Fleet, running_fleet

__all__ = ["fleet", "portal"]


@pytest.fixture(scope="package")
async def fleet(portal: PortalWorld, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Fleet]:
    """Two processes in each of two regions, with the production's own times."""
    async with running_fleet(portal, tmp_path_factory.mktemp("fleet")) as running:
        yield running

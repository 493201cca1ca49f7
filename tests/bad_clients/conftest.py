"""The gateway suite's world; the gateways are processes of the tests' own."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import quickest_folder
from tests.gateway.conftest import gateway_redis_url, world

__all__ = ["gateway_redis_url", "tmp_path", "world"]


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """Where the gateways' spools are. A disk that others write to makes an answer wait, and what is measured here is
    what bad clients cost."""
    with tempfile.TemporaryDirectory(prefix="chappe-bad-clients-", dir=quickest_folder()) as folder:
        yield Path(folder)

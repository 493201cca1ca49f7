"""One real instance for the whole journey: `chappe up --detach` with ports and state of its own, then `chappe down`.

Every process, model and database is the real one. The suite runs it last, since it is the heaviest.
"""

import os
import socket
from collections.abc import Iterator

import pytest

from tests.journey.instance import Instance

PORT_BASE = 18400


@pytest.fixture(scope="session")
def instance(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Instance]:
    _assert_free(PORT_BASE)
    state_dir = tmp_path_factory.mktemp("chappe")
    environ = {name: value for name, value in os.environ.items() if not name.startswith("CHAPPE_")}
    environ |= {"CHAPPE_STATE_DIR": str(state_dir), "CHAPPE_PORT_BASE": str(PORT_BASE)}
    # A killed gateway's money comes back at the release: sooner than by default, so that the suite need not wait long.
    environ |= {"CHAPPE_GRANT_ADMIT_S": "10", "CHAPPE_GRANT_SETTLE_S": "60", "CHAPPE_GRANT_RELEASE_S": "70"}
    running = Instance(state_dir, environ)
    try:
        running.up()
        yield running
    finally:
        running.chappe("down", check=False)


def _assert_free(port: int) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", port))

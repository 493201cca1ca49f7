"""The control plane's application to look at, whose routes nobody calls: it has no database."""

from litestar import Litestar

from chappe_control.app import create_app
from chappe_control.settings import ControlSettings
from tests.control.world import AUDIT_KEYS_TEXT, PEPPERS_TEXT


def app_without_services() -> Litestar:
    return create_app(
        ControlSettings(
            database_url="postgresql+asyncpg://x@/x",
            redis_url="unix:///x",
            key_peppers=PEPPERS_TEXT,
            audit_keys=AUDIT_KEYS_TEXT,
            port=0,
        )
    )

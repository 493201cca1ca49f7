"""The HTTP server around the application."""

import uvicorn

from chappe_control.app import create_app
from chappe_control.settings import ControlSettings
from chappe_kernel.clock import Clock

# Streams don't live here: every call ends soon.
_GRACE_S = 10
_KEEP_ALIVE_S = 30
_MAX_CONNECTIONS = 2000


def make_server(settings: ControlSettings, clock: Clock | None = None) -> uvicorn.Server:
    """uvloop and httptools; no access log, and nothing that a proxy's headers claim is believed."""
    config = uvicorn.Config(
        create_app(settings, clock),
        host=settings.host,
        port=settings.port,
        loop="uvloop",
        http="httptools",
        ws="none",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_graceful_shutdown=_GRACE_S,
        timeout_keep_alive=_KEEP_ALIVE_S,
        limit_concurrency=_MAX_CONNECTIONS,
    )
    return uvicorn.Server(config)

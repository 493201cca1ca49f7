"""`chappe gateway`."""

import gc
import os
import sys

import click

from chappe_gateway.edge.server import create_server
from chappe_gateway.gateway import Gateway
from chappe_gateway.settings import GatewaySettings
from chappe_kernel.errors import Invalid
from chappe_kernel.process import prepare_process
from chappe_kernel.settings import load_settings

_SWITCH_INTERVAL_S = 0.0005
_GC_ALLOCATIONS = 10_000


@click.command()
def gateway() -> None:
    """Run a region's gateway, as its environment says."""
    try:
        settings = load_settings(GatewaySettings, os.environ)
    except Invalid as error:
        raise click.ClickException(error.message) from error
    # The spool's thread must not wait long for the busy loop to let it run: every answer's end waits for its commit.
    sys.setswitchinterval(_SWITCH_INTERVAL_S)
    prepare_process(f"{settings.region}-gateway")
    try:
        server = create_server(Gateway(settings))
        server.config.load()
    except OSError as error:
        # `ssl.SSLError` is one.
        raise click.ClickException(f"a TLS certificate, its key or a CA's cannot be used: {error}") from error
    # What start-up made lives as long as the process: collecting it again and again stops every stream for a while.
    gc.collect()
    gc.freeze()
    gc.set_threshold(_GC_ALLOCATIONS)
    server.run()

"""Commands of serving."""

import asyncio
import os
import signal
from pathlib import Path

import aiohttp
import click

from chappe_kernel.clock import SystemClock
from chappe_kernel.process import prepare_process
from chappe_kernel.settings import load_settings
from chappe_serving.reconcile import Reconciler, ReconcilerSettings


@click.command()
def reconcile() -> None:
    """Drive a region's Ray Serve to the catalogue.

    Reads CHAPPE_REGION, CHAPPE_CONTROL_URL, CHAPPE_REGION_CREDENTIAL, CHAPPE_RAY_DASHBOARD_URL, CHAPPE_SERVING_HOST,
    CHAPPE_SERVING_PORT and RAY_AUTH_TOKEN_PATH.
    """
    prepare_process("reconciler")
    try:
        settings = load_settings(ReconcilerSettings, os.environ)
        token_path = Path(os.environ["RAY_AUTH_TOKEN_PATH"])
    except KeyError as error:
        raise click.ClickException("the environment lacks RAY_AUTH_TOKEN_PATH") from error
    asyncio.run(_run(settings, token_path))


async def _run(settings: ReconcilerSettings, token_path: Path) -> None:
    """Until SIGTERM or SIGINT."""
    async with aiohttp.ClientSession() as http:
        running = asyncio.ensure_future(Reconciler(settings, token_path, http, SystemClock()).run())
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, running.cancel)
        await asyncio.gather(running, return_exceptions=True)

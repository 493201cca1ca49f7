"""`chappe worker`."""

import asyncio
import os
import signal

import click
import uvloop

from chappe_control.settings import WorkerSettings
from chappe_control.worker import run_worker
from chappe_kernel.clock import SystemClock
from chappe_kernel.process import prepare_process
from chappe_kernel.settings import load_settings


@click.command()
def worker() -> None:
    """Do the control plane's work that nobody waits for: books, invoices, the feed, dunning, letters, webhooks.

    Any number of workers may run. Give `chappe control` CHAPPE_WORKS=false where one does.
    """
    prepare_process("worker")
    settings = load_settings(WorkerSettings, os.environ)
    os.nice(settings.niceness)
    uvloop.run(_run(settings))


async def _run(settings: WorkerSettings) -> None:
    over = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, over.set)
    await run_worker(settings, SystemClock(), over)

"""`chappe worker`."""

import asyncio
import os
import signal
from contextlib import suppress
from pathlib import Path

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
    _go_behind(settings.niceness)
    uvloop.run(_run(settings))


def _go_behind(niceness: int) -> None:
    """Pages win where processors are few. Linux may share them out by session first, and then compares niceness within
    a session alone: one that is ours as a whole, as under a supervisor, goes behind as a whole."""
    os.nice(niceness)
    if os.getsid(0) == os.getpid():
        with suppress(OSError):
            Path("/proc/self/autogroup").write_text(str(niceness))


async def _run(settings: WorkerSettings) -> None:
    over = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, over.set)
    await run_worker(settings, SystemClock(), over)

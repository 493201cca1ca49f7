"""`chappe control`. Apart from the other commands, which need not wait until all of the pages are imported."""

import gc
import os

import click

from chappe_control.server import make_server
from chappe_control.settings import ControlSettings
from chappe_kernel.process import prepare_process
from chappe_kernel.settings import load_settings

# What pages leave behind, collected often and little at a time: 20,000 objects at once hold up a page for 20 to 50 ms.
_GC_ALLOCATIONS = 1_000


@click.command()
def control() -> None:
    """Run the control plane."""
    prepare_process("control")
    settings = load_settings(ControlSettings, os.environ)
    server = make_server(settings)
    # What start-up made lives as long as the process: collecting it again and again holds up every page for a while.
    gc.collect()
    gc.freeze()
    gc.set_threshold(_GC_ALLOCATIONS)
    server.run()

"""Logging as in production, for as long as a test looks at what is logged."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import structlog

from chappe_kernel.process import prepare_process


@contextmanager
def logging_as_in_production() -> Iterator[None]:
    """Onto standard error; afterwards as before, for tests that run in this process later."""
    config, root = structlog.get_config(), logging.getLogger()
    handlers, level = root.handlers[:], root.level
    prepare_process("test")
    # A logger that keeps what it was configured with would go on writing to a standard error that is gone.
    structlog.configure(cache_logger_on_first_use=False)
    try:
        yield
    finally:
        structlog.configure(**config)
        structlog.contextvars.clear_contextvars()
        root.handlers[:], root.level = handlers, level

"""The system's Chromium, under Playwright's hands."""

import os
import shutil
from collections.abc import Mapping
from typing import NoReturn

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome")
HOW_TO_INSTALL = "apt-get install chromium fonts-liberation"
ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    # Text is laid out alike on every machine, whatever its hinting settings.
    "--font-render-hinting=none",
)


def find_chromium() -> str | None:
    """The path of the first one that is installed."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


def require_chromium() -> str:
    """Its path. Without one the test is skipped, and in CI it fails: nobody reads the skips there."""
    path = find_chromium()
    if path is None:
        give_up(f"Chromium is missing: {HOW_TO_INSTALL}", os.environ)
    return path


def give_up(reason: str, environ: Mapping[str, str]) -> NoReturn:
    """A failure in CI, else a skip that says why."""
    if environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)

"""How many bytes the first visit to a page takes over the wire."""

from collections import Counter
from typing import Any
from urllib.parse import urlsplit

from playwright.async_api import Page

MOST_BYTES = 150_000


async def first_load_bytes(page: Page, url: str) -> Counter[str]:
    """Encoded bytes with headers by path, with an empty cache, until the page has been silent for half a second."""
    session = await page.context.new_cdp_session(page)
    paths: dict[str, str] = {}
    sizes: Counter[str] = Counter()

    def requested(event: dict[str, Any]) -> None:
        paths[event["requestId"]] = urlsplit(event["request"]["url"]).path

    def finished(event: dict[str, Any]) -> None:
        # What the page before had asked for may still come in.
        if event["requestId"] in paths:
            sizes[paths[event["requestId"]]] += int(event["encodedDataLength"])

    session.on("Network.requestWillBeSent", requested)
    session.on("Network.loadingFinished", finished)
    await session.send("Network.enable")
    await session.send("Network.clearBrowserCache")
    await page.goto(url, wait_until="networkidle")
    await session.detach()
    return sizes

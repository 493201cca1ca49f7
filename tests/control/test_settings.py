"""The portal has one address, in the form in which browsers say it."""

import pytest

from chappe_control.settings import ControlSettings
from chappe_kernel.errors import Invalid
from chappe_kernel.settings import load_settings

ENVIRON = {
    "CHAPPE_DATABASE_URL": "postgresql+asyncpg:///x",
    "CHAPPE_REDIS_URL": "redis:///",
    "CHAPPE_KEY_PEPPERS": "x",
    "CHAPPE_AUDIT_KEYS": "x",
    "CHAPPE_PORT": "8400",
}


def test_it_is_localhost_by_default() -> None:
    assert load_settings(ControlSettings, ENVIRON).portal_url == "http://localhost:8400"


@pytest.mark.parametrize("url", ["https://portal.example", "http://localhost:9400", "https://ai.portal.example:8443"])
def test_an_origin_is_taken_as_it_is(url: str) -> None:
    assert load_settings(ControlSettings, ENVIRON | {"CHAPPE_PORTAL_URL": url}).portal_url == url


@pytest.mark.parametrize(
    "url",
    [
        "portal.example",
        "https://",
        "https://portal.example/",
        "https://portal.example/app",
        "https://portal.example?x",
        "https://Portal.example",
        "https://portal.example:443",
        "http://portal.example:80",
        "https://me@portal.example",
        "https://portal.example:x",
        "ftp://portal.example",
        "javascript:alert(1)",
    ],
)
def test_what_no_browser_sends_as_an_origin_stops_the_start(url: str) -> None:
    with pytest.raises(Invalid) as caught:
        load_settings(ControlSettings, ENVIRON | {"CHAPPE_PORTAL_URL": url})
    assert "CHAPPE_PORTAL_URL" in caught.value.message

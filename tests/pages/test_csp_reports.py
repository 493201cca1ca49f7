"""Reports are counted, and the log holds neither a query nor more than a few lines a minute."""

import json
from typing import Any

import pytest
from structlog.testing import capture_logs

from chappe_control.pages.csp_reports import CspReports, parse_report
from tests.pages.browser import Visitor

REPORT = {
    "csp-report": {
        "document-uri": "http://localhost:8400/requests?cursor=secret#secret",
        "effective-directive": "connect-src",
        "blocked-uri": "https://evil.example/secret?a=secret",
        "script-sample": "secret",
    }
}


async def _send(visitor: Visitor, body: bytes) -> int:
    headers = {"content-type": "application/csp-report", "origin": visitor.portal_url}
    return (await visitor.request("POST", "/csp-report", headers=headers, content=body)).status_code


async def test_report_needs_no_token_and_is_logged_without_content(visitor: Visitor) -> None:
    with capture_logs() as lines:
        assert await _send(visitor, json.dumps(REPORT).encode()) == 204
    (line,) = lines
    assert (line["directive"], line["blocked"], line["path"]) == ("connect-src", "https://evil.example", "/requests")
    assert "secret" not in str(lines)


async def test_report_over_the_limit_is_refused(visitor: Visitor) -> None:
    assert await _send(visitor, b" " * 70_000) == 413


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b"{", b"[]", b"1", b"\xff", b'{"csp-report": 1}'),
        b'{"csp-report": {"blocked-uri": "http://[", "document-uri": []}}',
    ],
)
async def test_what_is_no_report_harms_nothing(visitor: Visitor, body: bytes) -> None:
    assert await _send(visitor, body) == 204


@pytest.mark.parametrize(
    ("blocked", "origin"),
    [("inline", "inline"), ("data", "data"), ("eval", "eval"), ("data:text/html,secret", "data")],
)
def test_what_was_blocked_is_an_origin_or_a_kind(blocked: str, origin: str) -> None:
    report: dict[str, Any] = {"csp-report": {"blocked-uri": blocked, "violated-directive": "x" * 500}}
    directive, found, _ = parse_report(json.dumps(report).encode())
    assert found == origin
    assert len(directive) == 100


def test_a_flood_is_counted_and_logged_in_part() -> None:
    reports = CspReports()
    with capture_logs() as lines:
        for _ in range(500):
            reports.note("script-src", "inline", "/", minute=1)
        reports.note("script-src", "inline", "/", minute=2)
    assert (reports.received, len(lines)) == (501, 21)

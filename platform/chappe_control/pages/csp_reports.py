"""Reports of what the content policy kept a page from doing. None is expected, so each is worth a line in the log."""

import time
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import msgspec
import structlog
from litestar import Request, post

from chappe_control.pages.security import CSP_REPORT_PATH

_MAX_LINES_PER_MINUTE = 20
_MAX_CHARACTERS = 100
_log = structlog.get_logger()


@dataclass
class CspReports:
    """How many came since the start; anybody can send them, so only some of a minute's are logged."""

    received: int = 0
    _minute: int = field(default=-1, repr=False)
    _logged: int = field(default=0, repr=False)

    def note(self, directive: str, blocked: str, path: str, minute: int) -> None:
        self.received += 1
        if minute != self._minute:
            self._minute, self._logged = minute, 0
        if self._logged < _MAX_LINES_PER_MINUTE:
            self._logged += 1
            _log.warning("content_policy_violated", directive=directive, blocked=blocked, path=path)


@post(CSP_REPORT_PATH, include_in_schema=False, status_code=204)
async def take_report(request: Request[Any, Any, Any]) -> None:
    """Never logs what a page or an address holds: the directive, the origin and the path alone."""
    reports: CspReports = request.app.state["csp_reports"]
    directive, blocked, path = parse_report(await request.body())
    reports.note(directive, blocked, path, int(time.monotonic() // 60))


def parse_report(body: bytes) -> tuple[str, str, str]:
    """Directive, blocked origin and page's path; empty where the body is not a report."""
    try:
        found = msgspec.json.decode(body)
    except msgspec.MsgspecError:
        return "", "", ""
    report = found.get("csp-report") if isinstance(found, dict) else None
    if not isinstance(report, dict):
        return "", "", ""
    directive = str(report.get("effective-directive") or report.get("violated-directive") or "")
    return (
        directive[:_MAX_CHARACTERS],
        _origin(str(report.get("blocked-uri") or "")),
        _path(str(report.get("document-uri") or "")),
    )


def _origin(url: str) -> str:
    try:
        parts = urlsplit(url)
    except ValueError:
        return ""
    return (f"{parts.scheme}://{parts.netloc}" if parts.netloc else parts.scheme or parts.path)[:_MAX_CHARACTERS]


def _path(url: str) -> str:
    try:
        return urlsplit(url).path[:_MAX_CHARACTERS]
    except ValueError:
        return ""

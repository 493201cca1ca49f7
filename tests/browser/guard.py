"""What must never happen on a page, whatever the test is about."""

from collections.abc import Collection
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from playwright.async_api import BrowserContext, ConsoleMessage, Page, Request, Response

_WEB = {"http", "https", "ws", "wss"}
_REPORT_PATH = "/csp-report"
_BINDING = "chappeViolation"
_LISTENER = f"""
document.addEventListener("securitypolicyviolation", (event) => {{
    const where = [event.blockedURI, event.sourceFile, event.sample].filter(Boolean).join(" ");
    window.{_BINDING}(`${{event.effectiveDirective}} blocked ${{where}}`);
}});
"""
_REFUSED_PREFIX = "Failed to load resource: the server responded with a status of "
_NOT_WANTED_ANY_MORE = "net::ERR_ABORTED"
"""A page that is left, or that changes its mind, gives up what it was loading. That is no fault of anybody's."""


@dataclass
class Guard:
    """Watches one context and keeps what was wrong. `problems` must be empty at the end of the test."""

    origins: Collection[str]
    """The portal's and the gateways': nothing else may be asked for anything."""
    problems: list[str] = field(default_factory=list)
    _expected: set[tuple[int, str]] = field(default_factory=set)

    async def watch(self, context: BrowserContext) -> None:
        await context.expose_binding(_BINDING, self._violated)
        await context.add_init_script(_LISTENER)
        context.on("request", self._requested)
        context.on("requestfailed", self._failed)
        context.on("response", self._answered)
        context.on("console", self._said)
        context.on("weberror", lambda event: self._note(event.page, f"page error: {event.error}"))

    def expect(self, status: int, path: str) -> None:
        """From now on this answer is what the test is about."""
        self._expected.add((status, path))

    def check(self) -> None:
        assert not self.problems, "\n".join(self.problems)

    def _violated(self, source: dict[str, Page], description: str) -> None:
        self._note(source["page"], f"content security policy: {description}")

    def _requested(self, request: Request) -> None:
        url = urlsplit(request.url)
        if url.scheme in _WEB and f"{url.scheme}://{url.netloc}" not in self.origins:
            self.problems.append(f"request to another origin: {request.method} {request.url}")
        if url.path == _REPORT_PATH:
            self.problems.append(f"content security policy report: {request.post_data}")

    def _failed(self, request: Request) -> None:
        if request.failure != _NOT_WANTED_ANY_MORE:
            self.problems.append(f"failed: {request.method} {request.url}: {request.failure}")

    def _answered(self, response: Response) -> None:
        if response.status >= 400 and (response.status, urlsplit(response.url).path) not in self._expected:
            self.problems.append(f"answer {response.status}: {response.request.method} {response.url}")

    def _said(self, message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"} and not self._is_expected(message):
            self._note(message.page, f"console {message.type}: {message.text}")

    def _is_expected(self, message: ConsoleMessage) -> bool:
        """Chromium repeats every answer of 400 and more on the console."""
        path = urlsplit(message.location["url"]).path
        return any(
            message.text.startswith(f"{_REFUSED_PREFIX}{status} ") and path == expected
            for status, expected in self._expected
        )

    def _note(self, page: Page | None, problem: str) -> None:
        where = urlsplit(page.url).path if page is not None else "?"
        self.problems.append(f"{where}: {problem}")

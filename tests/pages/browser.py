"""A browser for tests without one: cookies with `__Host-` names, tokens in forms, the headers that browsers send.

It goes to `portal_url` in name (`Host`, `Origin`) and to the client's own address in fact. httpx's jar is not used: it
never returns `__Host-` cookies over plain HTTP.
"""

import secrets
from collections.abc import Mapping
from http.cookies import SimpleCookie
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import httpx

from tests import letters

PORTAL_URL = "http://localhost:8400"
"""What suites that listen on a free port give as `ControlSettings.portal_url`."""

PASSWORD = "tidal lantern mosaic 42"
CSRF_COOKIE = "__Host-chappe-csrf"
_MAX_REDIRECTS = 5


class Visitor:
    """One browser with cookies of its own. Redirects are not followed, except by `open`."""

    def __init__(self, http: httpx.AsyncClient, portal_url: str = PORTAL_URL, *, language: str = "en") -> None:
        self._http = http
        self.portal_url = portal_url
        self.language = language
        self.cookies: dict[str, str] = {}

    async def get(self, path: str, **headers: str) -> httpx.Response:
        """As if somebody followed a link on one of our pages. Further headers: `hx_request="true"`."""
        sent = {"sec-fetch-site": "same-origin", "sec-fetch-mode": "navigate", "accept": "text/html"}
        return await self.request("GET", path, headers=sent | _header_names(headers))

    async def live(self, path: str, page: str) -> httpx.Response:
        """As htmx fetches a fragment of the page at `page`."""
        return await self.get(path, hx_request="true", hx_current_url=self.portal_url + page, sec_fetch_mode="cors")

    async def open(self, path: str) -> httpx.Response:
        """The page at the end of the redirects."""
        answer = await self.get(path)
        for _ in range(_MAX_REDIRECTS):
            if not answer.is_redirect:
                return answer
            answer = await self.get(answer.headers["location"].removeprefix(self.portal_url))
        raise AssertionError(f"{path} redirects without end")

    async def post(self, path: str, **fields: str) -> httpx.Response:
        """As if somebody submitted a form of ours."""
        return await self.request(
            "POST",
            path,
            headers={"origin": self.portal_url, "sec-fetch-site": "same-origin", "sec-fetch-mode": "navigate"},
            data={"_csrf_token": await self.csrf_token(), **fields},
        )

    async def post_json(self, path: str, body: Any = None) -> httpx.Response:
        """As a script on one of our pages calls it."""
        headers = {
            "origin": self.portal_url,
            "sec-fetch-site": "same-origin",
            "sec-fetch-mode": "cors",
            "accept": "application/json",
            "x-csrftoken": await self.csrf_token(),
        }
        return await self.request("POST", path, headers=headers, json=body)

    async def csrf_token(self) -> str:
        """The token of this browser's forms; the first page that it opens sets it."""
        if CSRF_COOKIE not in self.cookies:
            await self.get("/sign-in")
        return self.cookies[CSRF_COOKIE]

    async def request(
        self, method: str, path: str, *, headers: Mapping[str, str | bytes], **rest: Any
    ) -> httpx.Response:
        """Exactly these headers, this browser's cookies, language and host."""
        said: dict[str, str | bytes] = {
            "host": urlsplit(self.portal_url).netloc,
            "accept-language": self.language,
            **(
                {"cookie": "; ".join(f"{name}={value}" for name, value in self.cookies.items())} if self.cookies else {}
            ),
            **headers,
        }
        # As bytes: a test may send what is not ASCII.
        sent = [(name.encode(), value if isinstance(value, bytes) else value.encode()) for name, value in said.items()]
        answer = await self._http.request(method, path, headers=sent, follow_redirects=False, **rest)
        self._http.cookies.clear()
        for line in answer.headers.get_list("set-cookie"):
            for name, morsel in SimpleCookie(line).items():
                if morsel["max-age"] == "0":
                    self.cookies.pop(name, None)
                else:
                    self.cookies[name] = morsel.value
        return answer

    async def sign_up(self, organisation: str = "Test GmbH", email: str | None = None, password: str = PASSWORD) -> str:
        """A new organisation, signed in, by the link in the letter. Returns its owner's address."""
        email = email or f"mia-{secrets.token_hex(6)}@example.eu"
        path = await self.ask_for_link("/sign-up", email, organisation=organisation)
        answer = await self.post("/sign-up/confirm", link=link_secret(path), password=password)
        assert answer.status_code == 303, answer.text
        return email

    async def ask_for_link(self, path: str, email: str, **fields: str) -> str:
        """Asks with the form at `path`, and reads the mail: the path and query of the link in the letter that came."""
        known = len(letters.letters_to(email))
        answer = await self.post(path, email=email, **fields)
        assert answer.status_code == 200, answer.text
        link = letters.link_in(await letters.letter_to(email, after=known))
        assert link.startswith(f"{self.portal_url}/"), link
        return link.removeprefix(self.portal_url)

    async def sign_in(self, email: str, password: str = PASSWORD) -> None:
        answer = await self.post("/sign-in", email=email, password=password)
        assert answer.status_code == 303, answer.text

    async def console_sign_in(self, email: str, password: str = PASSWORD) -> None:
        answer = await self.post("/console/sign-in", email=email, password=password)
        assert answer.status_code == 303, answer.text


def link_secret(path: str) -> str:
    """What a link of ours holds in its query."""
    ((_, secret),) = parse_qsl(urlsplit(path).query)
    return secret


def _header_names(keywords: dict[str, str]) -> dict[str, str]:
    return {name.replace("_", "-"): value for name, value in keywords.items()}

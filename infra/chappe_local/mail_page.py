"""The page that shows caught letters, and the same for programs.

Whoever opens a letter here may follow its links. So it answers under the loopback's names alone: a page from elsewhere
that points its own name at this machine gets nothing.
"""

from functools import cache
from typing import Any, Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from litestar import Litestar, MediaType, Request, Response, get
from litestar.exceptions import NotFoundException, PermissionDeniedException
from litestar.params import FromPath, FromQuery
from msgspec import Struct

from chappe_local.mail_folder import KeptLetter, MailFolder

_MOST_LISTED: Final = 100
_NAMES: Final = frozenset({"localhost", "127.0.0.1"})
_HEADERS: Final = {
    "content-security-policy": "default-src 'none'; style-src 'self'; frame-src 'self'; frame-ancestors 'none'",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
    "x-content-type-options": "nosniff",
}
# A letter's HTML may be looked at, and open its links in a tab of their own. It may run and fetch nothing.
_LETTER_HEADERS: Final = _HEADERS | {
    "content-security-policy": (
        "sandbox allow-popups allow-popups-to-escape-sandbox; default-src 'none'; style-src 'unsafe-inline'; "
        "frame-ancestors 'self'"
    )
}
_STYLE: Final = """
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif; }
body { max-width: 60rem; margin: 0 auto; padding: 1.5rem 1rem; }
table { width: 100%; border-collapse: collapse; }
th, td { padding: .5rem .75rem .5rem 0; border-bottom: 1px solid color-mix(in srgb, currentColor 20%, transparent);
    text-align: left; vertical-align: top; overflow-wrap: anywhere; }
pre { white-space: pre-wrap; overflow-wrap: anywhere; font: inherit; }
iframe { width: 100%; height: 32rem; border: 1px solid color-mix(in srgb, currentColor 20%, transparent);
    background: Canvas; }
"""


class LetterView(Struct, frozen=True):
    """For programs."""

    id: str
    received_at: str
    to: tuple[str, ...]
    subject: str
    text: str
    links: list[str]
    attachments: list[str]
    """Their names: `/letters/{id}/attachments/0` is the first."""


def make_page(folder: MailFolder) -> Litestar:
    """The application that shows the letters of `folder`."""

    @get("/")
    async def show_all() -> Response[str]:
        letters = [letter for letter, _ in zip(folder.newest_first(), range(_MOST_LISTED), strict=False)]
        return _html("list", letters=letters)

    @get("/letters/{name:str}")
    async def show(name: FromPath[str]) -> Response[str]:
        return _html("letter", letter=_find(folder, name))

    @get("/letters/{name:str}/html")
    async def show_html(name: FromPath[str]) -> Response[str]:
        return Response(_find(folder, name).html, media_type=MediaType.HTML, headers=_LETTER_HEADERS)

    @get("/letters/{name:str}/attachments/{number:int}")
    async def download(name: FromPath[str], number: FromPath[int]) -> Response[bytes]:
        """Whatever it says it is, it is a file to keep and nothing to show."""
        found = _find(folder, name).attachments
        if not 0 <= number < len(found):
            raise NotFoundException
        return Response(
            found[number].content,
            media_type="application/octet-stream",
            headers=_HEADERS | {"content-disposition": f'attachment; filename="{_plain(found[number].name)}"'},
        )

    @get("/api/letters")
    async def list_letters(to: FromQuery[str | None] = None) -> list[LetterView]:
        """Newest first; `to` is one recipient's address."""
        return [_view(letter) for letter, _ in zip(folder.newest_first(to), range(_MOST_LISTED), strict=False)]

    @get("/style.css")
    async def style() -> Response[str]:
        return Response(_STYLE, media_type="text/css", headers=_HEADERS)

    return Litestar(
        [show_all, show, show_html, download, list_letters, style],
        before_request=_refuse_other_names,
        openapi_config=None,
        logging_config=None,
    )


def _refuse_other_names(request: Request[Any, Any, Any]) -> None:
    hosts = request.headers.getall("host", [])
    if len(hosts) != 1 or hosts[0].partition(":")[0] not in _NAMES:
        raise PermissionDeniedException


def _view(letter: KeptLetter) -> LetterView:
    return LetterView(
        letter.name,
        letter.received_at.isoformat(),
        letter.recipients,
        letter.subject,
        letter.text,
        letter.links,
        [one.name for one in letter.attachments],
    )


def _plain(name: str) -> str:
    """A file's name that is ASCII, and no path."""
    return "".join(each if each.isascii() and (each.isalnum() or each in "-_.") else "-" for each in name)


def _find(folder: MailFolder, name: str) -> KeptLetter:
    letter = folder.find(name)
    if letter is None:
        raise NotFoundException
    return letter


def _html(page: str, **values: Any) -> Response[str]:
    text = _environment().get_template("mail_page.html").render(page=page, **values)
    return Response(text, media_type=MediaType.HTML, headers=_HEADERS)


@cache
def _environment() -> Environment:
    return Environment(loader=FileSystemLoader(__file__.rpartition("/")[0]), autoescape=True, undefined=StrictUndefined)

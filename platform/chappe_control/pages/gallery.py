"""Every component in every state on one page, for whoever builds pages and for the tests that look at them."""

from datetime import UTC, datetime, timedelta
from typing import Any

from litestar import Request, Response, get

from chappe_control.console.rendering import about_role
from chappe_control.pages.render import fragment, page
from chappe_control.permissions import Permission
from chappe_control.portal.acknowledgement import Acknowledgement, Follower

_START = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
_MINUTES = 48
_SNIPPET = """\
from openai import OpenAI

client = OpenAI(base_url="https://fr-par.example/v1", api_key="ck_i…")
answer = client.chat.completions.create(
    model="smollm2-135m-instruct",
    messages=[{"role": "user", "content": "Who was Claude Chappe?"}],
)
print(answer.choices[0].message.content)
"""
_CURL = """\
curl https://fr-par.example/v1/chat/completions \\
  -H "authorization: Bearer ck_i…" \\
  -H "content-type: application/json" \\
  -d '{"model": "smollm2-135m-instruct", "messages": [{"role": "user", "content": "Who was Claude Chappe?"}]}'
"""
_FOLLOWERS = tuple(Follower(region, gateway) for region in ("fr-par", "de-fra") for gateway in ("gw-0", "gw-1"))


@get("/gallery", permission=Permission.SEE_GALLERY)
async def show_gallery(request: Request[Any, Any, Any]) -> Response[bytes]:
    return page(request, "gallery/gallery.html", **about_role(request), **gallery_values())


@get("/gallery/live", permission=Permission.SEE_GALLERY)
async def show_gallery_live(request: Request[Any, Any, Any]) -> Response[bytes]:
    return fragment(request, "gallery/live.html", **gallery_values())


def gallery_values() -> dict[str, Any]:
    """What the templates of the gallery show."""
    now = datetime.now(UTC)
    return {
        "now": now,
        "earlier": now - timedelta(minutes=3),
        "moment": _START,
        "area_rows": [(_START + timedelta(minutes=minute), *_wave(minute)) for minute in range(_MINUTES)],
        "bar_rows": [("fr-par", 1840, 620), ("de-fra", 1210, 940), ("it-mil", 310, None)],
        "snippets": [("curl", "shell", _CURL), ("Python", "python", _SNIPPET)],
        "snippet": _SNIPPET,
        "acknowledgements": [
            Acknowledgement(()),
            Acknowledgement(_FOLLOWERS, now - timedelta(minutes=3)),
            Acknowledgement((Follower("de-fra", "gw-2", in_force=False), *_FOLLOWERS), now, now + timedelta(minutes=5)),
        ],
    }


def _wave(minute: int) -> tuple[int, int]:
    """Two series that look like traffic and are the same each time."""
    return 120 + (minute * 37) % 61 + minute * 2, 60 + (minute * 53) % 41

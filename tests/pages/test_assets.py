"""Built files are served as they were built, for good, and nothing else is."""

import gzip
import re
from pathlib import Path

import brotli
import httpx
import pytest

from chappe_control.pages import assets
from chappe_control.pages.assets import AssetsMissing, choose_coding, load_assets
from tests.pages.browser import Visitor

WEB = Path(assets.__file__).resolve().parents[1] / "web"


async def _get(visitor: Visitor, path: str, accept_encoding: str = "") -> httpx.Response:
    return await visitor.request("GET", path, headers={"accept-encoding": accept_encoding})


async def test_every_file_of_the_manifest_is_served_for_good(visitor: Visitor) -> None:
    for name, asset in load_assets().files.items():
        answer = await _get(visitor, f"/static/{name}")
        assert answer.status_code == 200
        assert answer.content == asset.codings["identity"]
        assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
        assert answer.headers["content-type"].partition(";")[0] == asset.media_type
        assert re.search(r"-[\w-]{8}\.", name), "a name must change with its content"


@pytest.mark.parametrize(("accepted", "coding"), [("br, gzip", "br"), ("gzip", "gzip"), ("deflate", None), ("", None)])
async def test_coding_is_one_that_the_client_takes(visitor: Visitor, accepted: str, coding: str | None) -> None:
    path = load_assets().script("src/main.ts")
    async with visitor._http.stream(
        "GET", path, headers={"accept-encoding": accepted, "host": "localhost:8400"}
    ) as answer:
        raw = b"".join([chunk async for chunk in answer.aiter_raw()])
    assert answer.headers.get("content-encoding") == coding
    assert answer.headers["vary"] == "accept-encoding"
    plain = {"br": brotli.decompress, "gzip": gzip.decompress, None: bytes}[coding](raw)
    assert plain == load_assets().files[path.removeprefix("/static/")].codings["identity"]


def test_a_weight_of_zero_forbids_a_coding() -> None:
    available = {"br": b"", "gzip": b""}
    assert choose_coding("br;q=0, gzip;q=0.5", available) == "gzip"
    assert choose_coding("BR ; q=1.0", available) == "br"
    assert choose_coding("br; q=0.000", available) == "identity"
    assert choose_coding("*", available) == "identity"


@pytest.mark.parametrize(
    "path", ["manifest.json", "sources", "nothing.js", "..%2fapp.py", "%2e%2e/app.py", "main.ts", "é", "%00"]
)
async def test_nothing_else_is_served(visitor: Visitor, path: str) -> None:
    assert (await _get(visitor, f"/static/{path}")).status_code == 404


def test_missing_assets_are_said_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(AssetsMissing, match="make web"):
        load_assets(tmp_path)


def test_scripts_evaluate_no_text_and_styles_load_nothing_from_elsewhere() -> None:
    for name, asset in load_assets().files.items():
        text = asset.codings["identity"].decode("utf-8", "replace")
        if name.endswith(".js"):
            assert not re.search(r"(?<![\w.$])eval\(", text), name
        if name.endswith(".css"):
            assert not re.search(r"url\(['\"]?(?!/static/|data:|['\"]?data:)", text), name
            assert "@import" not in text


def test_first_load_of_every_page_stays_small() -> None:
    """Scripts, styles and the font together; a page's own HTML comes on top, and charts load later."""
    built = load_assets()
    first = [built.script("src/main.ts"), *built.styles("src/main.ts"), *built.preloads("src/main.ts"), built.font]
    files = [built.files[url.removeprefix("/static/")] for url in first]
    assert sum(len(file.codings.get("br", file.codings["identity"])) for file in files) < 105_000


def test_lock_names_no_registry() -> None:
    lock = (WEB / "package-lock.json").read_text()
    assert '"resolved"' not in lock
    assert lock.count('"integrity"') > 20
    assert "omit-lockfile-registry-resolved=true" in (WEB / ".npmrc").read_text()

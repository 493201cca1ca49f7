"""The built scripts, styles and pictures: read once, served from memory under names that change with their content."""

import gzip
import mimetypes
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import brotli
import msgspec
from litestar import Request, Response, get
from litestar.params import FromPath

from chappe_kernel.errors import NotFound

STATIC_FOLDER = Path(__file__).resolve().parents[1] / "static"
URL_PREFIX = "/static/"
_FOREVER = "public, max-age=31536000, immutable"
_MANIFEST = "manifest.json"


class AssetsMissing(Exception):
    """The web sources were not built; the message says what to do."""


@dataclass(frozen=True)
class Asset:
    """One file, and what it is under each content coding."""

    media_type: str
    codings: dict[str, bytes]


class Chunk(msgspec.Struct, frozen=True):
    """One entry of Vite's manifest."""

    file: str
    css: tuple[str, ...] = ()
    imports: tuple[str, ...] = ()


@dataclass(frozen=True)
class Assets:
    """All files by name, and the manifest that says which belong to an entry such as `src/main.ts`."""

    files: dict[str, Asset]
    manifest: dict[str, Chunk]

    def script(self, entry: str) -> str:
        return URL_PREFIX + self.manifest[entry].file

    def url(self, source: str) -> str:
        """The address of a file that is copied as it is, by its path below `src/assets/`."""
        return URL_PREFIX + self.manifest[f"src/assets/{source}"].file

    @property
    def font(self) -> str:
        return next(URL_PREFIX + name for name in self.files if name.endswith(".woff2"))

    def styles(self, entry: str) -> list[str]:
        """The entry's own styles and those of what it imports at once."""
        return [URL_PREFIX + name for name in dict.fromkeys(self._styles(entry))]

    def preloads(self, entry: str) -> list[str]:
        """Scripts that the entry imports at once, so that the browser asks for them in time."""
        return [URL_PREFIX + self.manifest[name].file for name in self.manifest[entry].imports]

    def _styles(self, entry: str) -> Iterator[str]:
        chunk = self.manifest[entry]
        for name in chunk.imports:
            yield from self._styles(name)
        yield from chunk.css


def load_assets(folder: Path = STATIC_FOLDER) -> Assets:
    """Raises `AssetsMissing` when they were not built."""
    try:
        manifest = msgspec.json.decode((folder / _MANIFEST).read_bytes(), type=dict[str, Chunk])
    except FileNotFoundError:
        raise AssetsMissing("the web's assets are not built: run `make web`") from None
    names = {name for chunk in manifest.values() for name in (chunk.file, *chunk.css)}
    names |= {path.name for path in folder.iterdir() if path.suffix in {".svg", ".woff2"}}
    return Assets({name: _load(folder / name) for name in sorted(names)}, manifest)


def choose_coding(accept_encoding: str, available: dict[str, bytes]) -> str:
    """The smallest coding that the client takes: `br`, `gzip` or `identity`. A weight of 0 forbids one."""
    offers = {}
    for offer in accept_encoding.lower().split(","):
        name, _, weight = offer.partition(";")
        offers[name.strip()] = weight.replace(" ", "") not in {"q=0", "q=0.0", "q=0.00", "q=0.000"}
    return next((coding for coding in ("br", "gzip") if coding in available and offers.get(coding)), "identity")


@get("/static/{name:str}", include_in_schema=False)
async def serve_asset(request: Request[Any, Any, Any], name: FromPath[str]) -> Response[bytes]:
    assets: Assets = request.app.state["pages"].assets
    asset = assets.files.get(name)
    if asset is None:
        raise NotFound("no such asset")
    coding = choose_coding(request.headers.get("accept-encoding", ""), asset.codings)
    headers = {"cache-control": _FOREVER, "vary": "accept-encoding"}
    if coding != "identity":
        headers["content-encoding"] = coding
    return Response(asset.codings[coding], media_type=asset.media_type, headers=headers)


def _load(path: Path) -> Asset:
    content = path.read_bytes()
    media_type = {".js": "text/javascript", ".woff2": "font/woff2"}.get(path.suffix)
    media_type = media_type or mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    codings = {"identity": content}
    if path.suffix != ".woff2":
        codings["br"] = _compressed(path, ".br") or brotli.compress(content)
        codings["gzip"] = _compressed(path, ".gz") or gzip.compress(content)
    return Asset(media_type, codings)


def _compressed(path: Path, suffix: str) -> bytes | None:
    file = path.with_name(path.name + suffix)
    return file.read_bytes() if file.exists() else None

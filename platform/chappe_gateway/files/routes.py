"""What stands at and below `/v1/files`."""

import contextlib
from typing import NamedTuple

import msgspec

from chappe_gateway.content.asking import expect_no_repeat_key, find_name, kept_for, no_such, owner_of, visit
from chappe_gateway.content.listing import read_after, read_page, show_page
from chappe_gateway.content.objects import Kind, Name, Page, Stored
from chappe_gateway.content.store import PIECE_BYTES, ContentStore
from chappe_gateway.edge.call import Call
from chappe_gateway.edge.errors import WrongMethod, unknown_path
from chappe_gateway.files.form import Form, read_boundary, read_form
from chappe_gateway.files.lines import LineSplitter, check_line
from chappe_gateway.files.model import FileHead, FileObject, show_file
from chappe_gateway.gateway import Gateway
from chappe_kernel.errors import ChappeError, Invalid, TooLarge, Unavailable
from chappe_kernel.ids import new_id

PATH = "/v1/files"
_PURPOSES = ("batch",)
_FORM_BYTES = 64 * 1024
_MAX_PAGE = 10_000
_MIN_EXPIRY_S, _MAX_EXPIRY_S = 3600, 2_592_000
_ANCHOR, _SECONDS = "expires_after[anchor]", "expires_after[seconds]"


async def serve_files(gateway: Gateway, call: Call) -> None:
    """Raises what the client is to be told."""
    if not call.path.startswith("/"):
        # The router's mount also takes `/v1/filesx`.
        raise unknown_path()
    match call.path.strip("/").split("/"):
        case [""] if call.method == "GET":
            await _list(gateway, call)
        case [""]:
            await _upload(gateway, call)
        case [file_id] if call.method == "DELETE":
            await _delete(gateway, call, file_id)
        case [file_id]:
            await _show(gateway, call, file_id)
        case [file_id, "content"]:
            await _give_content(gateway, call, file_id)
        case _:
            raise unknown_path()


async def _list(gateway: Gateway, call: Call) -> None:
    asked = read_page(call.query, ("limit", "order", "after", "purpose"), max_limit=_MAX_PAGE)
    visitor = await visit(gateway, call, PATH)
    region = gateway.settings.region
    after = read_after(Kind.FILE, asked, region)
    size = asked.limit + 1 if asked.purpose is None else _MAX_PAGE
    found: list[FileObject] = []
    while len(found) <= asked.limit:
        # Those of other purposes take no place in the page, and hide none behind them.
        stored = await gateway.content.page(owner_of(visitor), Kind.FILE, Page(size, after, asked.newest_first))
        shown = [show_file(one, region) for one in stored]
        found += [file for file in shown if asked.purpose in (None, file.purpose)]
        if len(stored) < size:
            break
        after = stored[-1].id
    await call.respond(200, [], show_page(found[: asked.limit + 1], asked.limit))


async def _show(gateway: Gateway, call: Call, file_id: str) -> None:
    if call.method != "GET":
        raise WrongMethod("GET, DELETE")
    stored = await _find(gateway, call, file_id)
    await call.respond(200, [], msgspec.json.encode(show_file(stored, gateway.settings.region)))


async def _delete(gateway: Gateway, call: Call, file_id: str) -> None:
    if not await gateway.content.delete(await find_name(gateway, call, Kind.FILE, file_id, PATH)):
        raise no_such(Kind.FILE)
    await call.respond(200, [], msgspec.json.encode({"id": file_id, "object": "file", "deleted": True}))


async def _give_content(gateway: Gateway, call: Call, file_id: str) -> None:
    call.expect_method("GET")
    stored = await _find(gateway, call, file_id)
    await call.start(
        200,
        [
            (b"content-type", b"application/octet-stream"),
            (b"content-length", b"%d" % stored.size),
            # It is what a tenant wrote: no browser is to take it for a page.
            (b"content-disposition", b"attachment"),
            (b"x-content-type-options", b"nosniff"),
        ],
    )
    sent = 0
    with contextlib.suppress(ChappeError):
        async for piece in gateway.content.pieces(stored.name):
            await call.send_body(piece, more=True)
            sent += len(piece)
    if sent == stored.size:
        await call.send_body(b"", more=False)
    else:
        # It was deleted meanwhile: whoever reads must not take what came for all of it.
        call.drop_client()


async def _upload(gateway: Gateway, call: Call) -> None:
    call.expect_method("POST")
    settings = gateway.settings
    visitor = await visit(gateway, call, PATH)
    expect_no_repeat_key(call)
    boundary = read_boundary(call.headers)
    kept_for_s = kept_for(visitor)
    if gateway.content.uploads.locked():
        raise Unavailable("too many files are being sent here; try again", code="overloaded")
    async with gateway.content.uploads:
        name = Name(owner_of(visitor), Kind.FILE, new_id())
        upload = _Upload(gateway.content, name, _Limits(settings.max_file_bytes, settings.max_body_bytes))
        await upload.begin(kept_for_s)
        try:
            form = await read_form(
                boundary, call.read_parts(settings.max_file_bytes + _FORM_BYTES, settings.upload_timeout_s), upload
            )
            stored = await upload.finish(form, _wanted_lifetime(form))
        except BaseException:
            gateway.settle_apart(upload.forget())
            raise
    await call.respond(200, [], msgspec.json.encode(show_file(stored, settings.region)))


async def _find(gateway: Gateway, call: Call, file_id: str) -> Stored:
    stored = await gateway.content.get(await find_name(gateway, call, Kind.FILE, file_id, PATH))
    if stored is None:
        raise no_such(Kind.FILE)
    return stored


class _Limits(NamedTuple):
    file_bytes: int
    line_bytes: int


class _Upload:
    """A file on its way into the store. Implements `Sink`."""

    def __init__(self, store: ContentStore, name: Name, limits: _Limits) -> None:
        self._store = store
        self._name = name
        self._limits = limits
        self._splitter = LineSplitter(limits.line_bytes)
        self._piece = bytearray()
        self._size = 0
        self._pieces = 0

    async def begin(self, kept_for_s: float) -> None:
        head = msgspec.json.encode(FileHead("", ""))
        await self._store.do(lambda db: self._store.objects.insert(db, self._name, head, kept_for_s))

    async def write(self, data: bytes) -> None:
        self._size += len(data)
        if self._size > self._limits.file_bytes:
            raise TooLarge(f"the file is over the limit of {self._limits.file_bytes} bytes", param="file")
        for line in self._splitter.feed(data):
            check_line(line, self._splitter.lines)
        self._piece += data
        while len(self._piece) >= PIECE_BYTES:
            await self._append(bytes(self._piece[:PIECE_BYTES]))
            del self._piece[:PIECE_BYTES]

    async def finish(self, form: Form, kept_for_s: float | None) -> Stored:
        """Raises `Invalid`."""
        for line in self._splitter.end():
            check_line(line, self._splitter.lines)
        if not self._splitter.lines:
            raise Invalid("the file is empty", code="empty_file", param="file")
        if self._piece:
            await self._append(bytes(self._piece))
        head = msgspec.json.encode(FileHead(form.filename or "", _purpose(form)))
        return await self._store.finish(self._name, head, kept_for_s)

    async def forget(self) -> None:
        """What came of it is of no use."""
        with contextlib.suppress(ChappeError):
            await self._store.delete(self._name)

    async def _append(self, piece: bytes) -> None:
        number = self._pieces
        await self._store.do(lambda db: self._store.objects.append(db, self._name, number, piece))
        self._pieces += 1


def _purpose(form: Form) -> str:
    for field in form.fields:
        if field not in ("purpose", _ANCHOR, _SECONDS):
            raise Invalid(f"unknown parameter `{field[:100]}`", code="unknown_parameter", param=field[:100])
    purpose = form.fields.get("purpose")
    if purpose is None:
        raise Invalid("`purpose` is missing", code="missing_required_parameter", param="purpose")
    if purpose not in _PURPOSES:
        raise Invalid("`purpose` must be batch: nothing else reads files here", code="invalid_value", param="purpose")
    return purpose


def _wanted_lifetime(form: Form) -> int | None:
    """In seconds: the client may have it kept for a shorter time than its organisation allows."""
    anchor, seconds = form.fields.get(_ANCHOR), form.fields.get(_SECONDS)
    if anchor is None and seconds is None:
        return None
    if anchor != "created_at":
        raise Invalid("`expires_after.anchor` must be created_at", code="invalid_value", param="expires_after.anchor")
    if seconds is None or not seconds.isdecimal() or not _MIN_EXPIRY_S <= int(seconds) <= _MAX_EXPIRY_S:
        raise Invalid(
            f"`expires_after.seconds` must be from {_MIN_EXPIRY_S} to {_MAX_EXPIRY_S}",
            code="invalid_value",
            param="expires_after.seconds",
        )
    return int(seconds)

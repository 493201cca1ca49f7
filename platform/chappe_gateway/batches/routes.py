"""What stands at and below `/v1/batches`."""

from functools import partial
from typing import Any, get_args

import msgspec
from msgspec import Struct

from chappe_gateway.batches import records
from chappe_gateway.batches.model import OVER, BatchHead, BatchObject, Endpoint, full_path, show_batch
from chappe_gateway.batches.records import Found
from chappe_gateway.content.asking import expect_no_repeat_key, find_name, kept_for, locate, no_such, owner_of, visit
from chappe_gateway.content.listing import read_after, read_page, show_page
from chappe_gateway.content.objects import Kind, Name, Page
from chappe_gateway.dialects.decoding import check_metadata, decode_body, refuse
from chappe_gateway.edge.call import Call
from chappe_gateway.edge.errors import unknown_path
from chappe_gateway.files.routes import PATH as FILES_PATH
from chappe_gateway.gateway import Gateway
from chappe_kernel.errors import Conflict, Invalid
from chappe_kernel.ids import new_id

PATH = "/v1/batches"
_REGION_HEADER = b"x-chappe-region"


class _Body(Struct, forbid_unknown_fields=True, kw_only=True):
    input_file_id: str
    endpoint: str
    completion_window: str
    metadata: dict[str, str] | None = None
    output_expires_after: Any = None


_decoder = msgspec.json.Decoder(_Body)
_ENDPOINTS: tuple[Endpoint, ...] = get_args(Endpoint)


async def serve_batches(gateway: Gateway, call: Call) -> None:
    """Raises what the client is to be told."""
    if not call.path.startswith("/"):
        # The router's mount also takes `/v1/batchesx`.
        raise unknown_path()
    match call.path.strip("/").split("/"):
        case [""] if call.method == "GET":
            await _list(gateway, call)
        case [""]:
            await _create(gateway, call)
        case [batch_id]:
            call.expect_method("GET")
            await _answer(gateway, call, await _find(gateway, call, batch_id))
        case [batch_id, "cancel"]:
            await _cancel(gateway, call, batch_id)
        case _:
            raise unknown_path()


async def _create(gateway: Gateway, call: Call) -> None:
    call.expect_method("POST")
    visitor = await visit(gateway, call, PATH)
    expect_no_repeat_key(call)
    body = await call.read_json_body(gateway.settings.max_body_bytes, gateway.settings.body_timeout_s)
    asked = decode_body(_decoder, body)
    check_metadata(asked.metadata)
    kept_for_s = kept_for(visitor)
    key = gateway.keys.stand_in(call.headers, visitor.view)
    source = locate(gateway, visitor, Kind.FILE, asked.input_file_id, FILES_PATH, param="input_file_id")
    head = BatchHead(
        endpoint=_endpoint(asked),
        input_file=source.id,
        output=new_id(),
        errors_file=new_id(),
        key=key,
        regions=tuple(value.decode("latin-1") for name, value in call.headers if name == _REGION_HEADER),
        metadata=asked.metadata,
        created_at=int(gateway.content.objects.now()),
    )
    if await gateway.content.get(source) is None:
        raise no_such(Kind.FILE, "input_file_id")
    objects, name = gateway.content.objects, Name(owner_of(visitor), Kind.BATCH, new_id())
    found = await gateway.content.do(lambda db: records.create(objects, db, name, head, kept_for_s))
    gateway.batches.wake.set()
    await _answer(gateway, call, found)


async def _cancel(gateway: Gateway, call: Call, batch_id: str) -> None:
    call.expect_method("POST")
    name = (await _find(gateway, call, batch_id)).name
    objects = gateway.content.objects
    now = objects.now()

    def cancel(head: BatchHead) -> BatchHead:
        return head if head.status == "cancelling" else head.become("cancelling", now)

    found = await gateway.content.do(lambda db: records.change(objects, db, name, cancel))
    if found is None:
        raise no_such(Kind.BATCH)
    if found.head.status in OVER:
        raise Conflict(f"the batch is {found.head.status} already", code="batch_over")
    gateway.batches.cancel(name)
    await _answer(gateway, call, found)


async def _list(gateway: Gateway, call: Call) -> None:
    asked = read_page(call.query, ("limit", "after"))
    visitor = await visit(gateway, call, PATH)
    owner, objects = owner_of(visitor), gateway.content.objects
    page = Page(asked.limit + 1, read_after(Kind.BATCH, asked, gateway.settings.region))
    stored = await gateway.content.page(owner, Kind.BATCH, page)
    found = [await gateway.content.do(partial(records.read, objects, name=one.name)) for one in stored]
    await call.respond(200, [], show_page([_show(gateway, one) for one in found if one is not None], asked.limit))


async def _find(gateway: Gateway, call: Call, batch_id: str) -> Found:
    name = await find_name(gateway, call, Kind.BATCH, batch_id, PATH)
    objects = gateway.content.objects
    found = None
    if gateway.content.exists():
        found = await gateway.content.do(lambda db: records.read(objects, db, name))
    if found is None:
        raise no_such(Kind.BATCH)
    return found


async def _answer(gateway: Gateway, call: Call, found: Found) -> None:
    await call.respond(200, [], msgspec.json.encode(_show(gateway, found)))


def _show(gateway: Gateway, found: Found) -> BatchObject:
    return show_batch(found.name.id, found.head, found.counts, gateway.settings.region)


def _endpoint(asked: _Body) -> Endpoint:
    if asked.output_expires_after is not None:
        refuse("output_expires_after")
    if asked.completion_window != "24h":
        raise Invalid("`completion_window` must be 24h", code="invalid_value", param="completion_window")
    for endpoint in _ENDPOINTS:
        if full_path(asked.endpoint) == endpoint:
            return endpoint
    raise Invalid(f"`endpoint` must be one of {', '.join(_ENDPOINTS)}", code="invalid_value", param="endpoint")

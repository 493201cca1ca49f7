"""The Responses API: with state where the organisation lets its regions keep content, and without it elsewhere."""

import msgspec

from chappe_gateway.admission import identify
from chappe_gateway.content.asking import find_name, no_such, public_id
from chappe_gateway.content.listing import read_page, show_page
from chappe_gateway.content.objects import Kind
from chappe_gateway.dialects.chat import generate
from chappe_gateway.dialects.counting import count_for
from chappe_gateway.dialects.kept_responses import begin_keeping, input_items, keeps, read_context, read_turn
from chappe_gateway.dialects.responses_answer import ResponsesTelling, responses_error
from chappe_gateway.dialects.responses_request import INCLUDABLE, decode_counted, decode_response
from chappe_gateway.edge.call import Call
from chappe_gateway.edge.errors import WrongMethod, unknown_path
from chappe_gateway.gateway import Gateway
from chappe_kernel.errors import Invalid

PATH = "/v1/responses"


async def serve_responses(gateway: Gateway, call: Call) -> None:
    """What stands at and below the path. Raises what the client is to be told."""
    call.error_answer = responses_error
    if not call.path.startswith("/"):
        # The router's mount also takes `/v1/responsesx`.
        raise unknown_path()
    match call.path.strip("/").split("/"):
        case [""]:
            call.path = PATH
            await serve_creation(gateway, call)
        case ["input_tokens"]:
            await _serve_count(gateway, call)
        case [response_id]:
            await _serve_kept(gateway, call, response_id)
        case [response_id, "input_items"]:
            await _list_input(gateway, call, response_id)
        case _:
            raise unknown_path()


async def serve_creation(gateway: Gateway, call: Call) -> None:
    """A new response. Raises what the client is to be told."""
    call.error_answer = responses_error
    call.expect_method("POST")
    visitor = await identify(gateway, call, PATH)
    body = await call.read_json_body(gateway.settings.max_body_bytes, gateway.settings.body_timeout_s)
    asked = decode_response(body)
    is_kept = keeps(visitor, asked)
    context = await read_context(gateway, visitor, asked.previous, PATH)
    asked = asked.after(context.messages)
    response_id = public_id(Kind.RESPONSE, call.id, call.region) if is_kept else None
    told = ResponsesTelling(call.public_id, int(call.started_at.timestamp()), asked, kept_as=response_id)
    if is_kept:
        await begin_keeping(gateway, call, visitor, asked, told=told, size=len(body))
    await generate(gateway, call, visitor, asked.chat, body=body, dialect=told, context_bytes=context.size)


async def _serve_count(gateway: Gateway, call: Call) -> None:
    call.expect_method("POST")
    visitor = await identify(gateway, call, PATH + "/input_tokens")
    body = await call.read_json_body(gateway.settings.max_body_bytes, gateway.settings.body_timeout_s)
    asked = decode_counted(body)
    keeps(visitor, asked)
    context = await read_context(gateway, visitor, asked.previous, PATH)
    chat = asked.after(context.messages).chat
    tokens = await count_for(
        gateway, call, visitor, model=chat.model, messages=chat.messages, extras=chat.extras, body=body
    )
    if tokens is not None:
        await call.respond(200, [], msgspec.json.encode({"object": "response.input_tokens", "input_tokens": tokens}))


async def _serve_kept(gateway: Gateway, call: Call, response_id: str) -> None:
    if call.method not in ("GET", "DELETE"):
        raise WrongMethod("GET, DELETE")
    read_page(call.query, (), includable=(INCLUDABLE,))
    name = await find_name(gateway, call, Kind.RESPONSE, response_id, PATH)
    if call.method == "GET":
        turn = await read_turn(gateway, name)
        await call.respond(200, [], bytes(turn.response))
        return
    if not await gateway.content.delete(name):
        raise no_such(Kind.RESPONSE)
    gone = {"id": response_id, "object": "response.deleted", "deleted": True}
    await call.respond(200, [], msgspec.json.encode(gone))


async def _list_input(gateway: Gateway, call: Call, response_id: str) -> None:
    call.expect_method("GET")
    asked = read_page(call.query, ("limit", "order", "after"))
    name = await find_name(gateway, call, Kind.RESPONSE, response_id, PATH)
    turn = await read_turn(gateway, name)
    items = input_items(name, turn.asked, gateway.settings.region)
    if asked.newest_first:
        items.reverse()
    places = {item["id"]: place for place, item in enumerate(items)}
    if asked.after is not None and asked.after not in places:
        raise Invalid("`after` is no id of this list's", code="invalid_value", param="after")
    begin = 0 if asked.after is None else places[asked.after] + 1
    await call.respond(200, [], show_page(items[begin : begin + asked.limit + 1], asked.limit))

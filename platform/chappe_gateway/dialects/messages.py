"""Anthropic's API: POST /v1/messages and POST /v1/messages/count_tokens."""

from functools import partial

import msgspec

from chappe_gateway.admission import identify
from chappe_gateway.dialects.chat import generate
from chappe_gateway.dialects.counting import count_for
from chappe_gateway.dialects.messages_answer import MessagesTelling, messages_error
from chappe_gateway.dialects.messages_request import decode_count, decode_messages
from chappe_gateway.edge.call import Call
from chappe_gateway.edge.errors import Headers, unknown_path
from chappe_gateway.gateway import Gateway
from chappe_kernel.errors import Invalid

PATH = "/v1/messages"
_COUNT = "/count_tokens"
VERSION_HEADER = b"anthropic-version"
_BETA = b"anthropic-beta"
_VERSIONS = (b"2023-06-01", b"2026-10-21")
"""Of what differs between them only `temperature`, `top_p` and `top_k` are served. The newer one lacks them; here they
work under both."""


async def serve_messages(gateway: Gateway, call: Call) -> None:
    """What stands at and below the path. Raises what the client is to be told."""
    speak_messages(call)
    match call.path.rstrip("/"):
        case "":
            await _serve_message(gateway, call)
        case "/count_tokens":
            await _serve_count(gateway, call)
        case _:
            raise unknown_path()


def speak_messages(call: Call) -> None:
    """Errors in Anthropic's shape, and the header by which its packages name a request."""
    call.error_answer = partial(messages_error, call.public_id)
    call.edge_headers = [*call.edge_headers, (b"request-id", call.public_id.encode())]


async def _serve_message(gateway: Gateway, call: Call) -> None:
    call.expect_method("POST")
    visitor = await identify(gateway, call, PATH)
    check_version(call.headers)
    body = await call.read_json_body(gateway.settings.max_body_bytes, gateway.settings.body_timeout_s)
    request = decode_messages(body)
    told = MessagesTelling(call.public_id, request.model, request.sampling.stop)
    await generate(gateway, call, visitor, request, body=body, dialect=told)


async def _serve_count(gateway: Gateway, call: Call) -> None:
    call.expect_method("POST")
    visitor = await identify(gateway, call, PATH + _COUNT)
    check_version(call.headers)
    body = await call.read_json_body(gateway.settings.max_body_bytes, gateway.settings.body_timeout_s)
    request = decode_count(body)
    tokens = await count_for(
        gateway, call, visitor, model=request.model, messages=request.messages, extras=request.extras, body=body
    )
    if tokens is not None:
        await call.respond(200, [], msgspec.json.encode({"input_tokens": tokens}))


def check_version(headers: Headers) -> None:
    """None is needed. A beta changes what an answer means, and none of them is served. Raises `Invalid`."""
    for name, value in headers:
        if name == VERSION_HEADER and value not in _VERSIONS:
            raise Invalid(
                f"this version of the API is not served; send {b' or '.join(_VERSIONS).decode()}",
                code="unsupported_parameter",
                param=VERSION_HEADER.decode(),
            )
        if name == _BETA and value.strip():
            raise Invalid("no beta is served", code="unsupported_parameter", param=_BETA.decode())

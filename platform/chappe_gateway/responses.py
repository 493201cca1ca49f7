"""POST /v1/responses, without state: nothing is stored, so nothing can be asked for again."""

from chappe_gateway.admission import identify
from chappe_gateway.call import Call
from chappe_gateway.chat import generate
from chappe_gateway.gateway import Gateway
from chappe_gateway.responses_answer import ResponsesTelling, responses_error
from chappe_gateway.responses_request import decode_response

PATH = "/v1/responses"


async def serve_responses(gateway: Gateway, call: Call, path: str = PATH, model: str | None = None) -> None:
    """Answer one request. `model`: the path's. Raises what the client is to be told."""
    call.error_answer = responses_error
    call.expect_method("POST")
    visitor = await identify(gateway, call, path)
    body = await call.read_json_body(gateway.settings.max_body_bytes, gateway.settings.body_timeout_s)
    asked = decode_response(body, model)
    told = ResponsesTelling(call.public_id, int(call.started_at.timestamp()), asked)
    await generate(gateway, call, visitor, asked.chat, body=body, dialect=told)

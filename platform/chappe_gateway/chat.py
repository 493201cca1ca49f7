"""POST /v1/chat/completions."""

from chappe_gateway.admission import Admitted, Bounds, Offer, admit, find_offer, identify
from chappe_gateway.call import Call
from chappe_gateway.engine_calls import count_prompt
from chappe_gateway.gateway import Gateway
from chappe_gateway.relay import Work, relay_answer, relay_stream
from chappe_gateway.requests import ChatRequest, decode_chat
from chappe_kernel.errors import Invalid
from chappe_kernel.wire.control import Listing
from chappe_kernel.wire.engine import CountRequest, GenerateRequest

PATH = "/v1/chat/completions"


async def serve_chat(gateway: Gateway, call: Call) -> None:
    """Answer one chat completion. Raises what the client is to be told."""
    call.expect_method("POST")
    visitor = await identify(gateway, call, PATH)
    body = await call.read_json_body(gateway.settings.max_body_bytes, gateway.settings.body_timeout_s)
    request = decode_chat(body)
    offer = find_offer(gateway, visitor, request.model, "chat")
    bounds = Bounds(
        prompt_tokens=min(offer.listing.context_tokens, len(body) + offer.listing.template_tokens),
        completion_tokens=_max_completion_tokens(request, offer.listing),
    )

    async def count() -> int | None:
        return await count_prompt(gateway, offer.deployment, CountRequest(messages=request.messages))

    admitted = await admit(gateway, call, visitor, offer, bounds=bounds, count_prompt=count)
    work = _work(call, request, offer, admitted)
    if request.stream:
        await relay_stream(gateway, call, admitted, work)
    else:
        await relay_answer(gateway, call, admitted, work)


def _work(call: Call, request: ChatRequest, offer: Offer, admitted: Admitted) -> Work:
    def make_request(attempt: int) -> GenerateRequest:
        return GenerateRequest(
            request_id=call.public_id,
            attempt=attempt,
            model=offer.listing.name,
            messages=request.messages,
            max_prompt_tokens=admitted.bounds.prompt_tokens,
            max_completion_tokens=admitted.bounds.completion_tokens,
            max_tokens_given=request.max_tokens is not None,
            created=int(call.started_at.timestamp()),
            sampling=request.sampling,
            stream=request.stream,
            include_usage=request.include_usage,
            cache_scope=admitted.visitor.facts.tenant_id.hex,
        )

    return Work("generate", make_request, include_usage=request.include_usage)


def _max_completion_tokens(request: ChatRequest, listing: Listing) -> int:
    highest = min(listing.max_output_tokens, listing.context_tokens)
    if request.max_tokens is None:
        return min(listing.default_output_tokens, highest)
    if request.max_tokens > highest:
        raise Invalid(
            f"`{request.max_tokens_param}` is {request.max_tokens}; this model gives at most {highest}",
            code="integer_above_max_value",
            param=request.max_tokens_param,
        )
    return request.max_tokens

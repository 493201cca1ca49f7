"""POST /v1/chat/completions, and the one way in which text is generated, whatever API asked for it."""

from chappe_gateway.access.rights import Visitor
from chappe_gateway.admission import Admitted, Bounds, Offer, RunsElsewhere, admit, find_offer, identify
from chappe_gateway.dialects.dialect import Dialect
from chappe_gateway.dialects.extras import NO_EXTRAS, prompt_allowance, shown_tools
from chappe_gateway.dialects.openai_request import ChatRequest, decode_chat
from chappe_gateway.edge.call import Call
from chappe_gateway.engines.engine_calls import MakeRequest, count_prompt, sealed_slip
from chappe_gateway.engines.relay import Work, relay_answer, relay_stream
from chappe_gateway.gateway import Gateway
from chappe_gateway.peers.forwarding import forward
from chappe_kernel.errors import Invalid
from chappe_kernel.wire.control import Listing
from chappe_kernel.wire.engine import CountRequest, GenerateRequest

PATH = "/v1/chat/completions"


async def serve_chat(gateway: Gateway, call: Call, path: str = PATH, model: str | None = None) -> None:
    """Answer one chat completion. `model`: the path's. Raises what the client is to be told."""
    call.expect_method("POST")
    visitor = await identify(gateway, call, path)
    body = await call.read_json_body(gateway.settings.max_body_bytes, gateway.settings.body_timeout_s)
    await generate(gateway, call, visitor, decode_chat(body, model), body=body)


async def generate(
    gateway: Gateway,
    call: Call,
    visitor: Visitor,
    request: ChatRequest,
    *,
    body: bytes,
    dialect: Dialect | None = None,
    context_bytes: int = 0,
) -> None:
    """Admit it, run it, tell its answer in the dialect. `context_bytes`: how much of its messages is not in the body.
    Raises what the client is to be told."""
    try:
        offer = find_offer(gateway, visitor, request.model, "chat")
    except RunsElsewhere as elsewhere:
        failure = None if dialect is None else dialect.stream().failure
        await forward(gateway, call, visitor, elsewhere, body=body, failure=failure)
        return
    bounds = _bounds(gateway, request, offer, body, context_bytes)

    async def count() -> int | None:
        asked = CountRequest(messages=request.messages, prompt=request.prompt, tools=shown_tools(request.extras))
        return await count_prompt(gateway, offer.deployment, asked)

    admitted = await admit(gateway, call, visitor, offer, body=body, bounds=bounds, count_prompt=count)
    make_request = _make_request(gateway, call, request, admitted)
    work = Work("generate", make_request, include_usage=request.include_usage, dialect=dialect)
    if request.stream:
        await relay_stream(gateway, call, admitted, work)
    else:
        await relay_answer(gateway, call, admitted, work)


def _bounds(gateway: Gateway, request: ChatRequest, offer: Offer, body: bytes, context_bytes: int) -> Bounds:
    """Raises `Invalid` naming the parameter, also for what this deployment's engine cannot do."""
    listing, allowance = offer.listing, 0
    if request.extras is not None:
        gateway.health.expect_features(offer.deployment, request.extras.needs)
        allowance = prompt_allowance(request.extras, request.messages)
    return Bounds(
        prompt_tokens=min(listing.context_tokens, len(body) + context_bytes + listing.template_tokens + allowance),
        completion_tokens=request.choices * _max_completion_tokens(request, listing),
    )


def _make_request(gateway: Gateway, call: Call, request: ChatRequest, admitted: Admitted) -> MakeRequest:
    slip = sealed_slip(gateway, call, admitted)
    extras = NO_EXTRAS if request.extras is None else request.extras

    def make_request(attempt: int) -> GenerateRequest:
        return GenerateRequest(
            request_id=call.public_id,
            attempt=attempt,
            model=admitted.offer.listing.name,
            messages=request.messages,
            max_prompt_tokens=admitted.bounds.prompt_tokens,
            max_completion_tokens=admitted.bounds.completion_tokens // extras.n,
            max_tokens_given=request.max_tokens is not None,
            created=int(call.started_at.timestamp()),
            sampling=request.sampling,
            stream=request.stream,
            include_usage=request.include_usage,
            cache_scope=admitted.visitor.facts.tenant_id.hex,
            slip=slip,
            prompt=request.prompt,
            calling=extras.calling,
            response_format=extras.response_format,
            n=extras.n,
            logprobs=extras.logprobs,
        )

    return make_request


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

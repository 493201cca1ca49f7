"""POST /v1/embeddings."""

from chappe_gateway.admission import Bounds, RunsElsewhere, admit, find_offer, identify
from chappe_gateway.dialects.openai_request import decode_embeddings
from chappe_gateway.edge.call import Call
from chappe_gateway.engines.engine_calls import count_prompt, sealed_slip
from chappe_gateway.engines.relay import Work, relay_answer
from chappe_gateway.gateway import Gateway
from chappe_gateway.peers.forwarding import forward
from chappe_kernel.wire.engine import CountRequest, EmbedRequest

PATH = "/v1/embeddings"


async def serve_embeddings(gateway: Gateway, call: Call, path: str = PATH, model: str | None = None) -> None:
    """Answer one request for embeddings. `model`: the path's. Raises what the client is to be told."""
    call.expect_method("POST")
    visitor = await identify(gateway, call, path)
    body = await call.read_json_body(gateway.settings.max_body_bytes, gateway.settings.body_timeout_s)
    request = decode_embeddings(body, model)
    try:
        offer = find_offer(gateway, visitor, request.model, "embeddings")
    except RunsElsewhere as elsewhere:
        await forward(gateway, call, visitor, elsewhere, body=body)
        return
    # Each input is a prompt of its own, with its own prefix.
    inputs = len(request.inputs)
    listing = offer.listing
    bounds = Bounds(
        prompt_tokens=min(inputs * listing.context_tokens, len(body) + inputs * listing.template_tokens),
        completion_tokens=0,
    )

    async def count() -> int | None:
        return await count_prompt(gateway, offer.deployment, CountRequest(inputs=request.inputs))

    admitted = await admit(gateway, call, visitor, offer, body=body, bounds=bounds, count_prompt=count)

    slip = sealed_slip(gateway, call, admitted)

    def make_request(attempt: int) -> EmbedRequest:
        return EmbedRequest(
            request_id=call.public_id,
            attempt=attempt,
            model=listing.name,
            inputs=request.inputs,
            max_prompt_tokens=admitted.bounds.prompt_tokens,
            encoding_format=request.encoding_format,
            slip=slip,
            dimensions=request.dimensions,
        )

    await relay_answer(gateway, call, admitted, Work("embed", make_request))
